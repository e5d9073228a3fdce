package store

import (
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// callValues are the values of one partition's calls, on one side or, to
// compare, on two, with links from a call to its children that have a value.
type callValues struct {
	view  *symdb.View
	sides int
	self  [2][]int64 // by side and call
	total [2][]int64 // the same, of two sides; of one, totals are sizes
	ranks []rank     // by call
	names []int32    // string to name in the result, plus one

	// Memory of those that look for the largest calls. at has a call's number among
	// the nodes; mergeLargest says what else.
	ranked []int64
	at     []int32
	taken  []int32
	rest   [][2]int64
	cut    profile.Cut
}

// A rank is all that a search for the largest calls looks at, in one place.
type rank struct {
	size        int64 // the total, or the larger side's
	child, next int32 // first child, next sibling; 0 for none
}

// totals are a call's, of each side.
func (c *callValues) totals(i int32) [2]int64 {
	if c.sides == 1 {
		return [2]int64{c.ranks[i].size}
	}
	return [2]int64{c.total[0][i], c.total[1][i]}
}

// selves are a call's own values, of each side.
func (c *callValues) selves(i int32) (v [2]int64) {
	for s := range c.sides {
		v[s] = c.self[s][i]
	}
	return v
}

var callPool = sync.Pool{New: func() any { return new(callValues) }}

// newCallValues returns calls without values. The caller puts them back into
// callPool, by free.
func newCallValues(v *symdb.View, sides int) *callValues {
	c := callPool.Get().(*callValues)
	c.view, c.sides = v, sides
	n := len(v.Calls)
	for s := range sides {
		c.self[s] = reuse.Zeroed(c.self[s], n)
	}
	c.ranks = reuse.Zeroed(c.ranks, n)
	c.names = reuse.Zeroed(c.names, len(v.Strings))
	return c
}

func (c *callValues) free() {
	c.view = nil
	budget.PutBack(&callPool, c, cap(c.ranks)*76)
}

// bytes is the memory that the values take, with what they refer to.
func (c *callValues) bytes() int64 { return callBytes(symdb.SizeOf(c.view), c.sides) }

// callBytes is the memory of the values of all calls of a part.
func callBytes(size symdb.Size, sides int) int64 {
	perCall := 8 + 16 + 12 + 16*int64(sides) // the call itself, rank, memory of largest, values
	return size.Calls*perCall + size.Strings*(4+16+8+32) + size.Nodes*12
}

// sum adds up the totals, ranks the calls and links them, in one backward pass.
func (c *callValues) sum() error {
	if c.sides > 1 {
		return c.sumSides()
	}
	calls, ranks, self := c.view.Calls, c.ranks, c.self[0]
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
		r.next, up.child = up.child, int32(i)
	}
	ranks[0].size += self[0]
	if signs|ranks[0].size|self[0] < 0 {
		return storeerr.Overflow()
	}
	return nil
}

func (c *callValues) sumSides() error {
	calls, ranks := c.view.Calls, c.ranks
	var signs int64
	for s := range c.total {
		c.total[s] = append(c.total[s][:0], c.self[s]...)
		for _, v := range c.self[s] {
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
		r.size, r.next, up.child = size, up.child, int32(i)
		left[p] += left[i]
		right[p] += right[i]
		signs |= left[p] | right[p]
	}
	ranks[0].size = max(left[0], right[0])
	if signs < 0 {
		return storeerr.Overflow()
	}
	return nil
}

// collapse adds parts up into one, whose view has calls and strings alone. The
// parts are free afterwards.
func collapse(parts []*callValues, sides int) (*callValues, error) {
	names := map[uint64]uint32{symdb.HashText(""): 1}
	v := &symdb.View{Strings: []string{""}, Hashes: []uint64{symdb.HashText("")}, Calls: make([]symdb.Call, 1)}
	var known symdb.Pairs
	var self [2][]int64
	for s := range sides {
		self[s] = []int64{0}
	}
	for _, p := range parts {
		at := make([]uint32, len(p.view.Calls))
		for i, k := range p.view.Calls {
			if p.ranks[i].size == 0 {
				continue
			}
			if i > 0 {
				if p.names[k.Name] == 0 {
					hash := p.view.Hashes[k.Name]
					if names[hash] == 0 {
						v.Strings, v.Hashes = append(v.Strings, p.view.Strings[k.Name]), append(v.Hashes, hash)
						names[hash] = uint32(len(v.Strings))
					}
					p.names[k.Name] = int32(names[hash])
				}
				parent, name := at[k.Parent], uint32(p.names[k.Name]-1)
				var ok bool
				if at[i], ok = known.Get(parent, name); !ok {
					at[i] = uint32(len(v.Calls))
					known.Put(parent, name, at[i])
					v.Calls = append(v.Calls, symdb.Call{Parent: parent, Name: name})
					for s := range sides {
						self[s] = append(self[s], 0)
					}
				}
			}
			for s := range sides {
				self[s][at[i]] += p.self[s][i]
			}
		}
		p.free()
	}
	c := newCallValues(v, sides)
	for s := range sides {
		copy(c.self[s], self[s])
	}
	return c, c.sum()
}

// tree makes a tree of the calls that have a value.
func (c *callValues) tree() *profile.Tree {
	return left(c.largest(int64(len(c.ranks))))
}

// left is the left side of a comparison, which is not used any more.
func left(d *profile.DiffTree) *profile.Tree {
	t := &profile.Tree{Names: d.Names, Nodes: make([]profile.Node, len(d.Nodes)), Rest: d.Rest, Functions: d.Functions}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		t.Nodes[i] = profile.Node{Parent: n.Parent, Name: n.Name, Self: n.Self, Total: n.Total}
	}
	budget.PutBack(&diffNodes, &diffNodeList{d.Nodes}, cap(d.Nodes)*40)
	return t
}
