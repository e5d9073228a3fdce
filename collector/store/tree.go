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
	err = db.query(ctx, "tree", func(h *hold) error {
		parts := newParts(h, 1)
		defer parts.free()
		err := db.gather(ctx, []Selection{sel}, [][]string{callSite}, parts, answerNodes{sel.MaxNodes, sel.Functions})
		if err == nil {
			tree, err = parts.tree(sel)
		}
		if err == nil {
			h.keep(int64(len(tree.Nodes)) * nodeBytes)
		}
		return err
	})
	return tree, err
}

// Diff merges two selections and compares them: the left one is what it was, the
// right one what it is. The tree is the one that profile.Diff and Truncate make
// of both whole trees, or TruncateFunctions if the left selection says Functions.
// maxNodes 0 means no limit; MaxNodes of the selections does not count. Errors are
// those of Tree.
func (db *DB) Diff(ctx context.Context, sels [2]Selection, callSites [2][]string, maxNodes int64) (tree *profile.DiffTree, err error) {
	err = db.query(ctx, "diff", func(h *hold) error {
		parts := newParts(h, 2)
		defer parts.free()
		functions := maxNodes > 0 && sels[0].Functions
		if err := db.gather(ctx, sels[:], callSites[:], parts, answerNodes{maxNodes, functions}); err != nil {
			return err
		}
		// Pyroscope's encoding of a comparison has the sum of both sides.
		if addTotals(parts.total[0], parts.total[1]) == uncounted {
			return errOverflow()
		}
		most := maxNodes
		if most <= 0 {
			most = 1<<63 - 1
		}
		if functions {
			tree, err = parts.functions(most, true)
		} else {
			tree, err = largest(parts.sorted(), most, true), nil
		}
		if err == nil {
			h.keep(int64(len(tree.Nodes)) * nodeBytes)
		}
		return err
	})
	return tree, err
}

// gather adds the calls of one or two selections to parts: one part for each
// partition, or for a service of several epochs.
func (db *DB) gather(ctx context.Context, sels []Selection, callSites [][]string, parts *parts, answer answerNodes) error {
	h := parts.hold
	var sides [2][]*job
	for s, sel := range sels {
		var err error
		if sides[s], err = db.plan(ctx, h, sel); err == nil {
			err = db.planStates(ctx, h, sel, sides[s])
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
	if err == nil {
		err = h.expect(db.expectTree(firsts, sums, len(sels), answer))
	}
	if err != nil {
		return err
	}
	// fill adds a part whose values fill adds to it.
	fill := func(order int, v *view, fill func(c *callValues) error) error {
		c, err := parts.begin(v)
		if err != nil {
			return err
		}
		done := false
		defer func() {
			if !done {
				parts.drop(c)
			}
		}()
		if err := fill(c); err != nil {
			return err
		}
		for side, callSite := range callSites {
			if len(callSite) > 0 {
				c.view.filterCalls(c.self[side], callSite)
			}
		}
		if err := c.sum(); err != nil {
			return err
		}
		done = true
		return parts.add(order, c)
	}
	err = db.run(ctx, h, firsts, func(first *job, s *scanner) error {
		sum := sums[first.order]
		if sum != nil {
			nodeTo, whole, err := s.nodesOf(sum.value, first.partition)
			if err != nil {
				return err
			}
			s.edges.less = whole
			bytes := int64(len(nodeTo)) * bytesPerSum
			if err := h.take(bytes); err != nil {
				return err
			}
			defer h.give(bytes)
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
				if err := sum.add(h, side, nodeTo, values); err != nil {
					return err
				}
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
		return fill(first.order, &v, func(c *callValues) error {
			for side, j := range pairs[first.order] {
				if j == nil {
					continue
				}
				if _, err := db.mergeJob(s, j, sels[side], nodeSums{c.self[side], v.callOf}, v.within(callSites[side])); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for i, sum := range sums {
		if sum != nil && sum.order == i {
			err := fill(i, sum.value.now(), func(c *callValues) error {
				for s := range sels {
					copy(c.self[s], sum.self[s])
				}
				return nil
			})
			if err != nil {
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
