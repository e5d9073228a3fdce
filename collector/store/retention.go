package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// fineSteps is the retention of a level from which on its rows are dropped by
// whole days, not by the hour. A day is one range of keys; an hour is one range for
// every stream, and cuts through every file.
const fineSteps = 3 * 24 * time.Hour

// untouched is for how long retention by size leaves rows of every level.
const untouched = 24 * time.Hour

// expired reports whether an epoch is older than the retention.
func (db *DB) expired(epoch uint32, now time.Time) bool {
	return db.options.Retention > 0 && epochStart(epoch)+dayMs < now.Add(-db.options.Retention).UnixMilli()
}

// old reports whether retention by size may drop rows of single levels.
func (db *DB) old(epoch uint32, now time.Time) bool {
	return epochStart(epoch)+dayMs <= now.Add(-untouched).UnixMilli()
}

// retentionOf is how long rows of a level are kept; 0 for good. None is kept for
// longer than those of a coarser one.
func (o *Options) retentionOf(level int) time.Duration {
	keep := o.Retention
	for l, r := range []time.Duration{levelFine: o.RetentionRaw, levelSlot: o.RetentionSlot, levelHour: o.RetentionHour} {
		if l >= level && r > 0 && (keep == 0 || r < keep) {
			keep = r
		}
	}
	return keep
}

// outlived are the hours of an epoch whose rows are too old.
func (o *Options) outlived(epoch uint32, now time.Time) (h horizonHours) {
	for level := range h {
		keep := o.retentionOf(level)
		if keep == 0 {
			continue
		}
		hours := (now.Add(-keep).UnixMilli() - epochStart(epoch)) / hourMs
		switch {
		case hours >= hoursPerEpoch:
			h[level] = hoursPerEpoch
		case hours > 0 && keep < fineSteps && level < levelHour:
			h[level] = uint8(hours)
		}
	}
	return h
}

// retain drops what is too old, and then the oldest while all together takes more
// than the size allowed.
func (db *DB) retain(ctx context.Context, now time.Time) error {
	for _, id := range db.epochsBetween(0, math.MaxInt64) {
		var err error
		if db.expired(id, now) {
			err = db.dropEpoch(id, "age")
		} else {
			err = db.dropLevels(ctx, id, db.options.outlived(id, now), "age", now)
		}
		if err != nil {
			return err
		}
	}
	if err := db.shrink(ctx, now); err != nil {
		return err
	}
	return db.reclaim(ctx)
}

// shrink drops the oldest until the rest is not larger than allowed.
func (db *DB) shrink(ctx context.Context, now time.Time) error {
	for db.maxBytes.Load() > 0 {
		ids := db.epochsBetween(0, math.MaxInt64)
		total := int64(0)
		for _, id := range ids {
			n, err := db.keptBytes(id)
			if err != nil {
				return fmt.Errorf("size of epoch %d: %w", id, err)
			}
			total += n
		}
		if total <= db.maxBytes.Load() {
			return nil
		}
		if more, err := db.dropOldest(ctx, ids, now); err != nil || !more {
			return err
		}
	}
	return nil
}

// dropOldest drops what is worth least: the finest rows of the oldest day that has
// any, then the next finer ones, then the oldest day. If all that is left is the
// newest day, it drops nothing and reports so.
func (db *DB) dropOldest(ctx context.Context, ids []uint32, now time.Time) (bool, error) {
	for level := levelFine; level <= levelSlot; level++ {
		for _, id := range ids {
			h := db.horizonOf(id).hours(id)
			if h[level] == hoursPerEpoch || !db.old(id, now) {
				continue
			}
			h[level] = hoursPerEpoch
			return true, db.dropLevels(ctx, id, h, "size", now)
		}
	}
	if len(ids) < 2 {
		return false, nil
	}
	return true, db.dropEpoch(ids[0], "size")
}

// keptBytes is the size on disk of an epoch without what was dropped of it, which
// may be there until no query can see it and compaction has passed.
func (db *DB) keptBytes(id uint32) (int64, error) {
	n, err := db.usage(epochRange(id))
	if err != nil {
		return 0, err
	}
	for level, hours := range db.horizonOf(id).hours(id) {
		if hours < hoursPerEpoch {
			continue
		}
		for _, r := range levelRanges(id, level) {
			gone, err := db.usage(r)
			if err != nil {
				return 0, err
			}
			n -= gone
		}
	}
	return max(n, 0), nil
}

func (db *DB) usage(r pebble.KeyRange) (int64, error) {
	n, err := db.pebble.EstimateDiskUsage(r.Start, r.End)
	return int64(n), err
}

// A droppedRange is a range of keys without any left. Its space is in use until
// it is compacted.
type droppedRange struct {
	pebble.KeyRange
	at pebble.SeqNum // of the deletion
}

// reclaim gives the space of dropped ranges back, now rather than when compaction
// comes by. What a running query still sees stays for the next time.
func (db *DB) reclaim(ctx context.Context) error {
	for len(db.dropped) > 0 {
		r := db.dropped[0]
		if s := db.pebble.Metrics().Snapshots; s.Count > 0 && s.EarliestSeqNum <= r.at {
			return nil
		}
		if err := db.guard(func() error { return db.pebble.Compact(ctx, r.Start, r.End, false) }); err != nil {
			return fmt.Errorf("compact %x: %w", r.Start, err)
		}
		db.dropped = db.dropped[1:]
	}
	return nil
}
