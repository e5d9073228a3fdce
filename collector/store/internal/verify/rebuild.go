package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/bits"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// A rebuild makes an epoch whole that lacks keys, after a repair: as the check of the
// epoch finds something wrong, it deletes what refers to missing keys, and makes anew what
// follows from the rest:
//
//   - names of partitions, and streams of which the index has the definition;
//   - the hashes by which streams are found, and slots that are in no table of the index;
//   - marks of windows that are missing or have less than the rows below them, so that
//     nothing is dropped before it is merged. A window that has more than those stays: it
//     holds profiles that are missing otherwise. Its dictionary is closed, which says so;
//   - which hours have merged rows alone, so that no profile is merged without the others.
//
// Its methods do nothing if it is nil.
type rebuild struct {
	now   time.Time
	batch *pebble.Batch
	err   error
}

// Rebuild makes the epochs of an open store whole, and returns what it left out for it.
func Rebuild(ctx context.Context, db *kv.DB, now time.Time) ([]corruption.Damage, error) {
	c := &checker{ctx: ctx, v: &Verification{}, pebble: db.Pebble}
	for more := true; more; { // what is deleted may be what something else refers to
		r := &rebuild{now: now, batch: db.Pebble.NewBatch()}
		c.rebuild = r
		err := errors.Join(c.values(), r.err)
		if more = !r.batch.Empty(); err == nil && more {
			err = db.Commit(r.batch, pebble.Sync)
		}
		if err = errors.Join(err, r.batch.Close()); err != nil {
			return c.v.Damage, err
		}
	}
	return c.v.Damage, nil
}

func (r *rebuild) set(key, value []byte) {
	if r != nil {
		r.batch.Set(key, value, nil)
	}
}

func (r *rebuild) delete(key []byte) {
	if r != nil {
		r.batch.Delete(key, nil)
	}
}

// begin finds which hours have merged rows alone, if it is not known.
func (r *rebuild) begin(e *epochCheck) {
	if r == nil || e.hours != nil {
		return
	}
	var hours [layout.Levels]uint32 // that have rows of a level
	for _, row := range e.rows {
		hours[row.level] |= 1 << layout.HourOf(row.time)
	}
	past := min(max((r.now.UnixMilli()-layout.EpochStart(e.id))/layout.HourMs, 0), layout.HoursPerEpoch)
	e.hours = &watermark.Hours{}
	for level := range e.hours {
		without := bits.TrailingZeros32(hours[level] | 1<<layout.HoursPerEpoch) // the first hours, without rows of the level
		coarser := uint32(0)
		for _, h := range hours[level+1:] {
			coarser |= h
		}
		e.hours[level] = min(uint8(bits.Len32(coarser&(1<<without-1))), uint8(past))
		if level > layout.LevelFine {
			e.hours[level] = min(e.hours[level], e.hours[level-1])
		}
	}
	if e.gone = e.hours.Watermark(e.id); *e.hours != (watermark.Hours{}) {
		r.set(layout.WatermarkKey(e.id), e.hours.Append(nil))
	}
}

// mark marks a window to be merged, unless the rows for it were dropped.
func (r *rebuild) mark(e *epochCheck, stream uint32, level int8, end int64) {
	at, slots := epochs.StreamHour{Stream: stream, Hour: layout.HourOf(end)}, uint16(0)
	switch level {
	case layout.LevelSlot:
		slots = 1 << layout.SlotOf(end)
	case layout.LevelDay:
		at.Hour, slots = epochs.WholeDay, 1
	}
	if r == nil || level == layout.LevelFine || at.Hour < e.hours[layout.LevelFine] || level == layout.LevelDay && e.hours[layout.LevelHour] > 0 {
		return
	}
	e.dirty[at] |= slots
	r.set(layout.DirtyKey(e.id, stream, at.Hour), binary.AppendUvarint(nil, uint64(e.dirty[at])))
}

// note makes queries look for a row, in all slots of an hour's row or a day's.
func (r *rebuild) note(e *epochCheck, row *rowCheck) {
	if r == nil {
		return
	}
	row.eachSlot(func(at epochs.StreamHour, slot uint) bool {
		e.noted[at] |= 1 << slot
		r.set(layout.PendingKey(e.id, at.Hour, at.Stream), binary.AppendUvarint(nil, uint64(e.noted[at])))
		return true
	})
}

// dropTable deletes an hour's table of the index, which is not as it should be.
func (r *rebuild) dropTable(e *epochCheck, hour uint8) {
	if r == nil {
		return
	}
	prefix := layout.TableKey(e.id, hour, "")
	r.err = errors.Join(r.err, r.batch.DeleteRange(prefix, layout.After(prefix), nil))
	maps.DeleteFunc(e.listed, func(at epochs.StreamHour, _ uint16) bool { return at.Hour == hour })
}

// end deletes what is said of streams that are not there.
func (r *rebuild) end(e *epochCheck) {
	for at := range e.dirty {
		if e.streams[at.Stream] == nil {
			r.delete(layout.DirtyKey(e.id, at.Stream, at.Hour))
		}
	}
	for at := range e.noted {
		if e.streams[at.Stream] == nil {
			r.delete(layout.PendingKey(e.id, at.Hour, at.Stream))
		}
	}
	for n, base := range e.senders {
		if e.streams[n] == nil || e.streams[base] == nil {
			r.delete(layout.SenderKey(e.id, n))
		}
	}
}
