package epochs

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

// A MergeTask is an hour, or a day, of a stream with windows that can be merged.
type MergeTask struct {
	Stream *labelindex.Stream
	Hour   uint8
	Slots  uint16 // to merge
	rest   uint16 // to leave for later
	Over   bool   // the hour is over, and its row can be made too
	gen    uint64
}

// Due lists the hours with windows to merge.
func (e *Epoch) Due(now int64, quiet time.Duration) (tasks []MergeTask) {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	if e.dropped {
		return nil
	}
	var sums []MergeTask // of aggregates, whose windows are made of those of their streams
	base := layout.EpochStart(e.ID)
	for id, o := range e.Unmerged {
		if id.Hour == WholeDay || o.inFlight > 0 {
			continue
		}
		t := MergeTask{Stream: e.Live[id.Stream], Hour: id.Hour, gen: o.gen}
		start := base + int64(id.Hour)*layout.HourMs
		t.Over = start+layout.HourMs <= now
		for i := range uint(layout.SlotsPerHour) {
			bit := o.Dirty & (1 << i)
			if start+int64(i+1)*layout.SlotMs <= now && o.last[i].ago() >= quiet {
				t.Slots |= bit
			} else {
				t.rest |= bit
			}
		}
		t.Over = t.Over && t.rest == 0
		switch {
		case t.Slots == 0 && !t.Over:
		case t.Stream.Def.IsAggregate():
			sums = append(sums, t)
		default:
			tasks = append(tasks, t)
		}
	}
	byPartition := func(a, b MergeTask) int { return cmp.Compare(a.Stream.Partition, b.Stream.Partition) }
	slices.SortFunc(tasks, byPartition)
	slices.SortFunc(sums, byPartition)
	return append(tasks, sums...)
}

// WriteMerged writes the batch with the merged rows of a task, and what is left to merge.
// It does nothing if a profile came since the task was found: it is found again.
func (e *Epoch) WriteMerged(b *pebble.Batch, t MergeTask) (written bool, err error) {
	e.grow.Lock()
	defer e.grow.Unlock()
	id := StreamHour{t.Stream.ID, t.Hour}
	e.Mu.RLock()
	o := e.Unmerged[id]
	changed := o == nil || o.gen != t.gen || o.inFlight > 0 || e.dropped
	e.Mu.RUnlock()
	if changed {
		return false, nil
	}
	if t.Over {
		b.Delete(layout.DirtyKey(e.ID, t.Stream.ID, t.Hour), nil)
	} else {
		e.mark(b, t.Stream, t.Hour, t.rest)
	}
	if err := e.Set.KV.Commit(b, pebble.NoSync); err != nil {
		return false, err
	}
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if o.Dirty = t.rest; t.Over {
		delete(e.Unmerged, id)
		e.keep()
	}
	return true, nil
}

// DirtyDays counts what made days of streams dirty; 0 says that none is.
func (e *Epoch) DirtyDays() uint64 {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	return e.days
}

// CleanDays notes that all days are merged, unless one became dirty since dirtyDays.
func (e *Epoch) CleanDays(counted uint64) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if e.days == counted {
		e.days = 0
		e.keep()
	}
}

// StreamsOfDirtyDays lists the streams of an epoch whose day is to be merged.
func (es *Set) StreamsOfDirtyDays(epoch uint32) (ids []uint32, err error) {
	err = es.KV.Each(layout.KindKey(epoch, layout.KindDirty), func(key, _ []byte) error {
		if len(key) == 10 && key[9] == WholeDay {
			ids = append(ids, binary.BigEndian.Uint32(key[5:]))
		}
		return nil
	})
	return ids, kv.WithoutGaps(err)
}

// DueDay is the task of merging a stream's day, if it can be done.
func (e *Epoch) DueDay(id uint32, quiet time.Duration) (t MergeTask, ok bool, err error) {
	e.Mu.Lock()
	s, err := e.load(id)
	e.Mu.Unlock()
	if err != nil {
		return t, false, err
	}
	if s == nil { // nobody can ask for it
		err := e.Set.KV.Delete(layout.DirtyKey(e.ID, id, WholeDay), pebble.NoSync)
		return t, false, err
	}
	e.Mu.Lock()
	defer e.Mu.Unlock()
	for hour := range uint8(layout.HoursPerEpoch) {
		if e.dropped || e.Unmerged[StreamHour{id, hour}] != nil {
			return t, false, nil
		}
	}
	o := e.unmergedHour(s, WholeDay)
	o.Dirty = 1
	if o.inFlight > 0 || o.last[0].ago() < quiet {
		return t, false, nil
	}
	return MergeTask{Stream: s, Hour: WholeDay, Over: true, gen: o.gen}, true, nil
}

// TakeAgain takes appends after a TryDrop that found some under way.
func (e *Epoch) TakeAgain() {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.dropped = false
}

// TryDrop refuses new appends and reports whether none are under way.
func (e *Epoch) TryDrop() bool {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.dropped = true
	if e.writers == 0 {
		clear(e.Unmerged)
	}
	return e.writers == 0
}

// TryRefuse refuses appends up to a time, which ends an hour, and reports whether
// none are under way.
func (e *Epoch) TryRefuse(to int64) bool {
	e.grow.Lock() // nobody is between asking and being counted
	defer e.grow.Unlock()
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.refused = max(e.refused, to)
	for id, o := range e.Unmerged {
		if o.inFlight > 0 && id.Hour != WholeDay && layout.EpochStart(e.ID)+int64(id.Hour)*layout.HourMs < to {
			return false
		}
	}
	return true
}

// AllMerged returns an error if windows are not merged whose rows are to be dropped.
func (e *Epoch) AllMerged(to watermark.Hours) error {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	for id := range e.Unmerged {
		if id.Hour < to[layout.LevelFine] || id.Hour == WholeDay && to[layout.LevelHour] > 0 {
			return fmt.Errorf("drop rows of epoch %d: hour %d of stream %d is not merged", e.ID, id.Hour, id.Stream)
		}
	}
	if e.days > 0 && to[layout.LevelHour] > 0 {
		return fmt.Errorf("drop rows of epoch %d: days are not merged", e.ID)
	}
	return nil
}

// TaskErrors are what went wrong with the first tasks of an epoch that failed. An epoch may
// have as many tasks as streams.
type TaskErrors []error

// Add adds an error, if it is one.
func (e *TaskErrors) Add(err error) {
	if err != nil && len(*e) < 3 {
		*e = append(*e, err)
	}
}

// Join returns the errors, nil if there are none.
func (e *TaskErrors) Join() error { return errors.Join(*e...) }
