package calltree

import (
	"cmp"
	"slices"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/pkg/profile"
)

// mergeTopN merges several partials, but does little more with nodes that it does
// not keep than to compare their sizes. No node is larger than its parent, so those
// of at least a size are a tree with the root. It walks the tree of a size at which
// there should be somewhat more nodes than are wanted, by a sample of the partials;
// from these it takes the largest.
//
// While it walks, a partial's at has a call's number among the nodes if the partial alone
// has the call, -1 if several have, and 0 if it was not taken.
func mergeTopN(partials []*Values, maxNodes int64) *profile.DiffTree {
	m := merges.Get().(*topNMerge)
	m.partials = partials
	defer func() {
		m.partials = nil
		nodes := cap(m.top.nodes)
		for i := range m.walkers {
			nodes += cap(m.walkers[i].nodes)
		}
		budget.PutBack(&merges, m, nodes*88)
	}()
	for minSize := m.estimateSize(maxNodes); ; minSize /= 2 {
		nodes := m.walk(max(minSize, 1))
		n := int64(len(nodes)) - 1 // without the root
		switch {
		case minSize <= 1 && n <= maxNodes:
			return m.tree(nodes, 1, maxNodes)
		case n < maxNodes:
			continue // there are more
		case maxNodes == 0:
			return m.tree(nodes, nodes[0].size, maxNodes)
		}
		m.sizes = m.sizes[:0]
		for i := range nodes[1:] {
			m.sizes = append(m.sizes, nodes[i+1].size)
		}
		return m.tree(nodes, profile.NthLargest(m.sizes, int(maxNodes)), maxNodes)
	}
}

// A topNMerge keeps its memory for the next one: what a query takes anew, the
// garbage collector has to take back.
type topNMerge struct {
	partials []*Values
	sizes    []int64
	at       []int32 // of the nodes, see tree
	top      walker
	walkers  []walker // of tasks
}

var merges = sync.Pool{New: func() any { return new(topNMerge) }}

// A mergedNode is a call in one partial, most often, or the same call in several.
type mergedNode struct {
	parent      int32
	several     bool
	ref         callRef // the call, or one of them
	size        int64
	self, total [2]int64
	rest        [2]int64 // the total less self and less the children that are taken
}

// estimateSize is a size that some more nodes than wanted have.
func (m *topNMerge) estimateSize(wanted int64) int64 {
	const every = 16
	m.sizes = m.sizes[:0]
	for _, p := range m.partials {
		for i := 1; i < len(p.Ranks); i += every {
			if size := p.Ranks[i].size; size != 0 {
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

// walk lists the nodes of at least a size, parents before children. Those of
// several partials it finds by their links. What is below a call of one partial alone it
// takes from that partial's calls in their order, which is that of memory.
func (m *topNMerge) walk(minSize int64) []mergedNode {
	w := &m.top
	w.begin(m, minSize, 0)
	root := pending{parent: -1}
	for i, p := range m.partials {
		p.at = reuse.Zeroed(p.at, len(p.Ranks))
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
	m.concurrently(len(queue), func(w *walker, i int) {
		w.stack = append(w.stack, queue[i])
		for len(w.stack) > 0 {
			p := w.stack[len(w.stack)-1]
			w.stack = w.stack[:len(w.stack)-1]
			w.take(&p)
		}
	})
	for i := range w.nodes {
		if n := &w.nodes[i]; !n.several {
			m.partials[n.ref.partial].at[n.ref.call] = int32(i)
		}
	}
	m.concurrently(len(m.partials), (*walker).takeAlone)
	return w.nodes
}

// concurrently does n tasks, and adds the nodes that they take to the top's, in the order of
// the tasks.
func (m *topNMerge) concurrently(n int, do func(w *walker, task int)) {
	w := &m.top
	top := int32(len(w.nodes))
	if more := n - len(m.walkers); more > 0 {
		m.walkers = append(m.walkers, make([]walker, more)...)
	}
	inParallel(n, func(task int) {
		m.walkers[task].begin(m, w.minSize, top)
		do(&m.walkers[task], task)
	})
	// Nodes of a task refer to the top by its numbers, and to each other by
	// numbers that begin after it.
	for i := range n {
		shift := int32(len(w.nodes)) - top
		for _, n := range m.walkers[i].nodes {
			if n.parent >= top {
				n.parent += shift
			}
			w.nodes = append(w.nodes, n)
		}
	}
}

// A walker walks a piece of the merged tree.
type walker struct {
	m        *topNMerge
	minSize  int64
	base     int32 // number of its first node
	nodes    []mergedNode
	stack    []pending
	children []hashedRef
	refs     []callRef // of what is pending
}

func (w *walker) begin(m *topNMerge, minSize int64, base int32) {
	w.m, w.minSize, w.base = m, minSize, base
	w.nodes, w.stack, w.refs = w.nodes[:0], w.stack[:0], w.refs[:0]
}

// pending is a node to take that is a call of several partials.
type pending struct {
	parent int32
	refs   []callRef
	size   int64
	total  [2]int64
}

type hashedRef struct {
	hash uint64
	ref  callRef
}

// compare orders by hash, then by partial and call.
func (a hashedRef) compare(b hashedRef) int {
	switch {
	case a.hash < b.hash:
		return -1
	case a.hash > b.hash:
		return 1
	case a.ref.partial != b.ref.partial:
		return cmp.Compare(a.ref.partial, b.ref.partial)
	}
	return cmp.Compare(a.ref.call, b.ref.call)
}

// measured adds up the totals of the calls.
func (w *walker) measured(p pending) pending {
	for _, r := range p.refs {
		total := w.m.partials[r.partial].Totals(r.call)
		p.total[0] += total[0]
		p.total[1] += total[1]
	}
	p.size = max(p.total[0], p.total[1])
	return p
}

// take makes a node of what is pending. Its children that are large enough are
// pending then, or nodes if one partial alone has them; what is below these comes
// later, from takeAlone.
func (w *walker) take(p *pending) {
	at := w.base + int32(len(w.nodes))
	n := mergedNode{parent: p.parent, several: true, ref: p.refs[0], size: p.size, total: p.total, rest: p.total}
	w.children = w.children[:0]
	for _, r := range p.refs {
		c := w.m.partials[r.partial]
		c.at[r.call] = -1 // not to be taken again
		self := c.Selves(r.call)
		n.self[0] += self[0]
		n.self[1] += self[1]
		for i := c.Ranks[r.call].Child; i != 0; i = c.Ranks[i].Next {
			w.children = append(w.children, hashedRef{c.View.Hashes[c.View.Calls[i].Name], callRef{r.partial, i}})
		}
	}
	subtract(&n.rest, n.self)
	w.nodes = append(w.nodes, n)
	slices.SortFunc(w.children, hashedRef.compare)
	for i := 0; i < len(w.children); {
		first := i
		for i++; i < len(w.children) && w.children[i].hash == w.children[first].hash; i++ {
		}
		if i-first == 1 {
			ref := w.children[first].ref
			if c := w.m.partials[ref.partial]; c.Ranks[ref.call].size >= w.minSize {
				w.single(at, ref)
			}
			continue
		}
		k, refs := pending{parent: at}, len(w.refs)
		for _, c := range w.children[first:i] {
			w.refs = append(w.refs, c.ref)
		}
		k.refs = w.refs[refs:len(w.refs):len(w.refs)]
		if k = w.measured(k); k.size < w.minSize {
			w.refs = w.refs[:refs]
			continue
		}
		subtract(w.rest(at), k.total)
		w.stack = append(w.stack, k)
	}
}

// single makes a node of a call of one partial.
func (w *walker) single(parent int32, ref callRef) {
	c := w.m.partials[ref.partial]
	n := mergedNode{parent: parent, ref: ref, size: c.Ranks[ref.call].size, self: c.Selves(ref.call), total: c.Totals(ref.call)}
	subtract(w.rest(parent), n.total)
	n.rest = n.total
	subtract(&n.rest, n.self)
	w.nodes = append(w.nodes, n)
}

// rest is that of a node of the walker's own or of the top.
func (w *walker) rest(node int32) *[2]int64 {
	if node >= w.base {
		return &w.nodes[node-w.base].rest
	}
	return &w.m.top.nodes[node].rest
}

// takeAlone makes nodes of a partial's calls that are below one which no other partial
// has. No call is larger than its parent, so there is a node of that already; and
// take has been at the children of all nodes of several partials.
func (w *walker) takeAlone(partial int) {
	c := w.m.partials[partial]
	calls, at := c.View.Calls, c.at
	for i := range c.Ranks {
		if c.Ranks[i].size < w.minSize || at[i] != 0 {
			continue
		}
		parent := at[calls[i].Parent]
		at[i] = w.base + int32(len(w.nodes))
		w.single(parent, callRef{int32(partial), int32(i)})
	}
}

// tree makes a tree of the nodes of at least a size, or of fewer if those are too
// many. What is left of the others is in the rest of their parents.
func (m *topNMerge) tree(nodes []mergedNode, minSize, maxNodes int64) *profile.DiffTree {
	b := newTreeBuilder(m.partials, int64(len(nodes)))
	at := reuse.Sized(m.at, len(nodes)) // number in the tree, -1 for none
	m.at = at
	for i := range nodes {
		n := &nodes[i]
		if i > 0 && n.size < minSize {
			if up := at[n.parent]; up >= 0 { // it is the topmost one
				addTo(&b.rest[up], n.total)
			}
			at[i] = -1
			continue
		}
		to := profile.DiffNode{Parent: -1, Self: n.self[0], SelfRight: n.self[1], Total: n.total[0], TotalRight: n.total[1]}
		if i > 0 {
			to.Parent = at[n.parent]
		}
		at[i] = b.add(n.ref, to, n.rest)
	}
	return b.finish(minSize, maxNodes)
}
