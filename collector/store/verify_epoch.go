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

	partitions uint32
	dicts      map[uint32]*dictCheck
	streams    map[uint32]streamCheck
	active     map[hourID]uint16
	rows       []rowCheck
	dirty      map[hourID]uint16
	points     []pointsCheck
}

type dictCheck struct {
	dict   *dictionary
	closed bool // by mend, or by damage
}

type streamCheck struct {
	partition uint32
	types     int
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

func newEpochCheck(c *checker, id uint32) *epochCheck {
	return &epochCheck{
		checker: c, id: id, dicts: map[uint32]*dictCheck{}, streams: map[uint32]streamCheck{},
		active: map[hourID]uint16{}, dirty: map[hourID]uint16{},
	}
}

func (e *epochCheck) add(key, value []byte) {
	if err := e.check(key, value); err != nil {
		e.wrong(key, err)
	}
}

func (e *epochCheck) check(key, value []byte) error {
	rest := key[5:]
	if len(rest) < 4 {
		return fmt.Errorf("%w: key %x is too short", ErrCorrupt, key)
	}
	n := binary.BigEndian.Uint32(rest)
	switch kind := key[4]; {
	case kind == kindPartition && len(rest) == 4:
		if n != e.partitions {
			return fmt.Errorf("%w: service %d follows %d", ErrCorrupt, n, int64(e.partitions)-1)
		}
		e.partitions = n + 1
	case kind == kindSegment && len(rest) == 8:
		return e.segment(n, binary.BigEndian.Uint32(rest[4:]), value)
	case kind == kindStream && len(rest) == 4:
		if len(value) == 0 {
			return nil // mended
		}
		partition, def, err := readStream(value)
		if err == nil && partition >= e.partitions {
			err = fmt.Errorf("%w: service %d of %d", ErrCorrupt, partition, e.partitions)
		}
		if err != nil {
			return err
		}
		e.streams[n] = streamCheck{partition, len(def.types)}
	case (kind == kindActive || kind == kindDirty) && len(rest) == 5:
		r := reader{data: value}
		mask := r.below(1<<slotsPerHour, "slots")
		if err := r.end(); err != nil {
			return err
		}
		if kind == kindActive {
			e.active[hourID{n, rest[4]}] = uint16(mask)
		} else {
			e.dirty[hourID{n, rest[4]}] = uint16(mask)
		}
	case kind == kindRow && len(rest) >= 13 && int(rest[0]) < levels:
		return e.row(key, value)
	case kind == kindPoints && len(rest) >= 13 && int(rest[0]) < levels:
		t, _ := windowTime(key)
		e.points = append(e.points, pointsCheck{binary.BigEndian.Uint32(rest[1:]), int8(rest[0]), t, slices.Clone(value), key})
		e.v.Windows++
	default:
		return fmt.Errorf("%w: unknown key %x", ErrCorrupt, key)
	}
	return nil
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
		return nil
	case len(value) == 0:
		d.closed = true
		return nil
	case partition >= e.partitions:
		return fmt.Errorf("%w: service %d of %d", ErrCorrupt, partition, e.partitions)
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
		if err := r.row.unpackNodes(1<<32, &tmp); err != nil {
			return err
		}
		r.nodes = uint32(tmp.nodes[len(tmp.nodes)-1]) + 1
	}
	for c, total := range r.row.totals {
		sum, err := r.row.sum(c, &tmp)
		if err != nil {
			return err
		}
		if sum != total {
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
	for i := range e.rows {
		if err := e.reference(&e.rows[i]); err != nil {
			e.wrong(e.rows[i].key, err)
		}
	}
	for i := range e.rows {
		if err := e.window(&e.rows[i]); err != nil {
			e.wrong(e.rows[i].key, err)
		}
	}
	for i := range e.points {
		if err := e.pointList(&e.points[i]); err != nil {
			e.wrong(e.points[i].key, err)
		}
	}
}

func (e *epochCheck) reference(r *rowCheck) error {
	s, ok := e.streams[r.stream]
	if !ok {
		return fmt.Errorf("%w: stream %d is not known", ErrCorrupt, r.stream)
	}
	if len(r.row.totals) != s.types {
		return fmt.Errorf("%w: %d sample types, stream %d has %d", ErrCorrupt, len(r.row.totals), r.stream, s.types)
	}
	nodes := 1
	if d := e.dicts[s.partition]; d != nil {
		nodes = len(d.dict.nodes)
	}
	if int64(r.nodes) > int64(nodes) {
		return fmt.Errorf("%w: node %d, service %d has %d", ErrCorrupt, r.nodes-1, s.partition, nodes)
	}
	if r.level == levelFine && e.active[hourID{r.stream, hourOf(r.time)}]>>slotOf(r.time)&1 == 0 {
		return fmt.Errorf("%w: the slot of the profile is not marked", ErrCorrupt)
	}
	return nil
}

// fine returns the profiles of a stream in a window. Rows are sorted by level,
// stream and time.
func (e *epochCheck) fine(stream uint32, lo, hi int64) []rowCheck {
	find := func(t int64) int {
		i, _ := slices.BinarySearchFunc(e.rows, t, func(r rowCheck, t int64) int {
			switch {
			case r.level > levelFine || r.stream > stream || r.stream == stream && r.time >= t:
				return 1
			}
			return -1
		})
		return i
	}
	return e.rows[find(lo+1):find(hi+1)]
}

// window compares a merged row with the profiles in it, if they are there still.
func (e *epochCheck) window(r *rowCheck) error {
	if r.level == levelFine {
		return nil
	}
	rows := e.fine(r.stream, r.time-windowMs[r.level], r.time)
	if len(rows) == 0 {
		return nil // dropped before the window is
	}
	profiles := uint64(0)
	totals := make([]int64, len(r.row.totals))
	for _, f := range rows {
		profiles += f.row.profiles
		for c := range min(len(totals), len(f.row.totals)) {
			totals[c] += f.row.totals[c]
		}
	}
	if profiles != r.row.profiles || !slices.Equal(totals, r.row.totals) {
		return fmt.Errorf("%w: %d profiles of %d, there are %d of %d", ErrCorrupt, r.row.profiles, r.row.totals, profiles, totals)
	}
	return nil
}

// pointList compares points with the profiles' totals.
func (e *epochCheck) pointList(p *pointsCheck) error {
	s, ok := e.streams[p.stream]
	if !ok {
		return fmt.Errorf("%w: stream %d is not known", ErrCorrupt, p.stream)
	}
	rows := e.fine(p.stream, p.end-windowMs[p.level], p.end)
	var list pointList
	for c := range s.types {
		if err := list.decode(p.value, p.end-windowMs[p.level], c); err != nil {
			return err
		}
		if len(rows) == 0 {
			continue
		}
		if len(list.times) != len(rows) {
			return fmt.Errorf("%w: %d points, there are %d profiles", ErrCorrupt, len(list.times), len(rows))
		}
		for i, r := range rows {
			if list.times[i] != r.time || c < len(r.row.totals) && list.values[i] != r.row.totals[c] {
				return fmt.Errorf("%w: point %d is not that of the profile at %s", ErrCorrupt, i, rfc3339(r.time))
			}
		}
	}
	return nil
}
