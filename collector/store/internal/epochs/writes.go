package epochs

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// BeginRow notes that a row is about to be written: windows that hold its time are
// not merged any more. The note is in the log before the row.
func (e *Epoch) BeginRow(s *labelindex.Stream, t int64) error {
	e.grow.Lock()
	defer e.grow.Unlock()
	f, err := e.aggregateStream(s)
	if err != nil {
		return err
	}
	hour, slot := layout.HourOf(t), uint16(1)<<layout.SlotOf(t)
	b := e.Set.KV.Pebble.NewBatch()
	defer b.Close()
	known, err := e.noteRow(b, s, f, t)
	if err != nil {
		return err
	}
	if !b.Empty() {
		if err := e.Set.KV.Commit(b, pebble.NoSync); err != nil {
			return fmt.Errorf("write hour: %w", err)
		}
	}
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if !known {
		s.Noted[hour] |= slot
		e.note(s, hour, slot)
	}
	now := millisNow()
	for _, s := range []*labelindex.Stream{s, f} {
		o, day := e.unmergedHour(s, hour), e.unmergedHour(s, WholeDay)
		if day.Dirty == 0 {
			e.days++
		}
		o.Dirty, day.Dirty = o.Dirty|slot, 1
		o.last[layout.SlotOf(t)], day.last[0] = now, now
		for _, o := range []*UnmergedHour{o, day} {
			o.inFlight++
			o.gen++
		}
	}
	e.keep()
	return nil
}

// noteRow adds to a batch what has to be on disk before a row of a stream, which
// has an aggregate, and reports whether the index knows its slot. What it makes of
// the hour keeps the streams from being retired.
func (e *Epoch) noteRow(b *pebble.Batch, s, f *labelindex.Stream, t int64) (known bool, err error) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if t <= e.refused {
		return false, fmt.Errorf("%w: time_nanos: %s is of a time of which merged rows are kept alone (storage.retention_raw, storage.max_bytes)",
			storeerr.ErrInvalid, time.UnixMilli(t).UTC().Format(time.RFC3339))
	}
	hour, slot := layout.HourOf(t), uint16(1)<<layout.SlotOf(t)
	for _, s := range []*labelindex.Stream{s, f} {
		if e.Live[s.ID] == nil { // retired since it was looked up
			e.addLive(s)
		}
		if o := e.unmergedHour(s, hour); o.Dirty&slot == 0 {
			e.mark(b, s, hour, o.Dirty|slot)
			for level := layout.LevelSlot; level <= layout.LevelHour; level++ {
				end := layout.WindowEnd(level, t)
				b.Delete(layout.WindowKey(e.ID, layout.KindRow, level, s.ID, end), nil)
				b.Delete(layout.WindowKey(e.ID, layout.KindPoints, level, s.ID, end), nil)
			}
		}
		if e.unmergedHour(s, WholeDay).Dirty == 0 {
			e.mark(b, s, WholeDay, 1)
			b.Delete(layout.WindowKey(e.ID, layout.KindRow, layout.LevelDay, s.ID, layout.WindowEnd(layout.LevelDay, t)), nil)
		}
	}
	if known = s.Noted[hour]&slot != 0; !known {
		pending := e.hours[hour].slotsOf(s.ID) | slot
		b.Set(layout.PendingKey(e.ID, hour, s.ID), binary.AppendUvarint(nil, uint64(pending)), nil)
	}
	return known, nil
}

func (e *Epoch) unmergedHour(s *labelindex.Stream, hour uint8) *UnmergedHour {
	id := StreamHour{s.ID, hour}
	o := e.Unmerged[id]
	if o == nil {
		o = &UnmergedHour{}
		e.Unmerged[id] = o
	}
	return o
}

// mark writes which windows are to be merged. The hour stays open.
func (e *Epoch) mark(b *pebble.Batch, s *labelindex.Stream, hour uint8, dirty uint16) {
	b.Set(layout.DirtyKey(e.ID, s.ID, hour), binary.AppendUvarint(nil, uint64(dirty)), nil)
}

// FinishRow ends what begin began.
func (e *Epoch) FinishRow(s *labelindex.Stream, t int64) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	for _, id := range []uint32{s.ID, s.Aggregate.ID} {
		for _, hour := range []uint8{layout.HourOf(t), WholeDay} {
			e.Unmerged[StreamHour{id, hour}].inFlight--
		}
	}
}

// Abandon makes the next lookup of a stream create another one, in another
// partition.
func (e *Epoch) Abandon(s *labelindex.Stream) {
	e.grow.Lock()
	defer e.grow.Unlock()
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if service := s.Def.Labels.Get(labelindex.LabelServiceName); e.current[service] == s.Partition {
		delete(e.current, service)
	}
}

// Lengthen notes how long a row covers before the row is written, so that queries
// look back far enough. Notes are rounded up, since each is a write.
func (e *Epoch) Lengthen(partition uint32, duration int64) error {
	e.Mu.RLock()
	noted := e.longest[partition]
	e.Mu.RUnlock()
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
	if err := e.Set.KV.Set(layout.LongestKey(e.ID, partition), value, pebble.NoSync); err != nil {
		return err
	}
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.longest[partition] = max(e.longest[partition], longest)
	return nil
}

// Link writes which stream is the base of a stream, by its definition, unless it is known to be
// written. The write is in the log before any later one, but not synced.
func (e *Epoch) Link(s *labelindex.Stream, to *labelindex.Definition) error {
	e.Mu.RLock()
	linked := s.Linked
	e.Mu.RUnlock()
	if to == nil || linked {
		return nil
	}
	base, err := e.Stream(to)
	if err != nil || base == s {
		return err
	}
	value := binary.AppendUvarint(nil, uint64(base.ID))
	if err := e.Set.KV.Set(layout.SenderKey(e.ID, s.ID), value, pebble.NoSync); err != nil {
		return err
	}
	e.Mu.Lock()
	s.Linked = true
	e.Mu.Unlock()
	return nil
}
