package store

import (
	"cmp"
	"slices"
	"sync"

	"github.com/flameline/flameline/pkg/profile"
)

// callValues are the values of one partition's calls, with links from a call to
// its children that have a value.
type callValues struct {
	view        *view
	self, total []int64
	child, next []int32 // first child, next sibling; 0 for none
	names       []int32 // string to name in the result, plus one
}

var callPool = sync.Pool{New: func() any { return new(callValues) }}

// newCallValues returns calls without values. The caller puts them back into
// callPool.
func newCallValues(v *view) *callValues {
	c := callPool.Get().(*callValues)
	c.view = v
	n := len(v.calls)
	c.self, c.total = zeroed(c.self, n), zeroed(c.total, n)
	c.child, c.next = zeroed(c.child, n), zeroed(c.next, n)
	c.names = zeroed(c.names, len(v.strings))
	return c
}

func zeroed[T int32 | int64](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/8)
	}
	s = s[:n]
	clear(s)
	return s
}

// link sums up the totals and links parents to children, in one backward pass.
func (c *callValues) link() {
	copy(c.total, c.self)
	for i := len(c.total) - 1; i > 0; i-- {
		if t := c.total[i]; t != 0 {
			p := c.view.calls[i].parent
			c.total[p] += t
			c.next[i], c.child[p] = c.child[p], int32(i)
		}
	}
}

// largest merges the calls of several partitions into the tree that
// profile.Merge and Truncate give, but touches little more than the nodes it
// keeps: it takes the largest node not taken yet, again and again, and no node
// is larger than its parent.
func largest(parts []*callValues, maxNodes int64) *profile.Tree {
	m := &largestMerge{parts: parts, names: map[string]int32{profile.RootName: 0}}
	m.tree.Names = []string{profile.RootName}
	root := candidate{parent: -1, first: callRef{part: -1}}
	for i, p := range parts {
		if p.total[0] != 0 {
			root.add(callRef{int32(i), 0})
			root.total += p.total[0]
		}
	}
	m.take(&root)
	least := int64(0)
	for len(m.heap) > 0 {
		if n := int64(len(m.tree.Nodes) - 1); n >= maxNodes {
			if n == maxNodes {
				least = m.tree.Nodes[n].Total
			}
			if m.heap[0].total < least {
				break
			}
		}
		c := m.pop()
		m.take(&c)
	}
	m.fold()
	return &m.tree
}

// A callRef is a call of a partition.
type callRef struct{ part, call int32 }

// A candidate is a node that may come next: the same call in one partition, most
// often, or in several.
type candidate struct {
	total        int64
	parent, name int32
	first        callRef // part is -1 if there is none
	more         []callRef
}

func (c *candidate) add(r callRef) {
	if c.first.part < 0 {
		c.first = r
		return
	}
	c.more = append(c.more, r)
}

type largestMerge struct {
	parts    []*callValues
	tree     profile.Tree
	names    map[string]int32
	heap     []candidate
	children []namedRef
}

type namedRef struct {
	name int32
	ref  callRef
}

// take makes a candidate a node of the tree, and its children candidates.
func (m *largestMerge) take(c *candidate) {
	at := int32(len(m.tree.Nodes))
	n := profile.Node{Parent: c.parent, Name: c.name, Total: c.total}
	m.children = m.children[:0]
	each := func(r callRef) {
		p := m.parts[r.part]
		n.Self += p.self[r.call]
		for i := p.child[r.call]; i != 0; i = p.next[i] {
			m.children = append(m.children, namedRef{m.name(p, i), callRef{r.part, i}})
		}
	}
	if c.first.part >= 0 {
		each(c.first)
	}
	for _, r := range c.more {
		each(r)
	}
	m.tree.Nodes = append(m.tree.Nodes, n)
	if len(c.more) > 0 {
		slices.SortStableFunc(m.children, func(a, b namedRef) int { return cmp.Compare(a.name, b.name) })
	}
	for i := 0; i < len(m.children); {
		k := candidate{parent: at, name: m.children[i].name, first: m.children[i].ref}
		k.total = m.total(k.first)
		for i++; i < len(m.children) && m.children[i].name == k.name; i++ {
			k.more = append(k.more, m.children[i].ref)
			k.total += m.total(m.children[i].ref)
		}
		m.push(k)
	}
}

func (m *largestMerge) total(r callRef) int64 { return m.parts[r.part].total[r.call] }

func (m *largestMerge) name(p *callValues, call int32) int32 {
	s := p.view.calls[call].name
	if p.names[s] == 0 {
		p.names[s] = m.intern(p.view.strings[s]) + 1
	}
	return p.names[s] - 1
}

func (m *largestMerge) intern(s string) int32 {
	i, ok := m.names[s]
	if !ok {
		i = int32(len(m.tree.Names))
		m.names[s] = i
		m.tree.Names = append(m.tree.Names, s)
	}
	return i
}

// fold adds what is left to the child "other" of its parent.
func (m *largestMerge) fold() {
	if len(m.heap) == 0 {
		return
	}
	name := m.intern(profile.OtherName)
	other := map[int32]int32{}
	for i, n := range m.tree.Nodes {
		if n.Name == name && i > 0 {
			other[n.Parent] = int32(i)
		}
	}
	for i := range m.heap {
		c := &m.heap[i]
		at, ok := other[c.parent]
		if !ok {
			at = int32(len(m.tree.Nodes))
			other[c.parent] = at
			m.tree.Nodes = append(m.tree.Nodes, profile.Node{Parent: c.parent, Name: name})
		}
		m.tree.Nodes[at].Self += c.total
		m.tree.Nodes[at].Total += c.total
	}
}

func (m *largestMerge) push(c candidate) {
	m.heap = append(m.heap, c)
	h := m.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].total >= h[i].total {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (m *largestMerge) pop() candidate {
	h := m.heap
	c := h[0]
	last := len(h) - 1
	h[0], h[last] = h[last], candidate{}
	h = h[:last]
	m.heap = h
	for i := 0; ; {
		k := 2*i + 1
		if k >= len(h) {
			return c
		}
		if k+1 < len(h) && h[k+1].total > h[k].total {
			k++
		}
		if h[i].total >= h[k].total {
			return c
		}
		h[i], h[k] = h[k], h[i]
		i = k
	}
}
