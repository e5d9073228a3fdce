package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// A mergeTask is an hour, or a day, of a stream with windows that can be merged.
type mergeTask struct {
	stream *labelindex.Stream
	hour   uint8
	slots  uint16 // to merge
	rest   uint16 // to leave for later
	over   bool   // the hour is over, and its row can be made too
	gen    uint64
}

// due lists the hours with windows to merge.
func (e *epoch) due(now int64, quiet time.Duration) (tasks []mergeTask) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.dropped {
		return nil
	}
	base := layout.EpochStart(e.id)
	for id, o := range e.open {
		if id.hour == wholeDay || o.flying > 0 {
			continue
		}
		t := mergeTask{stream: e.live[id.stream], hour: id.hour, gen: o.gen}
		start := base + int64(id.hour)*layout.HourMs
		t.over = start+layout.HourMs <= now
		for i := range uint(layout.SlotsPerHour) {
			bit := o.dirty & (1 << i)
			if start+int64(i+1)*layout.SlotMs <= now && o.last[i].ago() >= quiet {
				t.slots |= bit
			} else {
				t.rest |= bit
			}
		}
		t.over = t.over && t.rest == 0
		if t.slots != 0 || t.over {
			tasks = append(tasks, t)
		}
	}
	// An aggregate's windows are made of those of its streams.
	slices.SortFunc(tasks, func(a, b mergeTask) int {
		return cmp.Or(cmpBool(a.stream.Def.IsAggregate(), b.stream.Def.IsAggregate()), cmp.Compare(a.stream.Partition, b.stream.Partition))
	})
	return tasks
}

// cmpBool orders false before true.
func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// writeMerged writes the batch with the merged rows of a task, and what is left to merge.
// It does nothing if a profile came since the task was found: it is found again.
func (e *epoch) writeMerged(b *pebble.Batch, t mergeTask) (written bool, err error) {
	e.grow.Lock()
	defer e.grow.Unlock()
	id := hourID{t.stream.ID, t.hour}
	e.mu.RLock()
	o := e.open[id]
	changed := o == nil || o.gen != t.gen || o.flying > 0 || e.dropped
	e.mu.RUnlock()
	if changed {
		return false, nil
	}
	if t.over {
		b.Delete(layout.DirtyKey(e.id, t.stream.ID, t.hour), nil)
	} else {
		e.mark(b, t.stream, t.hour, t.rest)
	}
	if err := e.set.kv.Commit(b, pebble.NoSync); err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.dirty = t.rest; t.over {
		delete(e.open, id)
		e.keep()
	}
	return true, nil
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

// tryRefuse refuses appends up to a time, which ends an hour, and reports whether
// none are under way.
func (e *epoch) tryRefuse(to int64) bool {
	e.grow.Lock() // nobody is between asking and being counted
	defer e.grow.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = max(e.refused, to)
	for id, o := range e.open {
		if o.flying > 0 && id.hour != wholeDay && layout.EpochStart(e.id)+int64(id.hour)*layout.HourMs < to {
			return false
		}
	}
	return true
}

// allMerged returns an error if windows are not merged whose rows are to be dropped.
func (e *epoch) allMerged(to watermark.Hours) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for id := range e.open {
		if id.hour < to[layout.LevelFine] || id.hour == wholeDay && to[layout.LevelHour] > 0 {
			return fmt.Errorf("drop rows of epoch %d: hour %d of stream %d is not merged", e.id, id.hour, id.stream)
		}
	}
	if e.days > 0 && to[layout.LevelHour] > 0 {
		return fmt.Errorf("drop rows of epoch %d: days are not merged", e.id)
	}
	return nil
}

// taskErrors are what went wrong with the tasks of an epoch, which may be as many as
// it has streams.
type taskErrors struct {
	first []error
	more  int
}

func (e *taskErrors) add(err error) {
	const most = 3
	switch {
	case err == nil:
	case len(e.first) < most:
		e.first = append(e.first, err)
	default:
		e.more++
	}
}

func (e *taskErrors) join() error {
	if e.more > 0 {
		return errors.Join(append(e.first, fmt.Errorf("and %d errors more", e.more))...)
	}
	return errors.Join(e.first...)
}
