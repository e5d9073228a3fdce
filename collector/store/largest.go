package store

import (
	"cmp"
	"slices"

	"github.com/flameline/flameline/pkg/profile"
)

// largest merges the calls of several partitions into the tree that
// profile.Merge, Diff and Truncate give. With keepRoot the root counts as one of
// the maxNodes, as in a comparison. The parts are summed up.
func largest(parts []*callValues, maxNodes int64, keepRoot bool) *profile.DiffTree {
	if keepRoot {
		maxNodes--
	}
	var used []*callValues
	for _, p := range parts {
		if p.ranks[0].size != 0 {
			used = append(used, p)
		}
	}
	switch len(used) {
	case 0:
		return &profile.DiffTree{Names: []string{profile.RootName}, Nodes: []profile.DiffNode{{Parent: -1}}}
	case 1:
		return used[0].largest(maxNodes)
	}
	return mergeLargest(used, maxNodes)
}

// A builder makes a tree of calls that are named as they are taken.
type builder struct {
	tree  profile.DiffTree
	names map[string]int32
}

func newBuilder(room int64) *builder {
	b := &builder{names: make(map[string]int32, min(room/2, 1<<14)+16)}
	b.names[profile.RootName] = 0
	b.tree.Names = []string{profile.RootName}
	b.tree.Nodes = make([]profile.DiffNode, 0, min(room, 1<<16)+64)
	return b
}

func (b *builder) intern(s string) int32 {
	i, ok := b.names[s]
	if !ok {
		i = int32(len(b.tree.Names))
		b.names[s] = i
		b.tree.Names = append(b.tree.Names, s)
	}
	return i
}

// name is the name of a part's call, found once for each of its strings.
func (b *builder) name(p *callValues, call int32) int32 {
	s := p.view.calls[call].name
	if p.names[s] == 0 {
		p.names[s] = b.intern(p.view.strings[s]) + 1
	}
	return p.names[s] - 1
}

// A folder collects what is left out into the children "other" of the nodes that
// are kept.
type folder struct {
	*builder
	name  int32
	other map[int32]int32 // node to its child "other"
}

func (b *builder) folder() *folder {
	f := &folder{builder: b, name: b.intern(profile.OtherName), other: map[int32]int32{}}
	for i, n := range b.tree.Nodes {
		if n.Name == f.name && i > 0 {
			f.other[n.Parent] = int32(i)
		}
	}
	return f
}

func (f *folder) fold(parent int32, left, right int64) {
	at, ok := f.other[parent]
	if !ok {
		at = int32(len(f.tree.Nodes))
		f.other[parent] = at
		f.tree.Nodes = append(f.tree.Nodes, profile.DiffNode{Parent: parent, Name: f.name})
	}
	n := &f.tree.Nodes[at]
	n.Self += left
	n.Total += left
	n.SelfRight += right
	n.TotalRight += right
}

// largest is the tree of one part: its calls in their order, which has parents
// first.
func (c *callValues) largest(maxNodes int64) *profile.DiffTree {
	calls := c.view.calls
	ranked := make([]int64, 0, len(calls))
	for i := range c.ranks[1:] {
		if x := c.ranks[i+1].size; x != 0 {
			ranked = append(ranked, x)
		}
	}
	least := int64(1)
	if int64(len(ranked)) > maxNodes {
		// The root is as large as any.
		if least = c.ranks[0].size; maxNodes > 0 {
			least = profile.NthLargest(ranked, int(maxNodes))
		}
	}
	b := newBuilder(maxNodes)
	at := make([]int32, len(calls))
	var left []int32 // topmost calls to fold
	for i := range calls {
		n := profile.DiffNode{Parent: -1}
		if i > 0 {
			parent := calls[i].parent
			if size := c.ranks[i].size; size < least {
				if at[i] = -1; size != 0 && at[parent] >= 0 {
					left = append(left, int32(i))
				}
				continue
			}
			n.Parent, n.Name = at[parent], b.name(c, int32(i))
		}
		at[i] = int32(len(b.tree.Nodes))
		n.Self, n.Total = c.self[0][i], c.total[0][i]
		if c.sides > 1 {
			n.SelfRight, n.TotalRight = c.self[1][i], c.total[1][i]
		}
		b.tree.Nodes = append(b.tree.Nodes, n)
	}
	if len(left) > 0 {
		f := b.folder()
		for _, i := range left {
			right := int64(0)
			if c.sides > 1 {
				right = c.total[1][i]
			}
			f.fold(at[calls[i].parent], c.total[0][i], right)
		}
	}
	return &b.tree
}

// mergeLargest merges several parts, but touches little more than the nodes it
// keeps: it takes the largest node not taken yet, again and again, and no node
// is larger than its parent.
func mergeLargest(parts []*callValues, maxNodes int64) *profile.DiffTree {
	m := &largestMerge{parts: parts, builder: newBuilder(maxNodes)}
	root := candidate{parent: -1, first: callRef{part: -1}}
	for i := range parts {
		root.add(callRef{int32(i), 0})
	}
	m.measure(&root)
	m.take(&root)
	least := root.size
	for len(m.heap) > 0 {
		if n := int64(len(m.tree.Nodes) - 1); n >= maxNodes {
			if n == maxNodes && n > 0 {
				last := m.tree.Nodes[n]
				least = max(last.Total, last.TotalRight)
			}
			if m.heap[0].size < least {
				break
			}
		}
		c := m.pop()
		m.take(&c)
	}
	if len(m.heap) > 0 {
		f := m.folder()
		for i := range m.heap {
			c := &m.heap[i]
			f.fold(c.parent, c.total[0], c.total[1])
		}
	}
	return &m.tree
}

// A callRef is a call of a partition.
type callRef struct{ part, call int32 }

// A candidate is a node that may come next: a call in one partition, most often,
// or the same call in several.
type candidate struct {
	total  [2]int64
	size   int64
	parent int32
	first  callRef // part is -1 if there is none
	more   []callRef
}

func (c *candidate) add(r callRef) {
	if c.first.part < 0 {
		c.first = r
		return
	}
	c.more = append(c.more, r)
}

type largestMerge struct {
	*builder
	parts    []*callValues
	heap     []candidate
	children []namedRef
}

type namedRef struct {
	name int32
	ref  callRef
}

// measure adds up a candidate's values.
func (m *largestMerge) measure(c *candidate) {
	add := func(r callRef) {
		p := m.parts[r.part]
		for s := range p.sides {
			c.total[s] += p.total[s][r.call]
		}
	}
	add(c.first)
	for _, r := range c.more {
		add(r)
	}
	c.size = max(c.total[0], c.total[1])
}

// take makes a candidate a node of the tree, and its children candidates.
func (m *largestMerge) take(c *candidate) {
	at := int32(len(m.tree.Nodes))
	n := profile.DiffNode{Parent: c.parent, Total: c.total[0], TotalRight: c.total[1]}
	if c.parent >= 0 {
		n.Name = m.name(m.parts[c.first.part], c.first.call)
	}
	self := func(r callRef) *callValues {
		p := m.parts[r.part]
		n.Self += p.self[0][r.call]
		if p.sides > 1 {
			n.SelfRight += p.self[1][r.call]
		}
		return p
	}
	p := self(c.first)
	if len(c.more) == 0 {
		// The calls of one partition have different names.
		m.tree.Nodes = append(m.tree.Nodes, n)
		for i := p.ranks[c.first.call].child; i != 0; i = p.ranks[i].next {
			k := candidate{parent: at, first: callRef{c.first.part, i}, size: p.ranks[i].size}
			if k.total[0] = k.size; p.sides > 1 {
				k.total = [2]int64{p.total[0][i], p.total[1][i]}
			}
			m.push(k)
		}
		return
	}
	m.children = m.children[:0]
	each := func(p *callValues, r callRef) {
		for i := p.ranks[r.call].child; i != 0; i = p.ranks[i].next {
			m.children = append(m.children, namedRef{m.name(p, i), callRef{r.part, i}})
		}
	}
	each(p, c.first)
	for _, r := range c.more {
		each(self(r), r)
	}
	m.tree.Nodes = append(m.tree.Nodes, n)
	slices.SortStableFunc(m.children, func(a, b namedRef) int { return cmp.Compare(a.name, b.name) })
	for i := 0; i < len(m.children); {
		k := candidate{parent: at, first: m.children[i].ref}
		name := m.children[i].name
		for i++; i < len(m.children) && m.children[i].name == name; i++ {
			k.more = append(k.more, m.children[i].ref)
		}
		m.measure(&k)
		m.push(k)
	}
}

func (m *largestMerge) push(c candidate) {
	m.heap = append(m.heap, c)
	h := m.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].size >= h[i].size {
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
		if k+1 < len(h) && h[k+1].size > h[k].size {
			k++
		}
		if h[i].size >= h[k].size {
			return c
		}
		h[i], h[k] = h[k], h[i]
		i = k
	}
}
