package profile

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Dot returns the call graph as graphviz text: one box per function with its self and
// cumulative value, one edge per caller and callee. As in pprof's graphs, recursion
// counts once, and a function's call of itself has no edge. The graph has the maxNodes
// functions with the largest cumulative value; 0 means all.
func (t *Tree) Dot(unit string, maxNodes int) []byte {
	g := newCallGraph(t)
	order := make([]int32, 0, len(g.cum))
	for i, v := range g.cum {
		if v > 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(g.cum[b], g.cum[a]), cmp.Compare(t.Names[a], t.Names[b]))
	})
	if maxNodes > 0 && len(order) > maxNodes {
		order = order[:maxNodes]
	}
	total := t.Total()
	var b bytes.Buffer
	fmt.Fprintf(&b, "digraph %q {\n", "profile")
	fmt.Fprintf(&b, "label=%q;\nnode [shape=box];\n", "total "+strconv.FormatInt(total, 10)+" "+unit)
	number := make(map[int32]int, len(order))
	for i, f := range order {
		number[f] = i + 1
		size := 8
		if total > 0 {
			size += int(32 * float64(g.self[f]) / float64(total))
		}
		fmt.Fprintf(&b, "N%d [label=%s, fontsize=%d];\n", i+1,
			quoteDot(fmt.Sprintf("%s\n%d (%s) of %d (%s)", t.Names[f], g.self[f], share(g.self[f], total), g.cum[f], share(g.cum[f], total))), size)
	}
	edges := make([]call, 0, len(g.edges))
	for e := range g.edges {
		if number[e.from] > 0 && number[e.to] > 0 {
			edges = append(edges, e)
		}
	}
	slices.SortFunc(edges, func(x, y call) int {
		return cmp.Or(cmp.Compare(g.edges[y], g.edges[x]), cmp.Compare(number[x.from], number[y.from]), cmp.Compare(number[x.to], number[y.to]))
	})
	for _, e := range edges {
		fmt.Fprintf(&b, "N%d -> N%d [label=%q];\n", number[e.from], number[e.to], strconv.FormatInt(g.edges[e], 10))
	}
	b.WriteString("}\n")
	return b.Bytes()
}

type call struct{ from, to int32 }

// callGraph holds values by function, an index into Tree.Names.
type callGraph struct {
	self, cum []int64
	edges     map[call]int64
}

func newCallGraph(t *Tree) *callGraph {
	g := &callGraph{self: make([]int64, len(t.Names)), cum: make([]int64, len(t.Names)), edges: map[call]int64{}}
	onPath := make([]int, len(t.Names))
	edgeOnPath := map[call]int{}
	var path []int32
	leave := func(level int) {
		for len(path) > level {
			n := len(path) - 1
			onPath[path[n]]--
			if n > 0 && path[n-1] != path[n] {
				edgeOnPath[call{path[n-1], path[n]}]--
			}
			path = path[:n]
		}
	}
	t.Walk(func(level int, n *Node, _ string) {
		if level == 0 {
			return
		}
		leave(level - 1)
		g.self[n.Name] += n.Self
		if onPath[n.Name] == 0 {
			g.cum[n.Name] += n.Total
		}
		onPath[n.Name]++
		if len(path) > 0 && path[len(path)-1] != n.Name {
			e := call{path[len(path)-1], n.Name}
			if edgeOnPath[e] == 0 {
				g.edges[e] += n.Total
			}
			edgeOnPath[e]++
		}
		path = append(path, n.Name)
	})
	return g
}

// quoteDot quotes a graphviz string, in which only quotes and backslashes are
// special and \n starts a line.
func quoteDot(s string) string {
	b := []byte{'"'}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
