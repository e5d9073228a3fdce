package epochs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// The index of an epoch is one table for each hour. An hour's table is on disk
// once the hour is over; what is not in it yet is in memory, and noted on disk
// stream by stream.

// An indexHour is the part of an hour's table that is not on disk.
type indexHour struct {
	table *labelindex.Builder // grows; nil if there is nothing
	// writing is what is being written as a table, and does not change.
	writing *labelindex.Builder
	last    time.Time // when the table grew
}

// maxIndexRows is the number of rows above which a part of a table is written
// though its hour is not over.
const maxIndexRows = 1 << 16

func (h *indexHour) slotsOf(stream uint32) uint16 {
	return h.table.SlotsOf(stream) | h.writing.SlotsOf(stream)
}

// TableID is the cache's key of an hour's table.
func TableID(epoch uint32, hour uint8) budget.Key {
	return budget.Key{Epoch: epoch, Partition: budget.EpochItself - 1 - uint32(hour)}
}

// EachIndex calls fn for the label indexes of every hour that overlaps a range in ms.
// slots are those of the hour that are in the range. A stream may be in several indexes
// of an epoch.
//
// With widen, the slots include those before start whose profiles are left only in a
// coarser window that overlaps the range. If fn returns an error that wraps ErrCorrupt,
// it is called again with an index of all the epoch's streams.
func (es *Set) EachIndex(ctx context.Context, start, end int64, widen bool, fn func(epoch uint32, t *labelindex.HourIndex, slots uint16, hour uint8) error) error {
	for _, id := range es.Between(start, end) {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := es.Acquire(id)
		if err != nil {
			return err
		}
		from := start
		if widen {
			from = es.FirstContributing(id, start)
		}
		set := labelindex.SlotsBetween(id, from, end)
		for hour := range uint8(layout.HoursPerEpoch) {
			if slots := set[hour]; err == nil && slots != 0 {
				err = es.EachIndexOf(e.Value, hour, func(t *labelindex.HourIndex) error { return fn(id, t, slots, hour) })
			}
		}
		e.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// EachIndexOf calls fn for the tables of an hour: first those in memory, under
// the epoch's lock, then the one on disk. What moves to disk in between is seen
// twice, and never missed.
func (es *Set) EachIndexOf(e *Epoch, hour uint8, fn func(*labelindex.HourIndex) error) error {
	if err := e.eachGrowing(hour, fn); err != nil {
		return err
	}
	u, err := budget.Acquire[*labelindex.HourIndex](es.Cache, TableID(e.ID, hour), func() (budget.Item, error) { return es.LoadIndex(e.ID, hour) })
	if err != nil {
		return err
	}
	defer u.Release()
	if len(u.Value.Streams) == 0 {
		return nil
	}
	return es.orFull(e.ID, u.Value, fn)
}

// orFull calls fn with an hour's table, and if that is corrupt with one of all streams of
// its epoch: to look where nothing is does no harm.
func (es *Set) orFull(epoch uint32, t *labelindex.HourIndex, fn func(*labelindex.HourIndex) error) error {
	err := fn(t)
	if !errors.Is(err, storeerr.ErrCorrupt) {
		return err
	}
	es.KV.Corrupt(err)
	if t, err = es.FullIndex(epoch); err != nil {
		return err
	}
	return fn(t)
}

// eachGrowing calls fn for the parts of an hour's table that are in memory.
func (e *Epoch) eachGrowing(hour uint8, fn func(*labelindex.HourIndex) error) error {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	h := &e.hours[hour]
	for _, t := range []*labelindex.Builder{h.table, h.writing} {
		if t == nil {
			continue
		}
		if err := fn(&t.HourIndex); err != nil {
			return err
		}
	}
	return nil
}

// LoadIndex reads an hour's table, which is empty if there is none. In the place
// of a corrupt one comes one that has all the epoch's streams.
func (es *Set) LoadIndex(epoch uint32, hour uint8) (*labelindex.HourIndex, error) {
	t, err := ReadIndex(es.KV.Get, epoch, hour)
	if errors.Is(err, storeerr.ErrCorrupt) {
		es.KV.Corrupt(err)
		return es.FullIndex(epoch)
	}
	return t, err
}

// ReadIndex reads an hour's table, which is empty if there is none, by a Get of the
// database. Its columns are read when they are asked for.
func ReadIndex(get func(key []byte) ([]byte, io.Closer, error), epoch uint32, hour uint8) (t *labelindex.HourIndex, err error) {
	read := func(name string, decode func(value []byte) error) error {
		key := layout.TableKey(epoch, hour, name)
		value, closer, err := get(key)
		if err == nil {
			err = errors.Join(decode(value), closer.Close())
		}
		if err != nil {
			return fmt.Errorf("read table %x: %w", key, err)
		}
		return nil
	}
	err = read("", func(value []byte) (err error) {
		t, err = labelindex.DecodeTable(value)
		return err
	})
	if errors.Is(err, pebble.ErrNotFound) {
		return &labelindex.HourIndex{Bytes: 256}, nil
	}
	if err != nil {
		return nil, err
	}
	t.Read = func(name string) (c *labelindex.LabelColumn, err error) {
		err = read(name, func(value []byte) (err error) {
			c, err = labelindex.DecodeLabelColumn(value, len(t.Streams))
			return err
		})
		if errors.Is(err, pebble.ErrNotFound) {
			err = fmt.Errorf("%w: %w", storeerr.ErrCorrupt, err)
		}
		return c, err
	}
	return t, nil
}

// FullIndex makes a table of all streams of an epoch, in all slots.
func (es *Set) FullIndex(epoch uint32) (*labelindex.HourIndex, error) {
	t := labelindex.NewBuilder()
	err := es.KV.Each(layout.KindKey(epoch, layout.KindStream), func(key, value []byte) error {
		if partition, def, err := labelindex.ReadStream(value); err == nil && len(key) == 9 && !def.IsAggregate() {
			t.Add(binary.BigEndian.Uint32(key[5:]), partition, &def, labelindex.AllSlots)
		}
		return nil
	})
	return &t.HourIndex, kv.WithoutGaps(err)
}

// note adds a slot of a stream to the table in memory.
func (e *Epoch) note(s *labelindex.Stream, hour uint8, slots uint16) {
	h := &e.hours[hour]
	if h.table == nil {
		h.table = labelindex.NewBuilder()
	}
	e.bytes -= h.table.Bytes
	h.table.Add(s.ID, s.Partition, &s.Def, slots)
	e.bytes += h.table.Bytes
	h.last = time.Now()
}

// WriteIndexes writes the tables of hours that are over and quiet.
func (es *Set) WriteIndexes(ctx context.Context, e *Epoch, now int64, quiet time.Duration) error {
	var errs TaskErrors
	for hour := range uint8(layout.HoursPerEpoch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		e.Mu.Lock()
		h := &e.hours[hour]
		over := layout.EpochStart(e.ID)+int64(hour+1)*layout.HourMs <= now && time.Since(h.last) >= quiet
		due := !e.dropped && h.table != nil && (over || len(h.table.Streams) > maxIndexRows)
		if due {
			if h.writing == nil {
				h.writing, h.table = h.table, nil
			} else if err := h.writing.AddTable(&h.table.HourIndex); err == nil { // left by an error
				h.table = nil
			}
		}
		e.Mu.Unlock()
		if due {
			if err := es.writeTable(e, hour, h); err != nil {
				errs.Add(fmt.Errorf("write table of hour %d: %w", hour, err))
			}
		}
	}
	return errs.Join()
}

// writeTable makes one table of the one on disk and what is to be written.
func (es *Set) writeTable(e *Epoch, hour uint8, h *indexHour) error {
	t := h.writing
	old, err := es.LoadIndex(e.ID, hour)
	if err != nil {
		return err
	}
	if len(old.Streams) > 0 {
		err := es.orFull(e.ID, old, func(old *labelindex.HourIndex) error {
			t = labelindex.NewBuilder()
			return t.AddTable(old)
		})
		if err == nil {
			err = t.AddTable(&h.writing.HourIndex)
		}
		if err != nil {
			return err
		}
	}
	b := es.KV.Pebble.NewBatch()
	defer b.Close()
	prefix, pending := layout.TableKey(e.ID, hour, ""), layout.PendingPrefix(e.ID, hour)
	if err := errors.Join(b.DeleteRange(prefix, layout.After(prefix), nil), b.DeleteRange(pending, layout.After(pending), nil)); err != nil {
		return err
	}
	t.Encode(func(name string, value []byte) { b.Set(layout.TableKey(e.ID, hour, name), value, nil) })
	e.grow.Lock()
	defer e.grow.Unlock()
	e.Mu.RLock()
	dropped := e.dropped
	if h.table != nil { // what came meanwhile stays noted
		for row, stream := range h.table.Streams {
			b.Set(layout.PendingKey(e.ID, hour, stream), binary.AppendUvarint(nil, uint64(h.table.Slots[row])), nil)
		}
	}
	e.Mu.RUnlock()
	if dropped {
		return nil
	}
	if err := es.KV.Commit(b, pebble.NoSync); err != nil {
		return err
	}
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.bytes -= h.writing.Bytes
	h.writing = nil
	es.Cache.Forget(TableID(e.ID, hour))
	e.keep()
	return nil
}

// ActiveSlots are the slots in which an epoch has profiles.
func (es *Set) ActiveSlots(e *Epoch) (set labelindex.SlotSet, err error) {
	for hour := range uint8(layout.HoursPerEpoch) {
		err := es.EachIndexOf(e, hour, func(t *labelindex.HourIndex) error {
			for _, slots := range t.Slots {
				set[hour] |= slots
			}
			return nil
		})
		if err != nil {
			return set, err
		}
	}
	return set, nil
}

// ActiveIn are the streams that have profiles in a slot of an epoch.
func (es *Set) ActiveIn(e *Epoch, slot int) (streams []uint32, err error) {
	err = es.EachIndexOf(e, uint8(slot/layout.SlotsPerHour), func(t *labelindex.HourIndex) error {
		for row, slots := range t.Slots {
			if slots>>(slot%layout.SlotsPerHour)&1 == 1 {
				streams = append(streams, t.Streams[row])
			}
		}
		return nil
	})
	slices.Sort(streams)
	return slices.Compact(streams), err
}
