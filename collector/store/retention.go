package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// fineSteps is the retention of a level from which on its rows are dropped by
// whole days, not by the hour. A day is one range of keys; an hour is one range for
// every stream, and cuts through every file.
const fineSteps = 3 * 24 * time.Hour

// untouched is for how long retention by size leaves rows of every level.
const untouched = 24 * time.Hour

// expired reports whether an epoch is older than the retention.
func (db *DB) expired(epoch uint32, now time.Time) bool {
	return db.options.Retention > 0 && layout.EpochStart(epoch)+layout.DayMs < now.Add(-db.options.Retention).UnixMilli()
}

// old reports whether retention by size may drop rows of single levels.
func (db *DB) old(epoch uint32, now time.Time) bool {
	return layout.EpochStart(epoch)+layout.DayMs <= now.Add(-untouched).UnixMilli()
}

// retentionOf is how long rows of a level are kept; 0 for good. None is kept for
// longer than those of a coarser one.
func (o *Options) retentionOf(level int) time.Duration {
	keep := o.Retention
	for l, r := range []time.Duration{layout.LevelFine: o.RetentionRaw, layout.LevelSlot: o.RetentionSlot, layout.LevelHour: o.RetentionHour} {
		if l >= level && r > 0 && (keep == 0 || r < keep) {
			keep = r
		}
	}
	return keep
}

// outlived are the hours of an epoch whose rows are too old.
func (o *Options) outlived(epoch uint32, now time.Time) (h watermark.Hours) {
	for level := range h {
		keep := o.retentionOf(level)
		if keep == 0 {
			continue
		}
		hours := (now.Add(-keep).UnixMilli() - layout.EpochStart(epoch)) / layout.HourMs
		switch {
		case hours >= layout.HoursPerEpoch:
			h[level] = layout.HoursPerEpoch
		case hours > 0 && keep < fineSteps && level < layout.LevelHour:
			h[level] = uint8(hours)
		}
	}
	return h
}

// epochFailed takes the error of what was done about an epoch, and returns one if
// nothing more can be done about others.
type epochFailed func(id uint32, what string, err error) (end error)

// retain drops what is too old, and then the oldest while all together takes more
// than the size allowed. What fails about one epoch is told to failed.
func (db *DB) retain(ctx context.Context, now time.Time, failed epochFailed) error {
	for _, id := range db.epochsBetween(0, math.MaxInt64) {
		if err := failed(id, "drop rows", db.outlive(ctx, id, now)); err != nil {
			return err
		}
	}
	if err := db.shrink(ctx, now, failed); err != nil {
		return err
	}
	return db.reclaim(ctx)
}

// outlive drops what is too old of an epoch.
func (db *DB) outlive(ctx context.Context, id uint32, now time.Time) (err error) {
	defer db.kv.Recover(&err)
	if db.expired(id, now) {
		return db.dropEpoch(ctx, id, "age")
	}
	return db.dropLevels(ctx, id, db.options.outlived(id, now), "age", now)
}

// shrink drops the oldest until the rest is not larger than allowed. In the place of
// what cannot be dropped goes what is next.
func (db *DB) shrink(ctx context.Context, now time.Time, failed epochFailed) error {
	stuck := map[uint32]bool{}
	for db.maxBytes.Load() > 0 {
		ids := db.epochsBetween(0, math.MaxInt64)
		total := int64(0)
		for _, id := range ids {
			n, err := db.keptBytes(id)
			if err := failed(id, "size", err); err != nil {
				return err
			}
			total += n
		}
		if total <= db.maxBytes.Load() {
			return nil
		}
		id, drop := db.oldest(ctx, ids, stuck, now)
		if drop == nil {
			return nil
		}
		err := drop()
		stuck[id] = err != nil
		if err := failed(id, "drop rows", err); err != nil {
			return err
		}
	}
	return nil
}

// oldest finds what is worth least, and returns what drops it: the finest rows of the
// oldest day that has any, then the next finer ones, then the oldest day. Days that are
// stuck do not count. If all that is left is the newest day, there is nothing to drop.
func (db *DB) oldest(ctx context.Context, ids []uint32, stuck map[uint32]bool, now time.Time) (id uint32, drop func() error) {
	safely := func(fn func() error) func() error {
		return func() (err error) {
			defer db.kv.Recover(&err)
			return fn()
		}
	}
	for level := layout.LevelFine; level <= layout.LevelSlot; level++ {
		for _, id := range ids {
			h := db.watermarks.Of(id).Hours(id)
			if h[level] == layout.HoursPerEpoch || !db.old(id, now) || stuck[id] {
				continue
			}
			h[level] = layout.HoursPerEpoch
			return id, safely(func() error { return db.dropLevels(ctx, id, h, "size", now) })
		}
	}
	for i, id := range ids {
		if !stuck[id] && i < len(ids)-1 {
			return id, safely(func() error { return db.dropEpoch(ctx, id, "size") })
		}
	}
	return 0, nil
}

// keptBytes is the size on disk of an epoch without what was dropped of it, which
// may be there until no query can see it and compaction has passed.
func (db *DB) keptBytes(id uint32) (int64, error) {
	n, err := db.usage(epochRange(id))
	if err != nil {
		return 0, err
	}
	for level, hours := range db.watermarks.Of(id).Hours(id) {
		if hours < layout.HoursPerEpoch {
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
	n, err := db.kv.Pebble.EstimateDiskUsage(r.Start, r.End)
	return int64(n), err
}

// A droppedRange is a range of keys without any left. Its space is in use until
// it is compacted.
type droppedRange struct {
	pebble.KeyRange
	at pebble.SeqNum // of the deletion
}

// reclaim gives the space of dropped ranges back, now rather than when compaction
// comes by. What a running query still sees stays for the next time. Beside a corrupt
// table, Pebble may never come to compactions that it is asked for; it deletes tables that
// were dropped as a whole by itself.
func (db *DB) reclaim(ctx context.Context) error {
	for len(db.dropped) > 0 {
		if db.kv.FS.Bad.Any() {
			db.dropped = nil
			return nil
		}
		r := db.dropped[0]
		if s := db.kv.Pebble.Metrics().Snapshots; s.Count > 0 && s.EarliestSeqNum <= r.at {
			return nil
		}
		err := db.kv.Guard(func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				select {
				case <-db.kv.FS.Bad.Found():
					cancel()
				case <-ctx.Done():
				}
			}()
			return db.kv.Pebble.Compact(ctx, r.Start, r.End, false)
		})
		if err != nil && !db.kv.FS.Bad.Any() {
			return fmt.Errorf("compact %x: %w", r.Start, err)
		}
		db.dropped = db.dropped[1:]
	}
	return nil
}
