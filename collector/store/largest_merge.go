package store

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"github.com/flameline/flameline/pkg/profile"
)

// mergeLargest merges several parts, but touches little more than the nodes it
// keeps. No node is larger than its parent, so those of at least a size are a
// tree with the root. It walks the tree of a size at which there should be
// somewhat more nodes than are wanted, by a sample of the parts; from these it
// takes the largest.
func mergeLargest(parts []*callValues, maxNodes int64) *profile.DiffTree {
	m := merges.Get().(*largestMerge)
	m.parts = parts
	defer func() {
		m.parts = nil
		putBack(&merges, m, cap(m.top.nodes)*72*2)
	}()
	for least := m.guess(maxNodes); ; least /= 2 {
		nodes := m.walk(max(least, 1))
		n := int64(len(nodes)) - 1 // without the root
		switch {
		case least <= 1 && n <= maxNodes:
			return m.tree(nodes, 1)
		case n < maxNodes:
			continue // there are more
		case maxNodes == 0:
			return m.tree(nodes, nodes[0].size)
		}
		m.sizes = m.sizes[:0]
		for i := range nodes[1:] {
			m.sizes = append(m.sizes, nodes[i+1].size)
		}
		return m.tree(nodes, profile.NthLargest(m.sizes, int(maxNodes)))
	}
}

// A largestMerge keeps its memory for the next one: what a query takes anew, the
// garbage collector has to take back.
type largestMerge struct {
	parts   []*callValues
	sizes   []int64
	at      []int32 // number in the tree
	top     walker
	workers []walker
}

var merges = sync.Pool{New: func() any { return new(largestMerge) }}

// A callRef is a call of a part.
type callRef struct{ part, call int32 }

// A mergedNode is a call in one part, most often, or the same call in several.
type mergedNode struct {
	parent      int32
	ref         callRef // one of them, for the name
	size        int64
	self, total [2]int64
	rest        [2]int64 // of the children that were left out
}

// guess is a size that some more nodes than wanted have.
func (m *largestMerge) guess(wanted int64) int64 {
	const every = 16
	m.sizes = m.sizes[:0]
	for _, p := range m.parts {
		for i := 1; i < len(p.ranks); i += every {
			if size := p.ranks[i].size; size != 0 {
				m.sizes = append(m.sizes, size)
			}
		}
	}
	n := int(wanted)/every + int(wanted)/every/4 + 8
	if n >= len(m.sizes) {
		return 1
	}
	return profile.NthLargest(m.sizes, n)
}

// walk lists the nodes of at least a size, parents before children.
func (m *largestMerge) walk(least int64) []mergedNode {
	w := &m.top
	w.begin(m, least, 0)
	root := pending{parent: -1}
	for i := range m.parts {
		root.refs = append(root.refs, callRef{int32(i), 0})
	}
	// The top of the tree is one task, the subtrees below it are many.
	const tasks = 64
	queue := []pending{w.measured(root)}
	for len(queue) > 0 && len(queue) < tasks {
		largest := 0
		for i := range queue {
			if queue[i].size > queue[largest].size {
				largest = i
			}
		}
		next := queue[largest]
		queue[largest] = queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		w.take(&next)
		queue = append(queue, w.stack...)
		w.stack = w.stack[:0]
	}
	if n := min(runtime.GOMAXPROCS(0), 8); len(m.workers) != n {
		m.workers = make([]walker, n)
	}
	workers := m.workers
	loads := make([]int64, len(workers))
	for i := range workers {
		workers[i].begin(m, least, int32(len(w.nodes)))
	}
	slices.SortStableFunc(queue, func(a, b pending) int { return cmp.Compare(b.size, a.size) })
	for _, p := range queue {
		k := 0
		for i := range loads {
			if loads[i] < loads[k] {
				k = i
			}
		}
		workers[k].stack = append(workers[k].stack, p)
		loads[k] += p.size
	}
	var group sync.WaitGroup
	for i := range workers {
		group.Go(workers[i].run)
	}
	group.Wait()
	// Nodes of a worker refer to the top by its numbers, and to each other by
	// numbers that begin after it.
	top := int32(len(w.nodes))
	for i := range workers {
		shift := int32(len(w.nodes)) - top
		for _, n := range workers[i].nodes {
			if n.parent >= top {
				n.parent += shift
			}
			w.nodes = append(w.nodes, n)
		}
	}
	return w.nodes
}

// A walker walks a part of the merged tree.
type walker struct {
	m        *largestMerge
	least    int64
	base     int32 // number of its first node
	nodes    []mergedNode
	stack    []pending
	children []hashedRef
	refs     []callRef // of what is pending
}

func (w *walker) begin(m *largestMerge, least int64, base int32) {
	w.m, w.least, w.base = m, least, base
	w.nodes, w.stack, w.refs = w.nodes[:0], w.stack[:0], w.refs[:0]
}

// pending is a node to take. It has one ref, in the field for it, or several.
type pending struct {
	parent int32
	ref    callRef
	refs   []callRef // nil for one
	size   int64
	total  [2]int64
}

type hashedRef struct {
	hash uint64
	ref  callRef
}

func (w *walker) run() {
	for len(w.stack) > 0 {
		p := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		w.take(&p)
	}
}

// measured adds up the values of a node with several refs.
func (w *walker) measured(p pending) pending {
	for _, r := range p.refs {
		c := w.m.parts[r.part]
		for s := range c.sides {
			p.total[s] += c.total[s][r.call]
		}
	}
	p.ref, p.size = p.refs[0], max(p.total[0], p.total[1])
	return p
}

// take makes a node of what is pending, and its children pending, or adds them to
// the rest.
func (w *walker) take(p *pending) {
	at := w.base + int32(len(w.nodes))
	w.nodes = append(w.nodes, mergedNode{parent: p.parent, ref: p.ref, size: p.size, total: p.total})
	n := &w.nodes[len(w.nodes)-1]
	if p.refs == nil {
		// The calls of one part have different names.
		c := w.m.parts[p.ref.part]
		for s := range c.sides {
			n.self[s] = c.self[s][p.ref.call]
		}
		for i := c.ranks[p.ref.call].child; i != 0; i = c.ranks[i].next {
			k := pending{parent: at, ref: callRef{p.ref.part, i}, size: c.ranks[i].size}
			if k.total[0] = k.size; c.sides > 1 {
				k.total = [2]int64{c.total[0][i], c.total[1][i]}
			}
			w.add(n, k)
		}
		return
	}
	w.children = w.children[:0]
	for _, r := range p.refs {
		c := w.m.parts[r.part]
		for s := range c.sides {
			n.self[s] += c.self[s][r.call]
		}
		for i := c.ranks[r.call].child; i != 0; i = c.ranks[i].next {
			w.children = append(w.children, hashedRef{c.view.hashes[c.view.calls[i].name], callRef{r.part, i}})
		}
	}
	slices.SortStableFunc(w.children, func(a, b hashedRef) int { return cmp.Compare(a.hash, b.hash) })
	for i := 0; i < len(w.children); {
		first := i
		for i++; i < len(w.children) && w.children[i].hash == w.children[first].hash; i++ {
		}
		k := pending{parent: at}
		n0 := len(w.refs)
		for _, c := range w.children[first:i] {
			w.refs = append(w.refs, c.ref)
		}
		k.refs = w.refs[n0:len(w.refs):len(w.refs)]
		if k = w.measured(k); len(k.refs) == 1 {
			k.refs, w.refs = nil, w.refs[:n0]
		}
		w.add(n, k)
	}
}

func (w *walker) add(n *mergedNode, child pending) {
	if child.size >= w.least {
		w.stack = append(w.stack, child)
		return
	}
	for s := range n.rest {
		n.rest[s] += child.total[s]
	}
}

// tree makes a tree of the nodes of at least a size. What is left of the others
// is in the rest of their parents.
func (m *largestMerge) tree(nodes []mergedNode, least int64) *profile.DiffTree {
	b := newBuilder(int64(len(nodes)), true)
	m.at = zeroed(m.at, len(nodes))
	at := m.at
	for i := range nodes {
		n := &nodes[i]
		if i > 0 && n.size < least {
			if up := n.parent; at[up] >= 0 { // the topmost one
				for s := range n.total {
					nodes[up].rest[s] += n.total[s]
				}
			}
			at[i] = -1
			continue
		}
		to := profile.DiffNode{Parent: -1, Self: n.self[0], SelfRight: n.self[1], Total: n.total[0], TotalRight: n.total[1]}
		if i > 0 {
			to.Parent, to.Name = at[n.parent], b.name(m.parts[n.ref.part], n.ref.call)
		}
		at[i] = int32(len(b.tree.Nodes))
		b.tree.Nodes = append(b.tree.Nodes, to)
	}
	var f *folder
	for i := range nodes {
		if rest := nodes[i].rest; at[i] >= 0 && rest != [2]int64{} {
			if f == nil {
				f = b.folder()
			}
			f.fold(at[i], rest[0], rest[1])
		}
	}
	return &b.tree
}
