package store

import (
	"context"
	"time"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// mergeDays merges the days of an epoch that is over. Which streams it has is
// read from the marks on disk: they may be many.
func (mt *maintainer) mergeDays(ctx context.Context, e *epochs.Epoch, now int64, quiet time.Duration) error {
	days := e.DirtyDays()
	if days == 0 || layout.EpochStart(e.ID)+layout.DayMs > now {
		return nil
	}
	ids, err := mt.epochs.StreamsOfDirtyDays(e.ID)
	if err != nil {
		return err
	}
	left := false
	var errs epochs.TaskErrors
	contributors := &contributorLists{epoch: e}
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, ok, err := e.DueDay(id, quiet)
		if err == nil && ok {
			err = mt.mergeWindows(ctx, e, t, contributors)
		}
		errs.Add(err)
		left = left || !ok || err != nil
		if i%1024 == 1023 { // those that were merged take memory
			e.Evict(quiet)
		}
	}
	if !left {
		e.CleanDays(days)
	}
	return errs.Join()
}
