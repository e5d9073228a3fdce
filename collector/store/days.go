package store

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/kv"
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

// dirtyDays counts what made days of streams dirty; 0 says that none is.
func (e *epoch) dirtyDays() uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.days
}

// cleanDays notes that all days are merged, unless one became dirty since dirtyDays.
func (e *epoch) cleanDays(counted uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.days == counted {
		e.days = 0
		e.keep()
	}
}

// dirtyDays lists some streams of an epoch whose day is to be merged, from one on.
func (es *epochSet) dirtyDays(epoch, from uint32) (ids []uint32, err error) {
	full := errors.New("full")
	lower := layout.DirtyKey(epoch, from, 0)
	err = es.kv.EachBetween(lower, layout.After(layout.KindKey(epoch, layout.KindDirty)), func(key, _ []byte) error {
		if len(key) == len(lower) && key[9] == wholeDay {
			ids = append(ids, binary.BigEndian.Uint32(key[5:]))
		}
		if len(ids) == 1024 {
			return full
		}
		return nil
	})
	if errors.Is(err, full) {
		err = nil
	}
	return ids, kv.WithoutGaps(err)
}

// dueDay is the task of merging a stream's day, if it can be done.
func (e *epoch) dueDay(id uint32, quiet time.Duration) (t mergeTask, ok bool, err error) {
	e.mu.Lock()
	s, err := e.revive(id)
	e.mu.Unlock()
	if err != nil {
		return t, false, err
	}
	if s == nil { // nobody can ask for it
		err := e.set.kv.Delete(layout.DirtyKey(e.id, id, wholeDay), pebble.NoSync)
		return t, false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for hour := range uint8(layout.HoursPerEpoch) {
		if e.dropped || e.open[hourID{id, hour}] != nil {
			return t, false, nil
		}
	}
	o := e.openHour(s, wholeDay)
	o.dirty = 1
	if o.flying > 0 || o.last[0].ago() < quiet {
		return t, false, nil
	}
	return mergeTask{stream: s, hour: wholeDay, over: true, gen: o.gen}, true, nil
}
