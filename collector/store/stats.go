package store

import (
	"context"
	"errors"
	"math"
)

// Stats say what the store holds.
type Stats struct {
	Oldest, Newest int64 // times of profiles, ms; 0 if there are none
	Profiles       bool  // whether there are any
}

// Stats returns what the store holds.
func (db *DB) Stats(ctx context.Context) (s Stats, err error) {
	defer func() {
		if db.heal(err) {
			s, err = db.Stats(ctx)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return Stats{}, err
	}
	defer leave()
	defer db.metrics.query("stats")()
	ids := db.epochsBetween(0, math.MaxInt64)

	for _, id := range ids { // most often the first one
		if s.Oldest, err = db.edge(ctx, id, false); err != nil {
			return Stats{}, err
		}
		if s.Oldest != 0 {
			break
		}
	}
	for i := len(ids) - 1; i >= 0; i-- {
		if s.Newest, err = db.edge(ctx, ids[i], true); err != nil {
			return Stats{}, err
		}
		if s.Newest != 0 {
			break
		}
	}
	s.Profiles = s.Oldest != 0
	return s, nil
}

// edge is the time of an epoch's first or last profile, 0 if it has none. It
// looks at the streams that have profiles in the epoch's first or last slot.
func (db *DB) edge(ctx context.Context, id uint32, last bool) (edge int64, err error) {
	e, err := db.epoch(id)
	if err != nil {
		return 0, err
	}
	defer e.release()
	slot, streams := e.value.edgeSlot(last)
	s := db.newScanner(ctx, db.pebble, id)
	defer func() { err = errors.Join(err, s.close()) }()
	lo := epochStart(id) + int64(slot)*slotMs
	for _, st := range streams {
		err := s.cover(kindRow, levelFine, st, lo, lo+slotMs, func(_ int, t int64, _ []byte) error {
			if edge == 0 || last && t > edge || !last && t < edge {
				edge = t
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return edge, nil
}

func (e *epoch) edgeSlot(last bool) (slot int, streams []uint32) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	n := hoursPerEpoch * slotsPerHour
	for i := range n {
		slot = i
		if last {
			slot = n - 1 - i
		}
		for _, s := range e.streams {
			if s.active[slot/64]>>(slot%64)&1 == 1 {
				streams = append(streams, s.id)
			}
		}
		if streams != nil {
			break
		}
	}
	return slot, streams
}
