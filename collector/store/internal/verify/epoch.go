package verify

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// An epochCheck checks the values of one epoch as they come, in the order of
// their keys, and at the end whether they agree.
type epochCheck struct {
	*checker
	id uint32

	services map[uint32]bool
	dicts    map[uint32]*dictCheck
	streams  map[uint32]*streamCheck
	finds    map[uint64]uint32
	noted    map[epochs.StreamHour]uint16 // slots that are to be in the index
	listed   map[epochs.StreamHour]uint16 // slots that the tables of the index have
	dirty    map[epochs.StreamHour]uint16
	senders  map[uint32]uint32
	refs     []refCheck
	hours    *watermark.Hours    // nil if there are none
	gone     watermark.Watermark // of hours
	longest  map[uint32]int64
	rows     []rowCheck
	points   []pointsCheck
	columns  map[uint8][]string // of the tables of the index, by hour
}

type dictCheck struct {
	dict   *symdb.Dictionary
	closed bool // as a repair closed it, or as it is corrupt
}

type streamCheck struct {
	labelindex.Stream
	aggregate    bool
	contributors []uint32 // of an aggregate; else the stream itself
}

// A rowCheck is what the end of an epoch has to know of a row.
type rowCheck struct {
	stream uint32
	level  int8
	time   int64
	nodes  uint32 // one above the last node
	row    rowcodec.PackedRow
	key    []byte
}

type pointsCheck struct {
	stream uint32
	level  int8
	end    int64
	value  []byte
	key    []byte
}

// A refCheck is what belongs to the row of a profile: its ID, or its samples by span.
type refCheck struct {
	time  int64
	row   []byte // its key
	key   []byte
	nodes int64 // one more than the largest, 0 if there are none
}

func newEpochCheck(c *checker, id uint32) *epochCheck {
	return &epochCheck{
		checker: c, id: id, services: map[uint32]bool{}, dicts: map[uint32]*dictCheck{}, streams: map[uint32]*streamCheck{}, finds: map[uint64]uint32{},
		noted: map[epochs.StreamHour]uint16{}, listed: map[epochs.StreamHour]uint16{}, dirty: map[epochs.StreamHour]uint16{},
		senders: map[uint32]uint32{}, longest: map[uint32]int64{}, columns: map[uint8][]string{},
	}
}

func (e *epochCheck) add(key, value []byte) {
	if err := e.check(key, value); err != nil {
		e.wrong(key, err)
	}
}

// wrong adds a value that is not as it should be. A repair deletes it.
func (e *epochCheck) wrong(key []byte, err error) {
	e.checker.wrong(key, err)
	e.rebuild.delete(key)
}

func (e *epochCheck) check(key, value []byte) error {
	kind, rest := key[4], key[5:]
	number := func() uint32 { return binary.BigEndian.Uint32(rest) }
	switch {
	case kind == layout.KindWatermark && len(rest) == 0:
		h, err := watermark.Read(value)
		if err == nil {
			e.hours, e.gone = &h, h.Watermark(e.id)
		}
		return err
	case kind == layout.KindPartition && len(rest) == 4:
		n := number()
		if n >= epochs.MaxPartitions {
			return fmt.Errorf("%w: service %d of at most %d", storeerr.ErrCorrupt, n, epochs.MaxPartitions)
		}
		e.services[n] = true
	case kind == layout.KindSegment && len(rest) == 8:
		return e.segment(number(), binary.BigEndian.Uint32(rest[4:]), value)
	case kind == layout.KindStream && len(rest) == 4:
		return e.stream(number(), value)
	case kind == layout.KindFind && len(rest) == 8:
		r := bitpack.Decoder{Data: value}
		e.finds[binary.BigEndian.Uint64(rest)] = r.Below(budget.EpochItself, "stream")
		return r.End()
	case kind == layout.KindLabels && len(rest) >= 1 && rest[0] < layout.HoursPerEpoch:
		return e.tableValue(rest[0], string(rest[1:]))
	case kind == layout.KindPending && len(rest) == 5 && rest[0] < layout.HoursPerEpoch:
		return e.slots(e.noted, epochs.StreamHour{Stream: binary.BigEndian.Uint32(rest[1:]), Hour: rest[0]}, value)
	case kind == layout.KindDirty && len(rest) == 5 && rest[4] <= epochs.WholeDay:
		return e.slots(e.dirty, epochs.StreamHour{Stream: number(), Hour: rest[4]}, value)
	case kind == layout.KindID && len(rest) == 12:
		r := bitpack.Decoder{Data: value}
		t := int64(min(r.Uvarint("time"), 1<<62))
		row := append(layout.WindowKey(e.id, layout.KindRow, layout.LevelFine, number(), t), rest[4:]...)
		e.refs = append(e.refs, refCheck{time: t, row: row, key: key})
		return r.End()
	case kind == layout.KindLongest && len(rest) == 4:
		r := bitpack.Decoder{Data: value}
		e.longest[number()] = int64(r.Below(layout.SlotMs+1, "time"))
		return r.End()
	case kind == layout.KindSender && len(rest) == 4:
		r := bitpack.Decoder{Data: value}
		e.senders[number()] = r.Below(budget.EpochItself, "number")
		return r.End()
	case kind == layout.KindSpans && len(rest) == 21 && rest[0] == layout.LevelFine:
		return e.spanSamples(key, value)
	case kind == layout.KindRow && len(rest) >= 13 && int(rest[0]) < layout.Levels:
		return e.row(key, value)
	case kind == layout.KindPoints && len(rest) >= 13 && int(rest[0]) < layout.Levels:
		t, _ := layout.WindowTime(key)
		e.points = append(e.points, pointsCheck{layout.KeyStream(key), int8(rest[0]), t, slices.Clone(value), key})
		e.v.Windows++
	default:
		return fmt.Errorf("%w: unknown key %x", storeerr.ErrCorrupt, key)
	}
	return nil
}

// stream reads a stream, after the partitions and the rows.
func (e *epochCheck) stream(n uint32, value []byte) error {
	partition, def, err := labelindex.ReadStream(value)
	if err == nil && !e.services[partition] && e.rebuild != nil && partition < epochs.MaxPartitions {
		e.services[partition] = true
		e.rebuild.set(layout.PartitionKey(e.id, partition), []byte(def.Labels.Get(labelindex.LabelServiceName)))
	}
	if err == nil && !e.services[partition] {
		err = fmt.Errorf("%w: service %d is missing", storeerr.ErrCorrupt, partition)
	}
	if err != nil {
		return err
	}
	e.streams[n] = &streamCheck{Stream: labelindex.Stream{ID: n, Partition: partition, Def: def}, aggregate: def.IsAggregate(), contributors: []uint32{n}}
	return nil
}

func (e *epochCheck) slots(to map[epochs.StreamHour]uint16, at epochs.StreamHour, value []byte) error {
	r := bitpack.Decoder{Data: value}
	mask := r.Below(labelindex.AllSlots+1, "slots")
	to[at] |= uint16(mask)
	return r.End()
}

func (e *epochCheck) segment(partition, first uint32, value []byte) error {
	d := e.dicts[partition]
	if d == nil {
		d = &dictCheck{dict: symdb.NewDictionary()}
		e.dicts[partition] = d
	}
	switch {
	case d.closed:
		e.rebuild.delete(layout.SegmentKey(e.id, partition, first))
		return nil
	case len(value) == 0:
		d.closed = true
		return nil
	case !e.services[partition]:
		return fmt.Errorf("%w: service %d is missing", storeerr.ErrCorrupt, partition)
	case first != uint32(len(d.dict.Nodes)):
		d.closed = true
		return fmt.Errorf("%w: a segment is missing: node %d follows %d", storeerr.ErrCorrupt, first, len(d.dict.Nodes)-1)
	}
	if err := d.dict.ReadSegment(value); err != nil {
		d.closed = true
		return err
	}
	return nil
}

// row decodes a row. What it refers to comes later in the order of keys.
func (e *epochCheck) row(key, value []byte) error {
	t, _ := layout.WindowTime(key)
	r := rowCheck{stream: binary.BigEndian.Uint32(key[6:]), level: int8(key[5]), time: t, key: key}
	if layout.EpochOf(t) != e.id || layout.WindowEnd(int(r.level), t) != t {
		return fmt.Errorf("%w: time %s is none of this day's", storeerr.ErrCorrupt, corruption.FormatTime(t))
	}
	if err := r.row.Decode(slices.Clone(value)); err != nil {
		return err
	}
	var tmp rowcodec.Scratch
	nodes, err := r.row.AllNodes(1<<32, &tmp)
	if err != nil {
		return err
	}
	if len(nodes) > 0 {
		r.nodes = uint32(nodes[len(nodes)-1]) + 1
	}
	if r.level == layout.LevelFine {
		if err := r.row.Single(); err != nil {
			return err
		}
	}
	for c, total := range r.row.Totals {
		sum, err := r.row.Sum(c, 1<<32, &tmp)
		if err != nil {
			return err
		}
		if sum != max(total, 0) { // of one that is uncounted there are none
			return fmt.Errorf("%w: total %d of sample type %d, its values are %d together", storeerr.ErrCorrupt, total, c, sum)
		}
	}
	if err := r.row.CheckTimes(int(r.level)); err != nil {
		return err
	}
	r.row.DropTimes()
	if r.level == layout.LevelFine {
		e.v.Profiles++
	} else {
		e.v.Windows++
	}
	r.row.Nodes, r.row.Values = bitpack.Column{}, nil // not needed any more
	e.rows = append(e.rows, r)
	return nil
}

// end checks what could not be while the keys came.
func (e *epochCheck) end() {
	if e == nil {
		return
	}
	e.findAggregates()
	e.findable()
	// What refers to something that is missing is not counted by what follows.
	e.checkRows(e.reference)
	e.rebuild.begin(e)
	e.checkRows(func(r *rowCheck) error {
		err := e.window(r)
		if err != nil {
			e.rebuild.mark(e, r.stream, r.level, r.time)
		}
		return err
	})
	for i := range e.points {
		if err := e.pointList(&e.points[i]); err != nil {
			e.wrong(e.points[i].key, err)
			e.rebuild.mark(e, e.points[i].stream, e.points[i].level, e.points[i].end)
		}
	}
	for i := range e.rows {
		if err := e.indexed(&e.rows[i]); err != nil {
			e.checker.wrong(e.rows[i].key, err)
			e.rebuild.note(e, &e.rows[i])
		}
		if level, err := e.merged(&e.rows[i]); err != nil {
			e.checker.wrong(e.rows[i].key, err)
			for ; level < layout.Levels; level++ {
				e.rebuild.mark(e, e.rows[i].stream, level, layout.WindowEnd(int(level), e.rows[i].time))
			}
		}
	}
	for i := range e.refs {
		if err := e.refers(&e.refs[i]); err != nil {
			e.wrong(e.refs[i].key, err)
		}
	}
	e.rebuild.end(e)
}

// checkRows checks all rows. A rebuild goes on without those that are wrong.
func (e *epochCheck) checkRows(check func(*rowCheck) error) {
	e.rows = slices.DeleteFunc(e.rows, func(r rowCheck) bool {
		err := check(&r)
		if err != nil {
			e.wrong(r.key, err)
		}
		return err != nil && e.rebuild != nil
	})
}
