package calltree

import (
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// Values are the values of one partition's calls, on one side or, to
// compare, on two, with links from a call to its children that have a value.
type Values struct {
	View  *symdb.View
	sides int
	Self  [2][]int64 // by side and call
	total [2][]int64 // the same, of two sides; of one, totals are sizes
	Ranks []Rank     // by call
	names []int32    // string to name in the result, plus one

	// Memory of those that look for the largest calls: at has the number of a call among
	// the nodes of the result, or 0 or -1 while partials are merged, see mergeTopN.
	ranked []int64
	at     []int32
}

// A Rank is all that a search for the largest calls looks at, in one place.
type Rank struct {
	size        int64 // the total, or the larger side's
	Child, Next int32 // first child, next sibling; 0 for none
}

// Totals are a call's, of each side.
func (c *Values) Totals(i int32) [2]int64 {
	if c.sides == 1 {
		return [2]int64{c.Ranks[i].size}
	}
	return [2]int64{c.total[0][i], c.total[1][i]}
}

// Selves are a call's own values, of each side.
func (c *Values) Selves(i int32) (v [2]int64) {
	for s := range c.sides {
		v[s] = c.Self[s][i]
	}
	return v
}

var callPool = sync.Pool{New: func() any { return new(Values) }}

// New returns calls without values. The caller puts them back into
// callPool, by free.
func New(v *symdb.View, sides int) *Values {
	c := callPool.Get().(*Values)
	c.View, c.sides = v, sides
	n := len(v.Calls)
	for s := range sides {
		c.Self[s] = reuse.Zeroed(c.Self[s], n)
	}
	c.Ranks = reuse.Zeroed(c.Ranks, n)
	c.names = reuse.Zeroed(c.names, len(v.Strings))
	return c
}

// Free gives the memory back for later values.
func (c *Values) Free() {
	c.View = nil
	budget.PutBack(&callPool, c, cap(c.Ranks)*76)
}

// Bytes is the memory that the values take, with what they refer to.
func (c *Values) Bytes() int64 { return SizeOf(symdb.SizeOf(c.View), c.sides) }

// SizeOf is the memory of values for a partition of a size.
func SizeOf(size symdb.Size, sides int) int64 {
	perCall := 8 + 16 + 12 + 16*int64(sides) // the call itself, rank, memory of largest, values
	return size.Calls*perCall + size.Strings*(4+16+8+32) + size.Nodes*12
}

// Sum adds up the totals, ranks the calls and links them, in one backward pass.
func (c *Values) Sum() error {
	if c.sides > 1 {
		return c.sumSides()
	}
	calls, ranks, self := c.View.Calls, c.Ranks, c.Self[0]
	var signs int64 // a sum of two that are not negative is, if it overflows
	for i := len(calls) - 1; i > 0; i-- {
		r := &ranks[i]
		r.size += self[i]
		if signs |= r.size | self[i]; r.size == 0 {
			continue
		}
		up := &ranks[calls[i].Parent]
		up.size += r.size
		signs |= up.size
		r.Next, up.Child = up.Child, int32(i)
	}
	ranks[0].size += self[0]
	if signs|ranks[0].size|self[0] < 0 {
		return storeerr.ErrOverflow
	}
	return nil
}

func (c *Values) sumSides() error {
	calls, ranks := c.View.Calls, c.Ranks
	var signs int64
	for s := range c.total {
		c.total[s] = append(c.total[s][:0], c.Self[s]...)
		for _, v := range c.Self[s] {
			signs |= v
		}
	}
	left, right := c.total[0], c.total[1]
	for i := len(calls) - 1; i > 0; i-- {
		size := max(left[i], right[i])
		if size == 0 {
			continue
		}
		p := calls[i].Parent
		r, up := &ranks[i], &ranks[p]
		r.size, r.Next, up.Child = size, up.Child, int32(i)
		left[p] += left[i]
		right[p] += right[i]
		signs |= left[p] | right[p]
	}
	ranks[0].size = max(left[0], right[0])
	if signs < 0 {
		return storeerr.ErrOverflow
	}
	return nil
}

// CutByFunctions returns the tree that profile.TruncateFunctions makes of the calls, nil
// if maxNodes are too few for it.
func (c *Values) CutByFunctions(maxNodes int64) *profile.DiffTree {
	cut, _ := profile.TruncateFunctions(callValues{c}, maxNodes)
	return cut
}

// CallTree shows the values, which are summed up, as a profile.CallTree.
func (c *Values) CallTree() profile.CallTree { return callValues{c} }

// A callValues shows values as a profile.CallTree.
type callValues struct{ *Values }

func (c callValues) Len() int { return len(c.Ranks) }
func (c callValues) Call(i int32) (caller, name int32) {
	k := c.View.Calls[i]
	return int32(k.Parent), int32(k.Name)
}
func (c callValues) Next(i int32) (callee, sibling int32) { return c.Ranks[i].Child, c.Ranks[i].Next }
func (c callValues) Self(i int32) [2]int64                { return c.Selves(i) }
func (c callValues) Total(i int32) [2]int64               { return c.Totals(i) }
func (c callValues) Names() []string                      { return c.View.Strings }

// Left is the left side of a comparison, which is not used any more.
func Left(d *profile.DiffTree) *profile.Tree {
	t := &profile.Tree{Names: d.Names, Nodes: make([]profile.Node, len(d.Nodes)), Rest: d.Rest, Functions: d.Functions}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		t.Nodes[i] = profile.Node{Parent: n.Parent, Name: n.Name, Self: n.Self, Total: n.Total}
	}
	budget.PutBack(&diffNodes, &diffNodeList{d.Nodes}, cap(d.Nodes)*40)
	return t
}
