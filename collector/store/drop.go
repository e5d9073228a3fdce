package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

func epochRange(id uint32) pebble.KeyRange {
	return pebble.KeyRange{Start: epochKey(id), End: epochKey(id + 1)}
}

func prefixRange(prefix []byte) pebble.KeyRange {
	return pebble.KeyRange{Start: prefix, End: after(prefix)}
}

// levelRanges are the keys that go with all rows of a level of an epoch. Points of
// an hour stay, so that series keep every profile's time.
func levelRanges(epoch uint32, level int) []pebble.KeyRange {
	ranges := []pebble.KeyRange{prefixRange(levelPrefix(epoch, kindRow, level))}
	switch level {
	case levelFine: // late profiles are refused, and with them duplicates
		ranges = append(ranges, prefixRange(kindKey(epoch, kindID)), prefixRange(kindKey(epoch, kindSpans)))
	case levelSlot:
		ranges = append(ranges, prefixRange(levelPrefix(epoch, kindPoints, level)))
	}
	return ranges
}

// dropEpoch deletes an epoch, once the appends to it have ended. Queries that
// run go on to see it.
func (db *DB) dropEpoch(ctx context.Context, id uint32, why string) error {
	u, err := db.epoch(id)
	if err != nil {
		return err
	}
	defer u.release()
	e := u.value
	if err := retry(ctx, e.tryDrop); err != nil {
		e.takeAgain()
		return err
	}
	// In this order: who finds no dictionary finds that the epoch is gone.
	db.mu.Lock()
	delete(db.epochs, id)
	db.mu.Unlock()
	b := db.pebble.NewBatch()
	defer b.Close()
	r := epochRange(id)
	if err = errors.Join(b.DeleteRange(r.Start, r.End, nil), db.commit(b, pebble.NoSync)); err != nil {
		db.mu.Lock()
		db.epochs[id] = true
		db.mu.Unlock()
		return fmt.Errorf("drop epoch %d: %w", id, err)
	}
	db.dropped = append(db.dropped, droppedRange{r, b.SeqNum()})
	db.setHorizon(id, horizon{})
	db.cache.drop(id)
	db.metrics.droppedEpochs.Inc()
	db.log.Info("dropped a day of profiles", "day", time.UnixMilli(epochStart(id)).UTC().Format(time.DateOnly), "reason", why)
	return nil
}

// retry calls try, which waits for appends to end, until it succeeds or ctx ends.
func retry(ctx context.Context, try func() bool) error {
	const pause = time.Millisecond
	for !try() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}

// takeAgain takes appends after a tryDrop that found some under way.
func (e *epoch) takeAgain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropped = false
}

// tryDrop refuses new appends and reports whether none are under way.
func (e *epoch) tryDrop() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropped = true
	if e.writers == 0 {
		clear(e.open)
	}
	return e.writers == 0
}

// dropLevels deletes the rows of each level in the first hours of an epoch, after
// what they say was merged into coarser rows. From then on appends to the hours of
// the finest level are refused, since merged rows could not be made again.
// Queries that run go on to see all.
func (db *DB) dropLevels(ctx context.Context, id uint32, to horizonHours, why string, now time.Time) error {
	from := db.horizonOf(id).hours(id)
	for level := levelHour; level >= levelFine; level-- {
		if to[level] = max(to[level], from[level]); level < levelHour {
			to[level] = max(to[level], to[level+1])
		}
	}
	if to == from {
		return nil
	}
	u, err := db.epoch(id)
	if err != nil {
		return err
	}
	defer u.release()
	e := u.value
	if e.unreadableMarks {
		return fmt.Errorf("%w: marks of windows to be merged cannot be read, so the rows they need are kept; see `flameline store repair`", ErrCorrupt)
	}
	if err := retry(ctx, func() bool { return e.tryRefuse(to.times(id)[levelFine]) }); err != nil {
		return err
	}
	if err := db.mergeAhead(ctx, e, to, now); err != nil {
		return err
	}
	b := db.pebble.NewBatch()
	defer b.Close()
	var whole []pebble.KeyRange
	for level := range to {
		switch to[level] {
		case from[level]:
		case hoursPerEpoch:
			for _, r := range levelRanges(id, level) {
				if err := b.DeleteRange(r.Start, r.End, nil); err != nil {
					return err
				}
				whole = append(whole, r)
			}
		default:
			if err := db.deleteHours(e, b, level, from[level], to[level]); err != nil {
				return err
			}
		}
	}
	b.Set(horizonKey(id), to.append(nil), nil)
	// In this order: a snapshot that has not all rows has a horizon that says so.
	// What they say is merged, so it does no harm if the horizon is first.
	db.setHorizon(id, to.times(id))
	if err := db.commit(b, pebble.NoSync); err != nil {
		db.setHorizon(id, from.times(id))
		return fmt.Errorf("drop rows of epoch %d: %w", id, err)
	}
	for _, r := range whole {
		db.dropped = append(db.dropped, droppedRange{r, b.SeqNum()})
	}
	db.metrics.droppedLevels.Inc()
	db.log.Info("dropped rows of finer resolutions", "day", time.UnixMilli(epochStart(id)).UTC().Format(time.DateOnly),
		"hours_raw", to[levelFine], "hours_5m", to[levelSlot], "hours_1h", to[levelHour], "reason", why)
	return nil
}

// deleteHours deletes the rows and points of a level between two hours.
func (db *DB) deleteHours(e *epoch, b *pebble.Batch, level int, from, to uint8) error {
	streams, err := db.streamsIn(e, from, to)
	if err != nil {
		return err
	}
	// From the start of the day on, so that a deletion takes the place of the one
	// before it.
	lo, hi := epochStart(e.id)+1, epochStart(e.id)+int64(to)*hourMs+1
	for _, s := range streams {
		kinds := []byte{kindRow, kindPoints}
		if level == levelFine {
			kinds[1] = kindSpans
		}
		for _, kind := range kinds {
			if err := b.DeleteRange(windowKey(e.id, kind, level, s, lo), windowKey(e.id, kind, level, s, hi), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// streamsIn lists the streams that have profiles in some hours, and those of their
// families.
func (db *DB) streamsIn(e *epoch, from, to uint8) (ids []uint32, err error) {
	var seen streamSet
	add := func(id uint32) {
		if seen.add(id) {
			ids = append(ids, id)
		}
	}
	families := map[familyKey]kind{}
	for hour := from; hour < to; hour++ {
		err := db.eachTableOf(e, hour, func(t *table) error {
			for row, id := range t.streams {
				add(id)
				k := t.kinds[t.kindOf[row]]
				families[familyKey{t.partitions[row], string(k.def.append(nil))}] = k
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for key, k := range families {
		id, ok, err := db.findFamily(e.id, key.partition, &k)
		if err != nil {
			return nil, err
		}
		if ok {
			add(id)
		}
	}
	return ids, nil
}

// tryRefuse refuses appends up to a time, which ends an hour, and reports whether
// none are under way.
func (e *epoch) tryRefuse(to int64) bool {
	e.grow.Lock() // nobody is between asking and being counted
	defer e.grow.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = max(e.refused, to)
	for id, o := range e.open {
		if o.flying > 0 && id.hour != wholeDay && epochStart(e.id)+int64(id.hour)*hourMs < to {
			return false
		}
	}
	return true
}

// mergeAhead merges all windows that need the rows which are to be dropped. The
// caller has made appends to them end.
func (db *DB) mergeAhead(ctx context.Context, e *epoch, to horizonHours, now time.Time) error {
	members := newMemberLists(db, e)
	for _, t := range e.due(now.UnixMilli(), 0) {
		if t.hour >= to[levelFine] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := db.mergeWindows(ctx, e, t, members); err != nil {
			return err
		}
	}
	if to[levelHour] > 0 {
		if err := db.mergeDays(ctx, e, now.UnixMilli(), 0); err != nil {
			return err
		}
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for id := range e.open {
		if id.hour < to[levelFine] || id.hour == wholeDay && to[levelHour] > 0 {
			return fmt.Errorf("drop rows of epoch %d: hour %d of stream %d is not merged", e.id, id.hour, id.stream)
		}
	}
	if e.days > 0 && to[levelHour] > 0 {
		return fmt.Errorf("drop rows of epoch %d: days are not merged", e.id)
	}
	return nil
}
