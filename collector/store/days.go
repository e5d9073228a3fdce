package store

import (
	"context"
	"time"

	"github.com/flameline/flameline/collector/store/internal/layout"
)

// mergeDays merges the days of an epoch that is over. Which streams it has is
// read from the marks on disk, some at a time: they may be many.
func (mt *maintainer) mergeDays(ctx context.Context, e *epoch, now int64, quiet time.Duration) error {
	days := e.dirtyDays()
	if days == 0 || layout.EpochStart(e.id)+layout.DayMs > now {
		return nil
	}
	left := false
	var errs taskErrors
	contributors := newContributorLists(e)
	for from := uint64(0); from < 1<<32; {
		ids, err := mt.epochs.dirtyDays(e.id, uint32(from))
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			break
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			t, ok, err := e.dueDay(id, quiet)
			if err == nil && ok {
				err = mt.mergeWindows(ctx, e, t, contributors)
			}
			errs.add(err)
			left = left || !ok || err != nil
		}
		from = uint64(ids[len(ids)-1]) + 1
		e.retire(quiet)
	}
	if !left {
		e.cleanDays(days)
	}
	return errs.join()
}
