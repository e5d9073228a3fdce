package query

import (
	"cmp"
	"context"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// Tree is DB.Tree.
func (q *Engine) Tree(ctx context.Context, sel Selection, callSite []string) (tree *profile.Tree, err error) {
	err = q.Memory.Within(ctx, func(h *budget.Reservation) error {
		return scaled(func(scale int64) error {
			partials := newPartials(h, 1)
			defer partials.free()
			answer := answerNodes{sel.MaxNodes, sel.MaxNodes > 0 && sel.Functions}
			scales, err := q.gather(ctx, []Selection{sel}, [][]string{callSite}, partials, answer, scale)
			if err != nil {
				return err
			}
			one, err := partials.tree(answer, false)
			if err != nil {
				return err
			}
			descale(one, scales)
			tree = calltree.Left(one)
			h.Keep(int64(len(tree.Nodes)) * nodeBytes)
			return nil
		})
	})
	return tree, err
}

// Diff is DB.Diff.
func (q *Engine) Diff(ctx context.Context, sels [2]Selection, callSites [2][]string, maxNodes int64) (tree *profile.DiffTree, err error) {
	err = q.Memory.Within(ctx, func(h *budget.Reservation) error {
		return scaled(func(scale int64) error {
			partials := newPartials(h, 2)
			defer partials.free()
			answer := answerNodes{maxNodes, maxNodes > 0 && sels[0].Functions}
			scales, err := q.gather(ctx, sels[:], callSites[:], partials, answer, scale)
			if err != nil {
				return err
			}
			// Pyroscope's encoding of a comparison has the sum of both sides.
			if bitpack.AddTotals(partials.total[0], partials.total[1]) == bitpack.Overflowed {
				return storeerr.ErrOverflow
			}
			if tree, err = partials.tree(answer, true); err != nil {
				return err
			}
			descale(tree, scales)
			h.Keep(int64(len(tree.Nodes)) * nodeBytes)
			return nil
		})
	})
	return tree, err
}

// gather adds the calls of one or two selections to partials: one partial for each
// partition, or for a service of several epochs. It returns what each selection's
// values are times of: the given scale for a state, 1 for a flow.
func (q *Engine) gather(ctx context.Context, sels []Selection, callSites [][]string, partials *partials, answer answerNodes, scale int64) (scales [2]int64, err error) {
	sides, scales, err := q.planSides(ctx, partials.hold, sels, nil, scale)
	if err != nil {
		return scales, err
	}
	return scales, q.gatherJobs(ctx, sels, callSites, sides, partials, answer)
}

// planSides plans one or two selections, with some labels of their streams. It returns
// what the values of each are times of.
func (q *Engine) planSides(ctx context.Context, h *budget.Reservation, sels []Selection, names []string, scale int64) (sides [2][]*Job, scales [2]int64, err error) {
	scales = [2]int64{1, 1}
	for s, sel := range sels {
		if sides[s], err = q.planWith(ctx, sel, &planner{hold: h, names: names}); err == nil {
			scales[s], err = q.planStates(ctx, h, sel, sides[s], scale)
		}
		if err != nil {
			return sides, scales, err
		}
	}
	return sides, scales, nil
}

// gatherJobs is gather of jobs that were planned.
func (q *Engine) gatherJobs(ctx context.Context, sels []Selection, callSites [][]string, sides [2][]*Job, partials *partials, answer answerNodes) error {
	h := partials.hold
	pairs := pairJobs(sides)
	firsts := make([]*Job, len(pairs))
	for i, p := range pairs {
		firsts[i] = cmp.Or(p[0], p[1])
		firsts[i].Order = i
	}
	sums, free, err := q.serviceSums(ctx, firsts)
	defer free()
	if err == nil {
		err = h.Expect(q.expectTree(firsts, sums, len(sels), answer))
	}
	if err != nil {
		return err
	}
	// fill adds a partial whose values fill adds to it. renamed says that several calls of
	// the view may be one.
	fill := func(order int, v *symdb.View, renamed bool, fill func(c *calltree.Values) error) error {
		c, err := partials.begin(v)
		if err != nil {
			return err
		}
		done := false
		defer func() {
			if !done {
				partials.drop(c)
			}
		}()
		if err := fill(c); err != nil {
			return err
		}
		if err := c.Sum(); err != nil {
			return err
		}
		done = true
		if renamed {
			if c, err = partials.combine(c); err != nil {
				return err
			}
		}
		return partials.add(order, c)
	}
	err = q.Run(ctx, h, firsts, func(first *Job, s *JobReader) error {
		defer func() { partials.units(s.unit) }()
		if sum := sums[first.Order]; sum != nil {
			nodeTo, whole, err := s.callsOf(sum.Value, first.partition)
			if err != nil {
				return err
			}
			s.Subtract = whole
			for side, j := range pairs[first.Order] {
				if j == nil {
					continue
				}
				under := sum.Value.View().Under(nodeTo, callSites[side])
				err := s.mergeNodes(j, sels[side], under, len(nodeTo), func(values []int64, _ int64) error {
					return sum.Add(h, side, nodeTo, values)
				})
				if err != nil {
					return err
				}
			}
			return nil
		}
		return s.open(first.partition, func(d *dictionary) error {
			s.Subtract = d.whole
			return fill(first.Order, &d.View, d.renamed, func(c *calltree.Values) error {
				for side, j := range pairs[first.Order] {
					if j == nil {
						continue
					}
					calls := d.Under(d.CallOf, callSites[side])
					for n, node := range calls {
						calls[n] = d.CallOf[node]
					}
					to := target{bitpack.Sums{Values: c.Self[side], Place: calls}, calls != nil}
					if !to.rest {
						to.Place = d.CallOf
					}
					if _, err := s.mergeJob(j, sels[side], to); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	for i, sum := range sums {
		if sum != nil && sum.Order == i {
			err := fill(i, sum.Value.View(), false, func(c *calltree.Values) error {
				for s := range sels {
					copy(c.Self[s], sum.Self[s])
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
