package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// begin notes that a row is about to be written: windows that hold its time are
// not merged any more. The note is in the log before the row.
func (e *epoch) begin(s *labelindex.Stream, t int64) error {
	e.grow.Lock()
	defer e.grow.Unlock()
	f, err := e.aggregateStream(s)
	if err != nil {
		return err
	}
	hour, slot := layout.HourOf(t), uint16(1)<<layout.SlotOf(t)
	b := e.set.kv.Pebble.NewBatch()
	defer b.Close()
	known, err := e.noteRow(b, s, f, t)
	if err != nil {
		return err
	}
	if !b.Empty() {
		if err := e.set.kv.Commit(b, pebble.NoSync); err != nil {
			return fmt.Errorf("write hour: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !known {
		s.Noted.Add(hour, slot)
		e.note(s, hour, slot)
	}
	now := momentNow()
	for _, s := range []*labelindex.Stream{s, f} {
		o, day := e.openHour(s, hour), e.openHour(s, wholeDay)
		if day.dirty == 0 {
			e.days++
		}
		o.dirty, day.dirty = o.dirty|slot, 1
		o.last[layout.SlotOf(t)], day.last[0] = now, now
		for _, o := range []*openHour{o, day} {
			o.flying++
			o.gen++
		}
	}
	e.keep()
	return nil
}

// noteRow adds to a batch what has to be on disk before a row of a stream, which
// has an aggregate, and reports whether the index knows its slot. What it makes of
// the hour keeps the streams from being retired.
func (e *epoch) noteRow(b *pebble.Batch, s, f *labelindex.Stream, t int64) (known bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t <= e.refused {
		return false, fmt.Errorf("%w: time_nanos: %s is of a time of which merged rows are kept alone (storage.retention_raw, storage.max_bytes)",
			storeerr.ErrInvalid, time.UnixMilli(t).UTC().Format(time.RFC3339))
	}
	hour, slot := layout.HourOf(t), uint16(1)<<layout.SlotOf(t)
	for _, s := range []*labelindex.Stream{s, f} {
		if e.live[s.ID] == nil { // retired since it was looked up
			e.addLive(s)
		}
		if o := e.openHour(s, hour); o.dirty&slot == 0 {
			e.mark(b, s, hour, o.dirty|slot)
			for level := layout.LevelSlot; level <= layout.LevelHour; level++ {
				end := layout.WindowEnd(level, t)
				b.Delete(layout.WindowKey(e.id, layout.KindRow, level, s.ID, end), nil)
				b.Delete(layout.WindowKey(e.id, layout.KindPoints, level, s.ID, end), nil)
			}
		}
		if e.openHour(s, wholeDay).dirty == 0 {
			e.mark(b, s, wholeDay, 1)
			b.Delete(layout.WindowKey(e.id, layout.KindRow, layout.LevelDay, s.ID, layout.WindowEnd(layout.LevelDay, t)), nil)
		}
	}
	if known = s.Noted.Hour(hour)&slot != 0; !known {
		pending := e.hours[hour].slotsOf(s.ID) | slot
		b.Set(layout.PendingKey(e.id, hour, s.ID), binary.AppendUvarint(nil, uint64(pending)), nil)
	}
	return known, nil
}

func (e *epoch) openHour(s *labelindex.Stream, hour uint8) *openHour {
	id := hourID{s.ID, hour}
	o := e.open[id]
	if o == nil {
		o = &openHour{}
		e.open[id] = o
	}
	return o
}

// mark writes which windows are to be merged. The hour stays open.
func (e *epoch) mark(b *pebble.Batch, s *labelindex.Stream, hour uint8, dirty uint16) {
	b.Set(layout.DirtyKey(e.id, s.ID, hour), binary.AppendUvarint(nil, uint64(dirty)), nil)
}

// finish ends what begin began.
func (e *epoch) finish(s *labelindex.Stream, t int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range []uint32{s.ID, s.Aggregate.ID} {
		for _, hour := range []uint8{layout.HourOf(t), wholeDay} {
			e.open[hourID{id, hour}].flying--
		}
	}
}

// abandon makes the next lookup of a stream create another one, in another
// partition.
func (e *epoch) abandon(s *labelindex.Stream) {
	e.grow.Lock()
	defer e.grow.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if service := s.Def.Labels.Get(labelindex.LabelServiceName); e.current[service] == s.Partition {
		delete(e.current, service)
	}
}

// lengthen notes how long a row covers before the row is written, so that queries
// look back far enough. Notes are rounded up, since each is a write.
func (e *epoch) lengthen(partition uint32, duration int64) error {
	e.mu.RLock()
	noted := e.longest[partition]
	e.mu.RUnlock()
	if duration <= noted {
		return nil
	}
	longest := int64(layout.SlotMs)
	for _, ms := range []int64{5000, 10500, 15500, 20500, 31000, 61000, 121000} {
		if duration <= ms {
			longest = ms
			break
		}
	}
	value := binary.AppendUvarint(nil, uint64(longest))
	if err := e.set.kv.Set(layout.LongestKey(e.id, partition), value, pebble.NoSync); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.longest[partition] = max(e.longest[partition], longest)
	return nil
}

// link writes which stream is the base of a stream, by its definition, unless it is known to be
// written. The write is in the log before any later one, but not synced.
func (e *epoch) link(s *labelindex.Stream, to *labelindex.Definition) error {
	e.mu.RLock()
	linked := s.Linked
	e.mu.RUnlock()
	if to == nil || linked {
		return nil
	}
	base, err := e.stream(to)
	if err != nil || base == s {
		return err
	}
	value := binary.AppendUvarint(nil, uint64(base.ID))
	if err := e.set.kv.Set(layout.SenderKey(e.id, s.ID), value, pebble.NoSync); err != nil {
		return err
	}
	e.mu.Lock()
	s.Linked = true
	e.mu.Unlock()
	return nil
}
