package store

import "sync"

// callValues are the values of one partition's calls, on one side or, to
// compare, on two, with links from a call to its children that have a value.
type callValues struct {
	view        *view
	sides       int
	self, total [2][]int64 // by side and call
	size        []int64    // by call: the total, or the larger of both; what calls are ranked by
	child, next []int32    // first child, next sibling; 0 for none
	names       []int32    // string to name in the result, plus one
}

var callPool = sync.Pool{New: func() any { return new(callValues) }}

// newCallValues returns calls without values. The caller puts them back into
// callPool, by free.
func newCallValues(v *view, sides int) *callValues {
	c := callPool.Get().(*callValues)
	c.view, c.sides = v, sides
	n := len(v.calls)
	for s := range sides {
		c.self[s], c.total[s] = zeroed(c.self[s], n), zeroed(c.total[s], n)
	}
	c.names = zeroed(c.names, len(v.strings))
	return c
}

func (c *callValues) free() {
	c.view, c.size = nil, nil
	callPool.Put(c)
}

// bytes is the memory that the values take, with what they refer to.
func (c *callValues) bytes() int64 {
	perCall := 8 + 8 + 16*int64(c.sides) // the call itself, links, values
	if c.sides > 1 {
		perCall += 8
	}
	return int64(len(c.view.calls))*perCall + int64(len(c.view.strings))*(4+16+32) + int64(len(c.view.nodes))*12
}

func zeroed[T int32 | int64](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/8)
	}
	s = s[:n]
	clear(s)
	return s
}

// add adds the values of nodes to their calls' own values on a side.
func (c *callValues) add(side int, sums []int64) {
	self, callOf := c.self[side], c.view.callOf
	for n, x := range sums {
		if x != 0 {
			self[callOf[n]] += x
		}
	}
}

// sum adds up the totals and ranks the calls, in one backward pass a side.
func (c *callValues) sum() {
	calls := c.view.calls
	for s := range c.sides {
		total := c.total[s]
		copy(total, c.self[s])
		for i := len(total) - 1; i > 0; i-- {
			total[calls[i].parent] += total[i]
		}
	}
	if c.size = c.total[0]; c.sides > 1 {
		c.size = make([]int64, len(calls))
		for i := range c.size {
			c.size[i] = max(c.total[0][i], c.total[1][i])
		}
	}
}

// link links parents to children, after sum.
func (c *callValues) link() {
	n := len(c.view.calls)
	c.child, c.next = zeroed(c.child, n), zeroed(c.next, n)
	for i := n - 1; i > 0; i-- {
		if c.size[i] != 0 {
			p := c.view.calls[i].parent
			c.next[i], c.child[p] = c.child[p], int32(i)
		}
	}
}

// collapse adds parts up into one, whose view has calls and strings alone. The
// parts are free afterwards.
func collapse(parts []*callValues, sides int) *callValues {
	strings := map[string]uint32{"": 0}
	v := &view{strings: []string{""}, calls: make([]call, 1)}
	var known pairs
	var self [2][]int64
	for s := range sides {
		self[s] = []int64{0}
	}
	for _, p := range parts {
		at := make([]uint32, len(p.view.calls))
		for i, k := range p.view.calls {
			if p.size[i] == 0 {
				continue
			}
			if i > 0 {
				text := p.view.strings[k.name]
				name, ok := strings[text]
				if !ok {
					name = uint32(len(v.strings))
					strings[text] = name
					v.strings = append(v.strings, text)
				}
				parent := at[k.parent]
				if at[i], ok = known.get(parent, name); !ok {
					at[i] = uint32(len(v.calls))
					known.put(parent, name, at[i])
					v.calls = append(v.calls, call{parent, name})
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
	c.sum()
	return c
}
