package epochs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// An Epoch is a day, in UTC: its partitions, streams and their index. In memory
// are the streams that have profiles in hours which are not over, so that their
// number does not grow with the day. Retention drops an epoch as a whole.
type Epoch struct {
	Set *Set
	ID  uint32

	// grow is held by whoever changes what is on disk, mu only while the fields
	// below change: a write may wait for the disk for long.
	grow       sync.Mutex
	Mu         sync.RWMutex
	writers    int                           // appends that are under way
	dropped    bool                          // or about to be, once there are no writers
	refused    int64                         // appends up to this time, ms, whose rows are dropped, or about to be
	services   map[uint32]string             // by partition; "" if there is none
	partitions uint32                        // number of the next one
	current    map[string]uint32             // service name to the partition that grows
	Next       uint32                        // number of the next stream
	Live       map[uint32]*labelindex.Stream // by number
	byHash     map[uint64]*labelindex.Stream // the live ones, by the hash of their encoding
	aggregates map[string]uint32             // streams of aggregates that queries asked for, by encoding
	longest    map[uint32]int64              // by partition: the longest time that a row covers, ms
	// defaultLongest is that of the others. It is not 0 if some cannot be read.
	defaultLongest  int64
	UnreadableMarks bool // some marks of windows to be merged cannot be read
	hours           [layout.HoursPerEpoch]indexHour
	bytes           int64 // of hours and aggregates
	Unmerged        map[StreamHour]*UnmergedHour
	days            uint64 // counts what made days of streams dirty; 0 if none is
	pin             func() // set while there is work for maintenance; lets go of the epoch
	key             []byte
}

// StreamHour is an hour of a stream, or the whole day with hour WholeDay.
type StreamHour struct {
	Stream uint32
	Hour   uint8
}

// WholeDay stands in the place of an hour for the day.
const WholeDay = layout.HoursPerEpoch

// A UnmergedHour has profiles that are in no merged window yet, at least not in
// that of the hour.
type UnmergedHour struct {
	Dirty    uint16                               // slots that are not merged; 1 for a day
	inFlight int32                                // appends between begin and finish
	gen      uint64                               // counts appends
	last     [layout.SlotsPerHour]monotonicMillis // when a slot got its last profile
}

// A monotonicMillis is a time in ms since the process began, which a store of many streams
// has many of. It begins again after 49 days, which makes no difference to times
// of minutes. 0 is long ago.
type monotonicMillis uint32

var began = time.Now()

func millisNow() monotonicMillis { return max(monotonicMillis(time.Since(began).Milliseconds()), 1) }

// ago is the time since then.
func (m monotonicMillis) ago() time.Duration {
	if m == 0 {
		return math.MaxInt64
	}
	return time.Duration(millisNow()-m) * time.Millisecond
}

// Size is the memory of the epoch in bytes.
func (e *Epoch) Size() int64 {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	return e.bytes + int64(len(e.Live))*1024 + int64(len(e.Unmerged))*160 + int64(len(e.services))*128 + 4096
}

// BeginWrite reports whether the epoch may be written into, until EndWrite.
func (e *Epoch) BeginWrite() bool {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if e.dropped {
		return false
	}
	e.writers++
	return true
}

// EndWrite ends what BeginWrite began.
func (e *Epoch) EndWrite() {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.writers--
}

// keep pins the epoch in the cache while maintenance has something to do.
func (e *Epoch) keep() {
	work := len(e.Unmerged) > 0 || e.days > 0
	for i := range e.hours {
		work = work || e.hours[i].table != nil || e.hours[i].writing != nil
	}
	switch {
	case work && e.pin == nil:
		entry := e.Set.Cache.Acquire(budget.Key{Epoch: e.ID, Partition: budget.EpochItself}, func() (budget.Item, error) { return e, nil })
		e.pin = func() { e.Set.Cache.Release(entry) }
	case !work && e.pin != nil:
		// Letting go asks for the size, which takes the lock that we hold.
		go e.pin()
		e.pin = nil
	}
}

func (es *Set) loadEpoch(id uint32) (*Epoch, error) {
	gone := es.Watermarks.Of(id)
	e := &Epoch{
		Set: es, ID: id, services: map[uint32]string{}, current: map[string]uint32{}, Live: map[uint32]*labelindex.Stream{}, byHash: map[uint64]*labelindex.Stream{}, aggregates: map[string]uint32{},
		Unmerged: map[StreamHour]*UnmergedHour{}, longest: map[uint32]int64{},
		refused: gone.Watermark(id)[layout.LevelFine],
	}
	var errs []error
	read := func(kind byte, value func(key, value []byte) error) (gaps *kv.GapError) {
		err := es.KV.Each(layout.KindKey(id, kind), value)
		if !errors.As(err, &gaps) {
			errs = append(errs, err)
		}
		return gaps
	}
	if gaps := read(layout.KindPartition, e.readPartition); gaps != nil && gaps.Open {
		var err error
		e.partitions, err = es.unused(e.partitions+farPartition, MaxPartitions, func(n uint32) []byte { return layout.PartitionKey(id, n) })
		errs = append(errs, err)
	}
	errs = append(errs, e.countStreams())
	if read(layout.KindLongest, e.readLongest) != nil {
		e.defaultLongest = layout.SlotMs // to look back too far does no harm
	}
	if gaps := read(layout.KindPending, e.readPending); gaps != nil {
		errs = append(errs, e.noteAll(gaps.Gap))
	}
	e.UnreadableMarks = read(layout.KindDirty, func(key, value []byte) error { return e.readDirty(gone, key, value) }) != nil
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read epoch %d: %w", id, err)
	}
	return e, nil
}

// Where the last numbers cannot be read, new ones begin so far behind those that can
// that they do not meet them.
const (
	farPartition = 1 << 18
	farStream    = 1 << 20
)

// unused is the first number, from one on, that has no key yet. Where an iterator cannot
// read, Get finds what was written since the table there became corrupt.
func (es *Set) unused(n, most uint32, key func(n uint32) []byte) (uint32, error) {
	for ; n < most; n++ {
		if found, err := es.KV.Has(key(n)); !found || err != nil {
			return n, err
		}
	}
	return most, nil
}

// noteAll notes all streams in all slots of the hours whose notes cannot be read: to
// look where nothing is does no harm.
func (e *Epoch) noteAll(unread corruption.Gap) error {
	all, err := e.Set.FullIndex(e.ID)
	if err != nil || len(all.Streams) == 0 {
		return err
	}
	prefix := layout.KindKey(e.ID, layout.KindPending)
	hourOf := func(key []byte, otherwise uint8) uint8 {
		if hour, ok := bytes.CutPrefix(key, prefix); ok && len(hour) > 0 {
			return min(hour[0], layout.HoursPerEpoch-1)
		}
		return otherwise
	}
	first, last := hourOf(unread.From, 0), hourOf(unread.To, layout.HoursPerEpoch-1)
	for hour := first; hour <= last; hour++ {
		if e.hours[hour].table == nil {
			e.hours[hour].table = labelindex.NewBuilder()
		}
		if err := e.hours[hour].table.AddTable(all); err != nil {
			return err
		}
	}
	return nil
}

// readPartition reads a partition's name. A partition without a name keeps its number
// and does not grow.
func (e *Epoch) readPartition(key, value []byte) error {
	if len(key) != 9 || binary.BigEndian.Uint32(key[5:]) >= MaxPartitions {
		e.Set.KV.Corrupt(fmt.Errorf("read service %x: %w: key names none", key, storeerr.ErrCorrupt))
		return nil
	}
	n := binary.BigEndian.Uint32(key[5:])
	if len(value) > 0 {
		e.current[string(value)] = n
	}
	e.services[n], e.partitions = string(value), n+1
	return nil
}

// The most that an epoch has, and where its numbers end.
const (
	MaxPartitions = 1 << 22
	MaxStreams    = 1 << 24
)

// countStreams finds the number of the next stream, one above the highest. Lower
// numbers may be missing.
func (e *Epoch) countStreams() (err error) {
	prefix := layout.KindKey(e.ID, layout.KindStream)
	it, err := e.Set.KV.Pebble.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: layout.StreamKey(e.ID, MaxStreams)})
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, it.Close()); err != nil && corruption.Unreadable(err) {
			err = e.countReadable()
		}
	}()
	for ok := it.Last(); ok; ok = it.Prev() {
		if len(it.Key()) == 9 {
			e.Next = binary.BigEndian.Uint32(it.Key()[5:]) + 1
			break
		}
		e.Set.KV.Corrupt(fmt.Errorf("read stream %x: %w: key names none", it.Key(), storeerr.ErrCorrupt))
	}
	return it.Error()
}

// countReadable is countStreams where some streams cannot be read.
func (e *Epoch) countReadable() error {
	e.Next = 0
	err := e.Set.KV.EachIn(e.Set.KV.Pebble, layout.KindKey(e.ID, layout.KindStream), layout.StreamKey(e.ID, MaxStreams), func(key, _ []byte) error {
		if len(key) == 9 {
			e.Next = binary.BigEndian.Uint32(key[5:]) + 1
		}
		return nil
	})
	var gaps *kv.GapError
	if errors.As(err, &gaps) && gaps.Open {
		e.Next, err = e.Set.unused(e.Next+farStream, MaxStreams, func(n uint32) []byte { return layout.StreamKey(e.ID, n) })
	}
	return kv.WithoutGaps(err)
}

// readPending reads slots of a stream that are in no table yet.
func (e *Epoch) readPending(key, value []byte) error {
	if len(key) != 10 || key[5] >= layout.HoursPerEpoch {
		e.Set.KV.Corrupt(fmt.Errorf("read slots %x: %w: key names no hour of a stream", key, storeerr.ErrCorrupt))
		return nil
	}
	s, err := e.load(binary.BigEndian.Uint32(key[6:]))
	if s == nil || err != nil {
		return err
	}
	slots := e.Set.readSlots(key, value)
	e.note(s, key[5], slots)
	s.Noted[key[5]] |= slots
	return nil
}

// readDirty reads which windows of a stream are to be merged. Of days it is
// enough to know that there are some.
func (e *Epoch) readDirty(gone watermark.Hours, key, value []byte) error {
	if len(key) != 10 || key[9] > WholeDay {
		e.Set.KV.Corrupt(fmt.Errorf("read slots %x: %w: key names no hour of a stream", key, storeerr.ErrCorrupt))
		return nil
	}
	if key[9] < gone[layout.LevelFine] || key[9] == WholeDay && gone[layout.LevelHour] > 0 {
		return nil // nothing is left to merge where rows were dropped
	}
	if key[9] == WholeDay {
		e.days++
		return nil
	}
	s, err := e.load(binary.BigEndian.Uint32(key[5:]))
	if s == nil || err != nil {
		return err
	}
	e.Unmerged[StreamHour{s.ID, key[9]}] = &UnmergedHour{Dirty: e.Set.readSlots(key, value)}
	return nil
}

// readSlots reads a set of slots. A corrupt one counts as all slots: to look
// where nothing is, or to merge once more, does no harm.
func (es *Set) readSlots(key, value []byte) uint16 {
	r := bitpack.Decoder{Data: value}
	slots := r.Below(labelindex.AllSlots+1, "slots")
	if err := r.End(); err != nil {
		es.KV.Corrupt(fmt.Errorf("read slots %x: %w", key, err))
		return labelindex.AllSlots
	}
	return uint16(slots)
}
