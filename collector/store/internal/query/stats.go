package query

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/scan"
)

// Stats say what the store holds.
type Stats struct {
	Oldest, Newest int64 // times of profiles, ms; 0 if there are none
	Profiles       bool  // whether there are any
}

// Stats returns what the store holds.
func (q *Queries) Stats(ctx context.Context) (s Stats, err error) {
	ids := q.e.Epochs.Between(0, math.MaxInt64)
	find := func(ids iter.Seq2[int, uint32], last bool) (edge int64, err error) {
		for _, id := range ids { // most often the first one
			if edge, err = q.e.edge(ctx, id, last); edge != 0 || err != nil {
				break
			}
		}
		return edge, err
	}
	err = q.e.Call("stats", func() error {
		if s.Oldest, err = find(slices.All(ids), false); err == nil {
			s.Newest, err = find(slices.Backward(ids), true)
		}
		return err
	})
	s.Profiles = s.Oldest != 0
	return s, err
}

// edge is the time of an epoch's first or last profile, 0 if it has none. It
// looks at the streams that have profiles in the epoch's first or last slot.
func (q *Engine) edge(ctx context.Context, id uint32, last bool) (edge int64, err error) {
	e, err := q.Epochs.Acquire(id)
	if err != nil {
		return 0, err
	}
	defer e.Release()
	set, err := q.Epochs.ActiveSlots(e.Value)
	if err != nil {
		return 0, err
	}
	slot, ok := set.Edge(last)
	if !ok {
		return 0, nil
	}
	streams, err := q.Epochs.ActiveIn(e.Value, slot)
	if err != nil {
		return 0, err
	}
	from := q.Epochs.Snapshot()
	s := scan.New(ctx, q.KV, from, id)
	defer func() { err = errors.Join(err, s.Close(), from.Close()) }()
	lo := layout.EpochStart(id) + int64(slot)*layout.SlotMs
	var points scan.PointReader
	for _, st := range streams {
		see := func(t int64) {
			if edge == 0 || last && t > edge || !last && t < edge {
				edge = t
			}
		}
		err := s.Stream(layout.KindPoints, layout.LevelFine, st, lo, lo+layout.SlotMs, func(w scan.Window) error {
			in, err := points.Read(w, 0, lo, lo+layout.SlotMs)
			if n := len(in.Times); n > 0 {
				see(in.Times[0])
				see(in.Times[n-1])
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return edge, nil
}
