package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/layout"
)

// epochFailed takes the error of what was done about an epoch, and returns one if
// nothing more can be done about others.
type epochFailed func(id uint32, what string, err error) (end error)

// retain drops what is too old, and then the oldest while all together takes more
// than the size allowed. What fails about one epoch is told to failed.
func (mt *maintainer) retain(ctx context.Context, now time.Time, failed epochFailed) error {
	for _, id := range mt.epochs.Between(0, math.MaxInt64) {
		if err := failed(id, "drop rows", mt.outlive(ctx, id, now)); err != nil {
			return err
		}
	}
	if err := mt.shrink(ctx, now, failed); err != nil {
		return err
	}
	return mt.reclaim(ctx)
}

// outlive drops what is too old of an epoch.
func (mt *maintainer) outlive(ctx context.Context, id uint32, now time.Time) error {
	if mt.epochs.Retention.Expired(id, now) {
		return mt.dropEpoch(ctx, id, "age")
	}
	return mt.dropLevels(ctx, id, mt.epochs.Retention.Outlived(id, now), "age", now)
}

// shrink drops the oldest until the rest is not larger than allowed. In the place of
// what cannot be dropped goes what is next.
func (mt *maintainer) shrink(ctx context.Context, now time.Time, failed epochFailed) error {
	stuck := map[uint32]bool{}
	for mt.epochs.Retention.MaxBytes.Load() > 0 {
		ids := mt.epochs.Between(0, math.MaxInt64)
		total := int64(0)
		for _, id := range ids {
			n, err := mt.keptBytes(id)
			if err := failed(id, "size", err); err != nil {
				return err
			}
			total += n
		}
		if total <= mt.epochs.Retention.MaxBytes.Load() {
			return nil
		}
		id, drop := mt.oldest(ctx, ids, stuck, now)
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
func (mt *maintainer) oldest(ctx context.Context, ids []uint32, stuck map[uint32]bool, now time.Time) (id uint32, drop func() error) {
	for level := layout.LevelFine; level <= layout.LevelSlot; level++ {
		for _, id := range ids {
			h := mt.epochs.Watermarks.Of(id)
			if h[level] == layout.HoursPerEpoch || !mt.epochs.Retention.Old(id, now) || stuck[id] {
				continue
			}
			h[level] = layout.HoursPerEpoch
			return id, func() error { return mt.dropLevels(ctx, id, h, "size", now) }
		}
	}
	for i, id := range ids {
		if !stuck[id] && i < len(ids)-1 {
			return id, func() error { return mt.dropEpoch(ctx, id, "size") }
		}
	}
	return 0, nil
}

// keptBytes is the size on disk of an epoch without what was dropped of it, which
// may be there until no query can see it and compaction has passed.
func (mt *maintainer) keptBytes(id uint32) (int64, error) {
	n, err := mt.usage(epochRange(id))
	if err != nil {
		return 0, err
	}
	for level, hours := range mt.epochs.Watermarks.Of(id) {
		if hours < layout.HoursPerEpoch {
			continue
		}
		for _, r := range levelRanges(id, level) {
			gone, err := mt.usage(r)
			if err != nil {
				return 0, err
			}
			n -= gone
		}
	}
	return max(n, 0), nil
}

func (mt *maintainer) usage(r pebble.KeyRange) (int64, error) {
	n, err := mt.kv.Pebble.EstimateDiskUsage(r.Start, r.End)
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
func (mt *maintainer) reclaim(ctx context.Context) error {
	for len(mt.dropped) > 0 {
		if mt.kv.FS.Bad.Any() {
			mt.dropped = nil
			return nil
		}
		r := mt.dropped[0]
		if s := mt.kv.Pebble.Metrics().Snapshots; s.Count > 0 && s.EarliestSeqNum <= r.at {
			return nil
		}
		ctx, cancel := context.WithCancel(ctx)
		keep := context.AfterFunc(mt.kv.FS.Bad.Some, cancel)
		err := mt.kv.Guard(func() error { return mt.kv.Pebble.Compact(ctx, r.Start, r.End, false) })
		keep()
		cancel()
		if err != nil && !mt.kv.FS.Bad.Any() {
			return fmt.Errorf("compact %x: %w", r.Start, err)
		}
		mt.dropped = mt.dropped[1:]
	}
	return nil
}
