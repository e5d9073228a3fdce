package query

import (
	"cmp"
	"context"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
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
func (q *Queries) Tree(ctx context.Context, sel Selection, callSite []string) (*profile.Tree, error) {
	answer := answerNodes{most: sel.MaxNodes, functions: sel.Functions}
	tree, err := q.e.tree(ctx, "tree", []Selection{sel}, [][]string{callSite}, answer)
	if err != nil {
		return nil, err
	}
	return calltree.Left(tree), nil
}

// Diff merges two selections and compares them: the left one is what it was, the
// right one what it is. The tree is the one that profile.Diff and Truncate make
// of both whole trees, or TruncateFunctions if the left selection says Functions.
// maxNodes 0 means no limit; MaxNodes of the selections does not count. Errors are
// those of Tree.
func (q *Queries) Diff(ctx context.Context, sels [2]Selection, callSites [2][]string, maxNodes int64) (*profile.DiffTree, error) {
	return q.e.tree(ctx, "diff", sels[:], callSites[:], answerNodes{most: maxNodes, functions: sels[0].Functions, root: true})
}

// tree is Diff of one selection or two.
func (q *Engine) tree(ctx context.Context, name string, sels []Selection, callSites [][]string, answer answerNodes) (tree *profile.DiffTree, err error) {
	err = q.gathered(ctx, name, sels, callSites, answer, func(p *partials, scales [2]int64) error {
		// Pyroscope's encoding of a comparison has the sum of both sides.
		if bitpack.AddTotals(p.total[0], p.total[1]) == bitpack.Overflowed {
			return storeerr.ErrOverflow
		}
		if tree, err = p.tree(answer); err != nil {
			return err
		}
		descale(tree, scales)
		p.hold.Keep(int64(len(tree.Nodes)) * nodeBytes)
		return nil
	})
	return tree, err
}

// gathered runs a query that calls fn with the calls of one or two selections, one partial for each
// partition, or for a service of several epochs, and with what each selection's values
// are times of: a scale for a state, 1 for a flow.
func (q *Engine) gathered(ctx context.Context, name string, sels []Selection, callSites [][]string, answer answerNodes, fn func(p *partials, scales [2]int64) error) error {
	return q.within(ctx, name, func(h *budget.Reservation) error {
		return scaled(func(scale int64) error {
			p := newPartials(h, len(sels))
			defer p.free()
			sides, scales, err := q.planSides(ctx, h, sels, nil, scale)
			if err == nil {
				err = q.gather(ctx, sels, callSites, sides, p, answer)
			}
			if err != nil {
				return err
			}
			return fn(p, scales)
		})
	})
}

// planSides plans one or two selections, with some labels of their streams. It returns
// what the values of each are times of.
func (q *Engine) planSides(ctx context.Context, h *budget.Reservation, sels []Selection, names []string, scale int64) (sides [2][]*Job, scales [2]int64, err error) {
	scales = [2]int64{1, 1}
	for s, sel := range sels {
		if sides[s], err = q.Plan(ctx, h, sel, names...); err == nil {
			scales[s], err = q.planStates(ctx, h, sel, sides[s], scale)
		}
		if err != nil {
			return sides, scales, err
		}
	}
	return sides, scales, nil
}

// gather adds the calls of jobs to partials.
func (q *Engine) gather(ctx context.Context, sels []Selection, callSites [][]string, sides [2][]*Job, partials *partials, answer answerNodes) error {
	pairs := pairJobs(sides)
	firsts := make([]*Job, len(pairs))
	for i, p := range pairs {
		firsts[i] = cmp.Or(p[0], p[1])
		firsts[i].Order = i
	}
	sums, free, err := q.serviceSums(ctx, firsts)
	defer free()
	if err == nil {
		err = partials.hold.Expect(q.expectTree(firsts, len(sels), answer))
	}
	if err != nil {
		return err
	}
	err = q.Run(ctx, partials.hold, firsts, func(first *Job, s *JobReader) error {
		defer func() { partials.units(s.unit) }()
		each := func(fn func(side int, j *Job) error) error {
			for side, j := range pairs[first.Order] {
				if j == nil {
					continue
				}
				if err := fn(side, j); err != nil {
					return err
				}
			}
			return nil
		}
		if sum := sums[first.Order]; sum != nil {
			nodeTo, whole, err := s.callsOf(sum.Value, first.partition)
			if err != nil {
				return err
			}
			s.Subtract = whole
			return each(func(side int, j *Job) error {
				under := sum.Value.View().Under(nodeTo, callSites[side])
				return s.mergeNodes(j, sels[side], under, len(nodeTo), func(values []int64, _ int64) error {
					return sum.Add(s.hold, side, nodeTo, values)
				})
			})
		}
		return s.open(first.partition, func(d *dictionary) error {
			s.Subtract = d.whole
			return partials.add(first.Order, &d.View, d.renamed, func(c *calltree.Values) error {
				return each(func(side int, j *Job) error {
					_, err := s.mergeJob(j, sels[side], d.calls(c.Self[side], callSites[side]))
					return err
				})
			})
		})
	})
	if err != nil {
		return err
	}
	for i, sum := range sums {
		if sum == nil || sum.Order != i {
			continue
		}
		err := partials.add(i, sum.Value.View(), false, func(c *calltree.Values) error {
			for side := range sels {
				copy(c.Self[side], sum.Self[side])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// calls is the target of values by call, of stacktraces that begin with a call site if
// there is one.
func (d *dictionary) calls(values []int64, callSite []string) target {
	under := d.Under(d.CallOf, callSite)
	if under == nil {
		return target{Sums: bitpack.Sums{Values: values, Place: d.CallOf}}
	}
	for n, node := range under {
		under[n] = d.CallOf[node]
	}
	return target{bitpack.Sums{Values: values, Place: under}, true}
}

// pairJobs puts the jobs of two selections about the same partition together, in
// the order of epochs and partitions.
func pairJobs(sides [2][]*Job) (out [][2]*Job) {
	key := func(j *Job) uint64 { return uint64(j.Epoch)<<32 | uint64(j.partition) }
	at := map[uint64]int{}
	for s, jobs := range sides {
		for _, j := range jobs {
			i, ok := at[key(j)]
			if !ok {
				i = len(out)
				at[key(j)] = i
				out = append(out, [2]*Job{})
			}
			out[i][s] = j
		}
	}
	slices.SortFunc(out, func(a, b [2]*Job) int {
		return cmp.Compare(key(cmp.Or(a[0], a[1])), key(cmp.Or(b[0], b[1])))
	})
	return out
}
