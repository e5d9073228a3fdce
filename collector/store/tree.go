package store

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/flameline/flameline/pkg/profile"
)

// Tree merges all selected profiles into a call tree of functions. If a call site
// is given, from the outermost function inwards, only stacktraces that begin
// with it count. A selection without profiles gives a tree with a root of no
// value.
//
// With sel.MaxNodes the tree is the one that profile.Tree.Truncate makes of the
// whole one, at a cost that hardly grows with what is left out. Values that add up
// to more than an int64 holds give ErrLimit.
func (db *DB) Tree(ctx context.Context, sel Selection, callSite []string) (tree *profile.Tree, err error) {
	defer func() {
		if db.heal(err) {
			tree, err = db.Tree(ctx, sel, callSite)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("tree")()
	parts := db.newParts(ctx, 1)
	defer parts.free()
	err = db.gather(ctx, []Selection{sel}, [][]string{callSite}, parts)
	switch {
	case err != nil:
		return nil, err
	case sel.MaxNodes > 0 && sel.Functions:
		cut, err := parts.functions(sel.MaxNodes, false)
		if err != nil {
			return nil, err
		}
		return left(cut), nil
	case sel.MaxNodes > 0:
		return left(largest(parts.sorted(), sel.MaxNodes, false)), nil
	}
	return parts.whole(), nil
}

// Diff merges two selections and compares them: the left one is what it was, the
// right one what it is. The tree is the one that profile.Diff and Truncate make
// of both whole trees, or TruncateFunctions if the left selection says Functions.
// maxNodes 0 means no limit; MaxNodes of the selections does not count. Errors are
// those of Tree.
func (db *DB) Diff(ctx context.Context, sels [2]Selection, callSites [2][]string, maxNodes int64) (tree *profile.DiffTree, err error) {
	defer func() {
		if db.heal(err) {
			tree, err = db.Diff(ctx, sels, callSites, maxNodes)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("diff")()
	parts := db.newParts(ctx, 2)
	defer parts.free()
	if err := db.gather(ctx, sels[:], callSites[:], parts); err != nil {
		return nil, err
	}
	// Pyroscope's encoding of a comparison has the sum of both sides.
	if addTotals(parts.total[0], parts.total[1]) == uncounted {
		return nil, errOverflow()
	}
	if maxNodes <= 0 {
		maxNodes = 1<<63 - 1
	} else if sels[0].Functions {
		return parts.functions(maxNodes, true)
	}
	return largest(parts.sorted(), maxNodes, true), nil
}

// gather adds the calls of one or two selections to parts: one part for each
// partition, or for a service of several epochs.
func (db *DB) gather(ctx context.Context, sels []Selection, callSites [][]string, parts *parts) error {
	var sides [2][]*job
	for s, sel := range sels {
		var err error
		if sides[s], err = db.plan(ctx, sel); err == nil {
			err = db.planStates(ctx, sel, sides[s])
		}
		if err != nil {
			return err
		}
	}
	pairs := pairJobs(sides)
	firsts := make([]*job, len(pairs))
	for i, p := range pairs {
		firsts[i] = cmp.Or(p[0], p[1])
		firsts[i].order = i
	}
	sums, free, err := db.lineageSums(ctx, firsts)
	defer free()
	if err != nil {
		return err
	}
	finish := func(order int, c *callValues) error {
		for side, callSite := range callSites {
			if len(callSite) > 0 {
				c.view.filterCalls(c.self[side], callSite)
			}
		}
		if err := c.sum(); err != nil {
			c.free()
			return err
		}
		return parts.add(order, c)
	}
	err = db.run(ctx, firsts, func(first *job, s *scanner) error {
		sum := sums[first.order]
		if sum != nil {
			nodeTo, whole, err := s.nodesOf(sum.value, first.partition)
			if err != nil {
				return err
			}
			s.edges.less = whole
			b := buffers.Get().(*buffer)
			defer buffers.Put(b)
			for side, j := range pairs[first.order] {
				if j == nil {
					continue
				}
				values := b.zeros(len(nodeTo))
				within := sum.value.now().withinCalls(nodeTo, callSites[side])
				if _, err := db.mergeJob(s, j, sels[side], nodeSums{values: values}, within); err != nil {
					return err
				}
				sum.add(side, nodeTo, values)
			}
			return nil
		}
		part, err := s.partition(first.partition)
		if err != nil {
			return err
		}
		defer part.release()
		v := part.value.view()
		s.edges.less = part.value.damage == nil
		c := newCallValues(&v, len(sels))
		for side, j := range pairs[first.order] {
			if j == nil {
				continue
			}
			if _, err := db.mergeJob(s, j, sels[side], nodeSums{c.self[side], v.callOf}, v.within(callSites[side])); err != nil {
				return err
			}
		}
		return finish(first.order, c)
	})
	if err != nil {
		return err
	}
	for i, sum := range sums {
		if sum != nil && sum.order == i {
			if err := finish(i, sum.values(len(sels))); err != nil {
				return err
			}
		}
	}
	return nil
}

// pairJobs puts the jobs of two selections about the same partition together, in
// the order of epochs and partitions.
func pairJobs(sides [2][]*job) (out [][2]*job) {
	key := func(j *job) uint64 { return uint64(j.epoch)<<32 | uint64(j.partition) }
	at := map[uint64]int{}
	for s, jobs := range sides {
		for _, j := range jobs {
			i, ok := at[key(j)]
			if !ok {
				i = len(out)
				at[key(j)] = i
				out = append(out, [2]*job{})
			}
			out[i][s] = j
		}
	}
	slices.SortFunc(out, func(a, b [2]*job) int {
		return cmp.Compare(key(cmp.Or(a[0], a[1])), key(cmp.Or(b[0], b[1])))
	})
	return out
}

// left is the left side of a comparison, which is not used any more.
func left(d *profile.DiffTree) *profile.Tree {
	t := &profile.Tree{Names: d.Names, Nodes: make([]profile.Node, len(d.Nodes)), Rest: d.Rest, Functions: d.Functions}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		t.Nodes[i] = profile.Node{Parent: n.Parent, Name: n.Name, Self: n.Self, Total: n.Total}
	}
	putBack(&diffNodes, &diffNodeList{d.Nodes}, cap(d.Nodes)*40)
	return t
}

// parts collect the values of partitions, in as much memory as there is: where
// it ends, those that are there are added up into one. They are safe for
// concurrent use.
type parts struct {
	ctx   context.Context
	sides int

	mu    sync.Mutex
	list  []orderedPart
	total [2]int64 // of all that were added
	hold  hold
}

type orderedPart struct {
	order int
	*callValues
}

func (db *DB) newParts(ctx context.Context, sides int) *parts {
	return &parts{ctx: ctx, sides: sides, hold: db.memory.hold()}
}

// add takes a part, which has its place among the others.
func (p *parts) add(order int, c *callValues) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, total := range c.totals(0) {
		if p.total[s] += total; p.total[s] < 0 {
			c.free()
			return errOverflow()
		}
	}
	if p.hold.try(c.bytes()) {
		p.list = append(p.list, orderedPart{order, c})
		return nil
	}
	one, err := collapse(append(p.sorted(), c), p.sides)
	for _, o := range p.list {
		order = min(order, o.order)
	}
	p.list = append(p.list[:0], orderedPart{order, one})
	p.hold.release()
	if err != nil {
		return err
	}
	return p.hold.wait(p.ctx, one.bytes())
}

// sorted are the parts in their order.
func (p *parts) sorted() []*callValues {
	slices.SortFunc(p.list, func(a, b orderedPart) int { return cmp.Compare(a.order, b.order) })
	out := make([]*callValues, len(p.list))
	for i, o := range p.list {
		out[i] = o.callValues
	}
	return out
}

// functions is the tree of all parts, cut by functions if maxNodes are enough for that;
// else as largest does. With keepRoot the root counts.
func (p *parts) functions(maxNodes int64, keepRoot bool) (*profile.DiffTree, error) {
	if len(p.list) > 1 {
		list, order := p.sorted(), p.list[0].order
		p.list = p.list[:0]
		one, err := collapse(list, p.sides)
		if err != nil {
			return nil, err
		}
		p.list = append(p.list, orderedPart{order, one})
	}
	calls := maxNodes
	if keepRoot {
		calls--
	}
	if len(p.list) > 0 && calls > 0 {
		if cut, _ := profile.TruncateFunctions(callTree{p.list[0].callValues}, calls); cut != nil {
			return cut, nil
		}
	}
	return largest(p.sorted(), maxNodes, keepRoot), nil
}

// A callTree shows the calls of a part as a profile.CallTree.
type callTree struct{ *callValues }

func (c callTree) Len() int { return len(c.ranks) }
func (c callTree) Call(i int32) (caller, name int32) {
	k := c.view.calls[i]
	return int32(k.parent), int32(k.name)
}
func (c callTree) Next(i int32) (callee, sibling int32) { return c.ranks[i].child, c.ranks[i].next }
func (c callTree) Self(i int32) [2]int64                { return c.selves(i) }
func (c callTree) Total(i int32) [2]int64               { return c.totals(i) }
func (c callTree) Names() []string                      { return c.view.strings }

// whole is the tree of all parts.
func (p *parts) whole() *profile.Tree {
	trees := make([]*profile.Tree, len(p.list))
	for i, c := range p.sorted() {
		trees[i] = c.tree()
	}
	if len(trees) == 1 {
		return trees[0]
	}
	return profile.Merge(trees...)
}

func (p *parts) free() {
	for _, c := range p.list {
		c.free()
	}
	p.list = nil
	p.hold.release()
}

// tree makes a tree of the calls that have a value.
func (c *callValues) tree() *profile.Tree {
	return left(c.largest(int64(len(c.ranks))))
}

// below marks the calls of stacktraces that begin with a call site.
func (v *view) below(callSite []string) []bool {
	in := make([]bool, len(v.calls))
	depth := make([]int32, len(v.calls)) // how much of the call site was met, -1 for none
	for i := 1; i < len(v.calls); i++ {
		c := v.calls[i]
		d := depth[c.parent]
		switch {
		case in[c.parent]:
			in[i] = true
		case d >= 0 && v.strings[c.name] == callSite[d]:
			depth[i] = d + 1
			in[i] = int(d)+1 == len(callSite)
		default:
			depth[i] = -1
		}
	}
	return in
}

// within tells which nodes are of stacktraces that begin with a call site; nil for all
// if there is none.
func (v *view) within(callSite []string) func(node uint32) bool {
	return v.withinCalls(v.callOf, callSite)
}

// withinCalls is within for nodes of which the view knows the calls alone.
func (v *view) withinCalls(callOf []uint32, callSite []string) func(node uint32) bool {
	if len(callSite) == 0 {
		return nil
	}
	below := sync.OnceValue(func() []bool { return v.below(callSite) })
	return func(node uint32) bool { return below()[callOf[node]] }
}

// filterCalls leaves the values of stacktraces that begin with a call site.
func (v *view) filterCalls(self []int64, callSite []string) {
	in := v.below(callSite)
	for i := range self {
		if !in[i] {
			self[i] = 0
		}
	}
}
