package query

import (
	"context"
	"sync/atomic"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/pprofenc"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Pprof is an encoded pprof profile: Data is a Profile message of
// profile.proto, not compressed, with Samples samples.
type Pprof struct {
	Data    []byte
	Samples int
}

// Pprof merges all selected profiles into one pprof profile of one sample type.
// A call site selects stacktraces as in Tree. Its time is the selection's end
// and its duration the selection's length, as in Pyroscope.
func (q *Queries) Pprof(ctx context.Context, sel Selection, callSite []string) (p *Pprof, err error) {
	err = q.e.within(ctx, "pprof", func(h *budget.Reservation) error {
		return scaled(func(scale int64) error {
			p, err = q.e.pprof(ctx, h, sel, callSite, scale)
			return err
		})
	})
	return p, err
}

// pprof is Pprof with memory of a reservation, and a scale to add up states with.
func (q *Engine) pprof(ctx context.Context, h *budget.Reservation, sel Selection, callSite []string, scale int64) (*Pprof, error) {
	jobs, err := q.Plan(ctx, h, sel)
	if err == nil {
		scale, err = q.planStates(ctx, h, sel, jobs, scale)
	}
	if err == nil {
		err = h.Expect(q.expectPprof(jobs))
	}
	if err != nil {
		return nil, err
	}
	m := pprofenc.NewMerge(h, len(jobs) == 1)
	defer m.Free()
	var all atomic.Int64
	err = q.Run(ctx, h, jobs, func(j *Job, s *JobReader) error {
		return s.open(j.partition, func(d *dictionary) error {
			s.Subtract = d.whole
			return s.mergeNodes(j, sel, d.Under(d.CallOf, callSite), len(d.Nodes), func(sums []int64, total int64) error {
				if all.Add(total) < 0 {
					return storeerr.ErrOverflow
				}
				return m.Add(j.Order, &d.View, sums)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	if scale != 1 {
		by := descaler{scale: scale}
		for i, v := range m.Values {
			m.Values[i] = by.of(v)
		}
	}
	w := pprofenc.NewWriter(m)
	if err := h.Take(int64(w.Size)); err != nil {
		return nil, err
	}
	h.Keep(int64(w.Size))
	return &Pprof{Data: w.Write(sel.Type, sel.Start, sel.End), Samples: len(m.Values)}, nil
}
