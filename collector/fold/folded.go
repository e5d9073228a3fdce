package fold

import (
	"bufio"
	"cmp"
	"io"
	"slices"
	"strconv"
)

// WriteFolded writes a line per stacktrace with its value, as stackcollapse-perf.pl does:
// in the order of the lines' bytes without their values, and with names unchanged.
func (s *Stacks) WriteFolded(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	f := newOrder(s)
	f.write(b, 0, nil)
	return b.Flush() // returns errors of all writes
}

// An order is the order of the lines. Stacktraces are compared as text, in which a
// function's name may end at the end of the line or at a semicolon. So each node is at
// two places among its siblings: its own line at that of its name, the lines of its
// callees at that of its name with a semicolon. Names have no semicolons.
type order struct {
	stacks *Stacks
	first  []int32 // of a node's children in nodes; a node's end where the next one begins
	nodes  []int32
	ranks  [2][]int32 // by name: of the name, and of the name with a semicolon
}

func newOrder(s *Stacks) *order {
	t := s.Tree
	f := &order{stacks: s, first: make([]int32, len(t.Nodes)+1), nodes: make([]int32, max(len(t.Nodes)-1, 0))}
	for i := 1; i < len(t.Nodes); i++ {
		f.first[t.Nodes[i].Parent+1]++
	}
	for i := range len(t.Nodes) {
		f.first[i+1] += f.first[i]
	}
	next := slices.Clone(f.first)
	for i := 1; i < len(t.Nodes); i++ {
		parent := t.Nodes[i].Parent
		f.nodes[next[parent]] = int32(i)
		next[parent]++
	}
	type text struct {
		name      int32
		semicolon bool
	}
	texts := make([]text, 0, 2*len(t.Names))
	for i := range t.Names {
		texts = append(texts, text{int32(i), false}, text{int32(i), true})
	}
	slices.SortFunc(texts, func(a, b text) int {
		return compare(t.Names[a.name], a.semicolon, t.Names[b.name], b.semicolon)
	})
	for i := range f.ranks {
		f.ranks[i] = make([]int32, len(t.Names))
	}
	for rank, x := range texts {
		f.ranks[toInt(x.semicolon)][x.name] = int32(rank)
	}
	return f
}

// compare compares two names as bytes, of which each may have a semicolon at its end.
func compare(a string, aSemicolon bool, b string, bSemicolon bool) int {
	n := min(len(a), len(b))
	if c := cmp.Compare(a[:n], b[:n]); c != 0 {
		return c
	}
	return cmp.Compare(after(a, n, aSemicolon), after(b, n, bSemicolon))
}

// after returns what follows the first n bytes of a name, as a number in the order of
// bytes: 0 where nothing follows.
func after(s string, n int, semicolon bool) int {
	switch {
	case n < len(s):
		return 1 + int(s[n])
	case semicolon:
		return 1 + ';'
	}
	return 0
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// An item is a node's own line, or the lines of its callees.
type item struct {
	rank, node int32
	callees    bool
}

// write writes the lines of a node's children. stack is what they begin with.
func (f *order) write(b *bufio.Writer, node int32, stack []byte) {
	t := f.stacks.Tree
	children := f.nodes[f.first[node]:f.first[node+1]]
	items := make([]item, 0, len(children)+1)
	for _, c := range children {
		n := &t.Nodes[c]
		if n.Self != 0 {
			items = append(items, item{f.ranks[0][n.Name], c, false})
		}
		if f.first[c] < f.first[c+1] {
			items = append(items, item{f.ranks[1][n.Name], c, true})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.rank, b.rank) })
	for _, i := range items {
		n := &t.Nodes[i.node]
		line := append(stack, t.Names[n.Name]...)
		if i.callees {
			f.write(b, i.node, append(line, ';'))
			continue
		}
		// The writer keeps its first error for Flush.
		_, _ = b.Write(line)
		_ = b.WriteByte(' ')
		_, _ = b.Write(strconv.AppendInt(b.AvailableBuffer(), n.Self, 10))
		_ = b.WriteByte('\n')
	}
}
