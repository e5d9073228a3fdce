package store

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// An epochCheck checks the values of one epoch as they come, in the order of
// their keys, and at the end whether they agree.
type epochCheck struct {
	*checker
	id uint32

	services map[uint32]bool
	dicts    map[uint32]*dictCheck
	streams  map[uint32]*streamCheck
	finds    map[uint64][]uint32
	noted    map[hourID]uint16 // slots that are to be in the index
	listed   map[hourID]uint16 // slots that the tables of the index have
	dirty    map[hourID]uint16
	senders  map[uint32]uint32
	ids      []idCheck
	spans    []spanCheck
	hours    *horizonHours // nil if there are none
	gone     horizon       // of hours
	longest  map[uint32]int64
	rows     []rowCheck
	points   []pointsCheck
	index    tableCheck
	rebuild  *rebuild // of what can be made of the rest, nil to verify alone
}

type dictCheck struct {
	dict   *dictionary
	closed bool // as a repair closed it, or as it is corrupt
}

type streamCheck struct {
	partition uint32
	def       definition
	family    bool
	members   []uint32 // of a family; else the stream itself
}

// A rowCheck is what the end of an epoch has to know of a row.
type rowCheck struct {
	stream uint32
	level  int8
	time   int64
	nodes  uint32 // one above the last node
	row    packedRow
	key    []byte
}

type pointsCheck struct {
	stream uint32
	level  int8
	end    int64
	value  []byte
	key    []byte
}

type idCheck struct {
	time int64
	row  []byte // its key
	key  []byte
}

// A spanCheck is the samples of a profile by span, which belong to its row.
type spanCheck struct {
	idCheck
	nodes int64 // one more than the largest
}

func newEpochCheck(c *checker, id uint32) *epochCheck {
	return &epochCheck{
		checker: c, id: id, services: map[uint32]bool{}, dicts: map[uint32]*dictCheck{}, streams: map[uint32]*streamCheck{}, finds: map[uint64][]uint32{},
		noted: map[hourID]uint16{}, listed: map[hourID]uint16{}, dirty: map[hourID]uint16{},
		senders: map[uint32]uint32{}, longest: map[uint32]int64{},
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
	case kind == kindHorizon && len(rest) == 0:
		h, err := readHorizon(value)
		if err == nil {
			e.hours, e.gone = &h, h.times(e.id)
		}
		return err
	case kind == kindPartition && len(rest) == 4:
		n := number()
		if n >= maxPartitions {
			return fmt.Errorf("%w: service %d of at most %d", ErrCorrupt, n, maxPartitions)
		}
		e.services[n] = true
	case kind == kindSegment && len(rest) == 8:
		return e.segment(number(), binary.BigEndian.Uint32(rest[4:]), value)
	case kind == kindStream && len(rest) == 4:
		return e.stream(number(), value)
	case kind == kindFind && len(rest) == 8:
		return e.find(binary.BigEndian.Uint64(rest), value)
	case kind == kindTable && len(rest) >= 1 && rest[0] < hoursPerEpoch:
		return e.tableValue(rest[0], string(rest[1:]), value)
	case kind == kindPending && len(rest) == 5 && rest[0] < hoursPerEpoch:
		return e.slots(e.noted, hourID{binary.BigEndian.Uint32(rest[1:]), rest[0]}, value)
	case kind == kindDirty && len(rest) == 5 && rest[4] <= wholeDay:
		return e.slots(e.dirty, hourID{number(), rest[4]}, value)
	case kind == kindID && len(rest) == 12:
		r := reader{data: value}
		t := int64(min(r.uvarint("time"), 1<<62))
		row := append(windowKey(e.id, kindRow, levelFine, number(), t), rest[4:]...)
		e.ids = append(e.ids, idCheck{t, row, key})
		return r.end()
	case kind == kindLongest && len(rest) == 4:
		r := reader{data: value}
		e.longest[number()] = int64(r.below(slotMs+1, "time"))
		return r.end()
	case kind == kindSender && len(rest) == 4:
		r := reader{data: value}
		e.senders[number()] = r.below(epochItself, "number")
		return r.end()
	case kind == kindSpans && len(rest) == 21 && rest[0] == levelFine:
		return e.spanSamples(key, value)
	case kind == kindRow && len(rest) >= 13 && int(rest[0]) < levels:
		return e.row(key, value)
	case kind == kindPoints && len(rest) >= 13 && int(rest[0]) < levels:
		t, _ := windowTime(key)
		e.points = append(e.points, pointsCheck{keyStream(key), int8(rest[0]), t, slices.Clone(value), key})
		e.v.Windows++
	default:
		return fmt.Errorf("%w: unknown key %x", ErrCorrupt, key)
	}
	return nil
}

// stream reads a stream, after the partitions and the rows.
func (e *epochCheck) stream(n uint32, value []byte) error {
	if len(value) == 0 && e.rebuild == nil {
		return nil // a number that is not to be used
	}
	partition, def, err := readStream(value)
	if err == nil && !e.services[partition] && e.rebuild != nil && partition < maxPartitions {
		e.services[partition] = true
		e.rebuild.set(partitionKey(e.id, partition), []byte(def.labels.Get(labelServiceName)))
	}
	if err == nil && !e.services[partition] {
		err = fmt.Errorf("%w: service %d is missing", ErrCorrupt, partition)
	}
	if err != nil {
		return err
	}
	e.streams[n] = &streamCheck{partition: partition, def: def, family: def.isFamily(), members: []uint32{n}}
	return nil
}

func (e *epochCheck) slots(to map[hourID]uint16, at hourID, value []byte) error {
	r := reader{data: value}
	mask := r.below(allSlots+1, "slots")
	to[at] |= uint16(mask)
	return r.end()
}

func (e *epochCheck) segment(partition, first uint32, value []byte) error {
	d := e.dicts[partition]
	if d == nil {
		d = &dictCheck{dict: newDictionary()}
		d.dict.lookup = &lookup{}
		d.dict.findCalls()
		e.dicts[partition] = d
	}
	switch {
	case d.closed:
		e.rebuild.delete(segmentKey(e.id, partition, first))
		return nil
	case len(value) == 0:
		d.closed = true
		return nil
	case !e.services[partition]:
		return fmt.Errorf("%w: service %d is missing", ErrCorrupt, partition)
	case first != uint32(len(d.dict.nodes)):
		d.closed = true
		return fmt.Errorf("%w: a segment is missing: node %d follows %d", ErrCorrupt, first, len(d.dict.nodes)-1)
	}
	if err := d.dict.readSegment(value); err != nil {
		d.closed = true
		return err
	}
	return nil
}

// row decodes a row. What it refers to comes later in the order of keys.
func (e *epochCheck) row(key, value []byte) error {
	t, _ := windowTime(key)
	r := rowCheck{stream: binary.BigEndian.Uint32(key[6:]), level: int8(key[5]), time: t, key: key}
	if epochOf(t) != e.id || windowEnd(int(r.level), t) != t {
		return fmt.Errorf("%w: time %s is none of this day's", ErrCorrupt, rfc3339(t))
	}
	if err := r.row.decode(slices.Clone(value)); err != nil {
		return err
	}
	var tmp scratch
	if r.row.count > 0 {
		tmp.nodes = grow(tmp.nodes, r.row.count)
		if !r.row.nodes.decode(tmp.nodes) {
			return fmt.Errorf("%w: nodes end early", ErrCorrupt)
		}
		if err := tmp.number(1 << 32); err != nil {
			return err
		}
		r.nodes = uint32(tmp.nodes[len(tmp.nodes)-1]) + 1
	}
	if r.level == levelFine {
		if err := r.row.single(); err != nil {
			return err
		}
	}
	for c, total := range r.row.totals {
		sum, err := r.row.sum(c, &tmp)
		if err != nil {
			return err
		}
		if sum != max(total, 0) { // of one that is uncounted there are none
			return fmt.Errorf("%w: total %d of sample type %d, its values are %d together", ErrCorrupt, total, c, sum)
		}
	}
	if r.level == levelFine {
		e.v.Profiles++
	} else {
		e.v.Windows++
	}
	r.row.nodes, r.row.values = column{}, nil // not needed any more
	e.rows = append(e.rows, r)
	return nil
}

// sum adds up the values of one sample type.
func (p *packedRow) sum(sampleType int, s *scratch) (sum int64, err error) {
	if p.count == 0 {
		return 0, nil
	}
	v := p.values[sampleType]
	divisor := v.divisor
	if v.mode == columnSame {
		v = p.values[v.same]
	}
	s.values = grow(s.values, v.ones)
	if !v.column.decode(s.values) {
		return 0, fmt.Errorf("%w: values end early", ErrCorrupt)
	}
	for _, x := range s.values {
		sum += int64(x+1) * divisor
	}
	return sum, nil
}

// end checks what could not be while the keys came.
func (e *epochCheck) end() {
	if e == nil {
		return
	}
	e.tableEnd()
	e.findFamilies()
	e.findable()
	// What refers to something that is missing is not counted by what follows.
	e.rows = slices.DeleteFunc(e.rows, func(r rowCheck) bool {
		err := e.reference(&r)
		if err != nil {
			e.wrong(r.key, err)
		}
		return err != nil && e.rebuild != nil
	})
	e.rebuild.begin(e)
	e.rows = slices.DeleteFunc(e.rows, func(r rowCheck) bool {
		err := e.window(&r)
		if err != nil {
			e.wrong(r.key, err)
			e.rebuild.mark(e, r.stream, r.level, r.time)
		}
		return err != nil && e.rebuild != nil
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
			for ; level < levels; level++ {
				e.rebuild.mark(e, e.rows[i].stream, level, windowEnd(int(level), e.rows[i].time))
			}
		}
	}
	for i := range e.ids {
		if err := e.identified(&e.ids[i]); err != nil {
			e.wrong(e.ids[i].key, err)
		}
	}
	for i := range e.spans {
		if err := e.spanned(&e.spans[i]); err != nil {
			e.wrong(e.spans[i].key, err)
		}
	}
	e.rebuild.end(e)
}
