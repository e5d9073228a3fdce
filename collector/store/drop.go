package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

func epochRange(id uint32) pebble.KeyRange {
	return pebble.KeyRange{Start: layout.EpochKey(id), End: layout.EpochKey(id + 1)}
}

func prefixRange(prefix []byte) pebble.KeyRange {
	return pebble.KeyRange{Start: prefix, End: layout.After(prefix)}
}

// levelRanges are the keys that go with all rows of a level of an epoch. Points of
// an hour stay, so that series keep every profile's time.
func levelRanges(epoch uint32, level int) []pebble.KeyRange {
	ranges := []pebble.KeyRange{prefixRange(layout.LevelPrefix(epoch, layout.KindRow, level))}
	switch level {
	case layout.LevelFine: // late profiles are refused, and with them duplicates
		ranges = append(ranges, prefixRange(layout.KindKey(epoch, layout.KindID)), prefixRange(layout.KindKey(epoch, layout.KindSpans)))
	case layout.LevelSlot:
		ranges = append(ranges, prefixRange(layout.LevelPrefix(epoch, layout.KindPoints, level)))
	}
	return ranges
}

// dropEpoch deletes an epoch, once the appends to it have ended. Queries that
// run go on to see it.
func (mt *maintainer) dropEpoch(ctx context.Context, id uint32, why string) (err error) {
	defer mt.kv.Recover(&err)
	u, err := mt.epochs.Acquire(id)
	if err != nil {
		return err
	}
	defer u.Release()
	e := u.Value
	if err := retry(ctx, e.TryDrop); err != nil {
		e.TakeAgain()
		return err
	}
	// In this order: who finds no dictionary finds that the epoch is gone.
	mt.epochs.Remove(id)
	b := mt.kv.Pebble.NewBatch()
	defer b.Close()
	r := epochRange(id)
	if err = errors.Join(b.DeleteRange(r.Start, r.End, nil), mt.kv.Commit(b, pebble.NoSync)); err != nil {
		mt.epochs.Add(id)
		return fmt.Errorf("drop epoch %d: %w", id, err)
	}
	mt.dropped = append(mt.dropped, droppedRange{r, b.SeqNum()})
	mt.epochs.Watermarks.Set(id, watermark.Hours{})
	mt.epochs.Cache.Drop(id)
	mt.kv.Metrics.DroppedEpochs.Inc()
	mt.log.Info("dropped a day of profiles", "day", time.UnixMilli(layout.EpochStart(id)).UTC().Format(time.DateOnly), "reason", why)
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

// dropLevels deletes the rows of each level in the first hours of an epoch, after
// what they say was merged into coarser rows. From then on appends to the hours of
// the finest level are refused, since merged rows could not be made again.
// Queries that run go on to see all.
func (mt *maintainer) dropLevels(ctx context.Context, id uint32, to watermark.Hours, why string, now time.Time) (err error) {
	defer mt.kv.Recover(&err)
	from := mt.epochs.Watermarks.Of(id)
	for level := layout.LevelHour; level >= layout.LevelFine; level-- {
		if to[level] = max(to[level], from[level]); level < layout.LevelHour {
			to[level] = max(to[level], to[level+1])
		}
	}
	if to == from {
		return nil
	}
	u, err := mt.epochs.Acquire(id)
	if err != nil {
		return err
	}
	defer u.Release()
	e := u.Value
	if e.UnreadableMarks {
		return fmt.Errorf("%w: marks of windows to be merged cannot be read, so the rows they need are kept; see `flameline store repair`", storeerr.ErrCorrupt)
	}
	if err := retry(ctx, func() bool { return e.TryRefuse(to.Watermark(id)[layout.LevelFine]) }); err != nil {
		return err
	}
	if err := mt.mergeAhead(ctx, e, to, now); err != nil {
		return err
	}
	b := mt.kv.Pebble.NewBatch()
	defer b.Close()
	var whole []pebble.KeyRange
	for level := range to {
		switch to[level] {
		case from[level]:
		case layout.HoursPerEpoch:
			for _, r := range levelRanges(id, level) {
				if err := b.DeleteRange(r.Start, r.End, nil); err != nil {
					return err
				}
				whole = append(whole, r)
			}
		default:
			if err := mt.deleteHours(id, b, level, to[level]); err != nil {
				return err
			}
		}
	}
	b.Set(layout.WatermarkKey(id), to.Append(nil), nil)
	// In this order: a snapshot that lacks rows has a watermark that says so. The rows are
	// merged, so a watermark that is ahead of them does no harm.
	mt.epochs.Watermarks.Set(id, to)
	if err := mt.kv.Commit(b, pebble.NoSync); err != nil {
		mt.epochs.Watermarks.Set(id, from)
		return fmt.Errorf("drop rows of epoch %d: %w", id, err)
	}
	for _, r := range whole {
		mt.dropped = append(mt.dropped, droppedRange{r, b.SeqNum()})
	}
	mt.kv.Metrics.DroppedLevels.Inc()
	mt.log.Info("dropped rows of finer resolutions", "day", time.UnixMilli(layout.EpochStart(id)).UTC().Format(time.DateOnly),
		"hours_raw", to[layout.LevelFine], "hours_5m", to[layout.LevelSlot], "hours_1h", to[layout.LevelHour], "reason", why)
	return nil
}

// deleteHours deletes the rows of a level in the first hours of an epoch, and what goes
// with them, stream by stream.
func (mt *maintainer) deleteHours(id uint32, b *pebble.Batch, level int, to uint8) (err error) {
	kinds := []byte{layout.KindRow, layout.KindPoints}
	if level == layout.LevelFine {
		kinds[1] = layout.KindSpans
	}
	// From the start of the day on, so that a deletion takes the place of the one
	// before it.
	lo, hi := layout.EpochStart(id)+1, layout.EpochStart(id)+int64(to)*layout.HourMs+1
	for _, kind := range kinds {
		prefix := layout.LevelPrefix(id, kind, level)
		it, err := mt.kv.NewIterator(mt.kv.Pebble, prefix, layout.After(prefix))
		if err != nil {
			return err
		}
		for ok := it.SeekGE(prefix); ok && err == nil; {
			t, whole := layout.WindowTime(it.Key())
			if !whole {
				ok = it.Next()
				continue
			}
			stream := layout.KeyStream(it.Key())
			if t < hi {
				err = b.DeleteRange(layout.WindowKey(id, kind, level, stream, lo), layout.WindowKey(id, kind, level, stream, hi), nil)
			}
			ok = it.SeekGE(layout.After(layout.WindowKey(id, kind, level, stream, 0)[:len(prefix)+4]))
		}
		if err := errors.Join(err, it.Error(), it.Close()); err != nil {
			return err
		}
	}
	return nil
}

// mergeAhead merges all windows that need the rows which are to be dropped. The
// caller has made appends to them end.
func (mt *maintainer) mergeAhead(ctx context.Context, e *epochs.Epoch, to watermark.Hours, now time.Time) error {
	contributors := &contributorLists{epoch: e}
	for _, t := range e.Due(now.UnixMilli(), 0) {
		if t.Hour >= to[layout.LevelFine] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := mt.mergeWindows(ctx, e, t, contributors); err != nil {
			return err
		}
	}
	if to[layout.LevelHour] > 0 {
		if err := mt.mergeDays(ctx, e, now.UnixMilli(), 0); err != nil {
			return err
		}
	}
	return e.AllMerged(to)
}
