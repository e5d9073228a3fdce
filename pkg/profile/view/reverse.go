package view

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"github.com/flameline/flameline/pkg/profile"
)

// reverse returns a tree's stacktraces in the reverse order, with up to maxNodes nodes
// besides the root and rest nodes (0: all): the largest. Values of the root stay there.
//
// A reversed tree can have as many nodes as the tree has calls times their depth. So only
// what is returned is made: the largest node that is left is divided by caller, until there
// are enough. No node is larger than its parent, so these are the largest of all.
func reverse(t *profile.DiffTree, maxDepth, maxNodes int64, room func(nodes int64) error) (*profile.DiffTree, error) {
	r := reverser{in: t, out: &profile.DiffTree{Names: t.Names}}
	r.out.Nodes = append(r.out.Nodes, profile.DiffNode{Parent: -1, Self: t.Nodes[0].Self, SelfRight: t.Nodes[0].SelfRight})
	if room != nil {
		if err := room(int64(len(t.Nodes))); err != nil { // for items
			return nil, err
		}
	}
	items := make([]item, 0, len(t.Nodes))
	for i := range t.Nodes[1:] {
		if n := &t.Nodes[i+1]; n.Self != 0 || n.SelfRight != 0 {
			items = append(items, item{int32(i + 1), [2]int64{n.Self, n.SelfRight}})
		}
	}
	r.divide(0, 0, items)
	fits := func() bool {
		return maxNodes <= 0 || r.shown < maxNodes && r.shown+r.partial < profile.Room(maxNodes)
	}
	for left := 0; len(r.groups) > 0 && fits(); left-- {
		if left == 0 && room != nil {
			if err := room(roomStep); err != nil {
				return nil, err
			}
			left = roomStep
		}
		r.show(heap.Pop(&r.groups).(group), maxDepth)
	}
	r.foldRest()
	r.out.Sum()
	return r.out, nil
}

// An item is the value of stacktraces that have been reversed down to a call, which is the
// next to be shown.
type item struct {
	call  int32
	value [2]int64
}

// A group is a node that is not made yet: items whose calls are of one function.
type group struct {
	parent int32 // node of out
	depth  int64
	size   int64 // total of the larger side
	name   string
	items  []item
}

type reverser struct {
	in, out *profile.DiffTree
	groups  groupHeap
	pending []int32 // groups by parent
	shown   int64   // nodes besides the root
	partial int64   // nodes that have groups
}

// divide makes groups of items, below a node. It reorders them.
func (r *reverser) divide(parent int32, depth int64, items []item) {
	name := func(i item) int32 { return r.in.Nodes[i.call].Name }
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(name(a), name(b)), cmp.Compare(a.call, b.call))
	})
	for int(parent) >= len(r.pending) {
		r.pending = append(r.pending, 0)
	}
	if len(items) > 0 {
		r.partial++
	}
	for first := 0; first < len(items); {
		end := first
		var total [2]int64
		merged := items[first:first]
		for ; end < len(items) && name(items[end]) == name(items[first]); end++ {
			i := items[end]
			total[0] += i.value[0]
			total[1] += i.value[1]
			// Stacktraces that have come to the same call go on alike.
			if n := len(merged); n > 0 && merged[n-1].call == i.call {
				merged[n-1].value[0] += i.value[0]
				merged[n-1].value[1] += i.value[1]
				continue
			}
			merged = append(merged, i)
		}
		text := r.in.Names[name(merged[0])]
		heap.Push(&r.groups, group{parent, depth + 1, max(total[0], total[1]), text, merged})
		r.pending[parent]++
		first = end
	}
}

// show makes a node of a group, and groups of its callers.
func (r *reverser) show(g group, maxDepth int64) {
	if r.pending[g.parent]--; r.pending[g.parent] == 0 {
		r.partial--
	}
	at := int32(len(r.out.Nodes))
	n := profile.DiffNode{Parent: g.parent, Name: r.in.Nodes[g.items[0].call].Name}
	r.shown++
	var deeper [2]int64
	callers := g.items[:0]
	for _, i := range g.items {
		up := r.in.Nodes[i.call].Parent
		switch {
		case up == 0:
			n.Self += i.value[0]
			n.SelfRight += i.value[1]
		case maxDepth > 0 && g.depth >= maxDepth:
			deeper[0] += i.value[0]
			deeper[1] += i.value[1]
		default:
			callers = append(callers, item{up, i.value})
		}
	}
	r.out.Nodes = append(r.out.Nodes, n)
	if deeper != [2]int64{} {
		r.out.Nodes = append(r.out.Nodes, profile.DiffNode{Parent: at, Name: r.name(Deeper), Self: deeper[0], SelfRight: deeper[1]})
		r.shown++
	}
	r.divide(at, g.depth, callers)
}

// name returns the index of a name that the input need not have.
func (r *reverser) name(text string) int32 {
	i := slices.Index(r.out.Names, text)
	if i < 0 {
		i = len(r.out.Names)
		r.out.Names = append(slices.Clip(r.out.Names), text)
	}
	return int32(i)
}

// foldRest makes rest nodes of the groups that are left.
func (r *reverser) foldRest() {
	if r.out.Rest = r.in.Rest; len(r.groups) == 0 {
		return
	}
	if r.out.Rest == 0 {
		r.out.Rest = r.name(profile.RestName(func(name string) bool { return slices.Contains(r.in.Names, name) }))
	}
	rests := map[int32]int32{}
	for _, g := range r.groups {
		at, ok := rests[g.parent]
		if !ok {
			at = int32(len(r.out.Nodes))
			rests[g.parent] = at
			r.out.Nodes = append(r.out.Nodes, profile.DiffNode{Parent: g.parent, Name: r.out.Rest})
		}
		for _, i := range g.items {
			r.out.Nodes[at].Self += i.value[0]
			r.out.Nodes[at].SelfRight += i.value[1]
		}
	}
}

// A groupHeap has the largest group first; of equal ones that of the lower depth, then by
// name and by the order of parents.
type groupHeap []group

func (h groupHeap) Len() int { return len(h) }
func (h groupHeap) Less(a, b int) bool {
	x, y := &h[a], &h[b]
	return cmp.Or(cmp.Compare(y.size, x.size), cmp.Compare(x.depth, y.depth), strings.Compare(x.name, y.name), cmp.Compare(x.parent, y.parent)) < 0
}
func (h groupHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *groupHeap) Push(x any)   { *h = append(*h, x.(group)) }
func (h *groupHeap) Pop() any {
	old := *h
	g := old[len(old)-1]
	*h = old[:len(old)-1]
	return g
}
