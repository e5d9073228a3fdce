package ingest

import (
	"encoding/binary"
	"unsafe"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// decode decodes a profile.proto message as nearly all writers encode it, with one
// allocation for all parts of a kind. It returns nil for a message that is broken, over
// a limit or unusual; decodeSlowly then decides, and its error names what is wrong. The
// error is that of reserving memory.
//
// Strings of the result share memory with raw, which must not change.
func decode(raw []byte, l Limits, memory *reservation) (*googlev1.Profile, error) {
	d := decoder{b: raw, text: unsafe.String(unsafe.SliceData(raw), len(raw)), limits: l, memory: memory, p: &googlev1.Profile{}}
	if !d.count() || !d.profile() {
		return nil, memory.err
	}
	return d.p, nil
}

// A decoder decodes one profile.
type decoder struct {
	b      []byte
	text   string // b as a string, sharing its memory
	limits Limits
	memory *reservation
	p      *googlev1.Profile

	// counts are the occurrences of each field of Profile, and sampleBytes the bytes of
	// its samples.
	counts      [len(fieldWires)]int
	sampleBytes int

	types     []googlev1.ValueType
	samples   []googlev1.Sample
	mappings  []googlev1.Mapping
	locations []googlev1.Location
	functions []googlev1.Function
	lines     slab[googlev1.Line]
	linePtrs  slab[*googlev1.Line]
	labels    slab[googlev1.Label]
	ids       []uint64
	values    []int64
	lineCount int
}

// A slab hands out values that were allocated together.
type slab[T any] struct {
	free []T
	next int // how many it allocates when there are none left
}

const (
	leastSlab = 16
	mostSlab  = 512
)

// take returns one zero value, in a slice of which it is all, or nil if there is no
// memory for more.
func (s *slab[T]) take(memory *reservation) []T {
	if len(s.free) == 0 {
		s.next = min(max(2*s.next, leastSlab), mostSlab)
		if !memory.spend(int64(s.next) * int64(unsafe.Sizeof(*new(T)))) {
			return nil
		}
		s.free = make([]T, s.next)
	}
	out := s.free[:1:1]
	s.free = s.free[1:]
	return out
}

// Wire types of protobuf. Tags of profile.proto's fields have one byte.
const (
	wireVarint = 0
	wireBytes  = 2
	wireNone   = -1
)

// fieldWires are the wire types of Profile's fields, wireNone for comments, which are rare.
var fieldWires = [...]int{
	wireNone, wireBytes, wireBytes, wireBytes, wireBytes, wireBytes, wireBytes, wireVarint,
	wireVarint, wireVarint, wireVarint, wireBytes, wireVarint, wireNone, wireVarint,
}

// uvarint reads a number at an offset. n is its length in bytes, 0 if it is broken.
func uvarint(b []byte, at int) (v uint64, n int) {
	if at < len(b) && b[at] < 0x80 {
		return uint64(b[at]), 1
	}
	if at+1 < len(b) && b[at+1] < 0x80 {
		return uint64(b[at]&0x7f) | uint64(b[at+1])<<7, 2
	}
	if at >= len(b) {
		return 0, 0
	}
	v, n = binary.Uvarint(b[at:])
	return v, max(n, 0)
}

// next reads a tag and its value: a number v, or bytes from one offset to another.
func next(b []byte, at int) (field, wire int, v uint64, from, to int, ok bool) {
	tag := b[at]
	field, wire = int(tag>>3), int(tag&7)
	if tag >= 0x80 || field == 0 {
		return 0, 0, 0, 0, 0, false
	}
	v, n := uvarint(b, at+1)
	from = at + 1 + n
	switch {
	case n == 0:
		return 0, 0, 0, 0, 0, false
	case wire == wireVarint:
		return field, wire, v, from, from, true
	case wire == wireBytes && v <= uint64(len(b)-from):
		return field, wire, v, from, from + int(v), true
	}
	return 0, 0, 0, 0, 0, false
}

// count counts the parts of each kind and allocates them.
func (d *decoder) count() bool {
	for at := 0; at < len(d.b); {
		field, wire, _, from, to, ok := next(d.b, at)
		if !ok {
			return false
		}
		if field >= len(fieldWires) || fieldWires[field] != wire {
			return false
		}
		d.counts[field]++
		if field == 2 {
			d.sampleBytes += to - from
		}
		at = to
	}
	c := &d.counts
	if exceeds(c[2], d.limits.MaxSamples) || c[11] > 1 || d.symbolsExceed() {
		return false
	}
	if !d.memory.spend(int64(c[1])*typeCost + int64(c[2])*sampleCost + int64(d.sampleBytes)*numberCost +
		int64(c[3])*mappingCost + int64(c[4])*locationCost + int64(c[5])*functionCost + int64(c[6])*stringCost) {
		return false
	}
	p := d.p
	d.types, p.SampleType = make([]googlev1.ValueType, c[1]), make([]*googlev1.ValueType, 0, c[1])
	d.samples, p.Sample = make([]googlev1.Sample, c[2]), make([]*googlev1.Sample, 0, c[2])
	d.mappings, p.Mapping = make([]googlev1.Mapping, c[3]), make([]*googlev1.Mapping, 0, c[3])
	d.locations, p.Location = make([]googlev1.Location, c[4]), make([]*googlev1.Location, 0, c[4])
	d.functions, p.Function = make([]googlev1.Function, c[5]), make([]*googlev1.Function, 0, c[5])
	p.StringTable = make([]string, 0, c[6])
	d.values = make([]int64, 0, min(c[1]*c[2], d.sampleBytes)) // a number has at least one byte
	d.ids = make([]uint64, 0, d.sampleBytes/2)
	d.lines.free, d.linePtrs.free = make([]googlev1.Line, c[4]), make([]*googlev1.Line, c[4])
	return true
}

func (d *decoder) symbolsExceed() bool {
	c := &d.counts
	return exceeds(c[1]+c[3]+c[4]+c[5]+c[6]+d.lineCount, d.limits.MaxSymbols)
}

func (d *decoder) profile() bool {
	p := d.p
	for at := 0; at < len(d.b); {
		field, _, v, from, to, ok := next(d.b, at)
		if !ok {
			return false
		}
		at = to
		switch field {
		case 1:
			t := &d.types[len(p.SampleType)]
			p.SampleType = append(p.SampleType, t)
			ok = d.valueType(t, from, to)
		case 2:
			s := &d.samples[len(p.Sample)]
			p.Sample = append(p.Sample, s)
			ok = d.sample(s, from, to)
		case 3:
			m := &d.mappings[len(p.Mapping)]
			p.Mapping = append(p.Mapping, m)
			ok = d.mapping(m, from, to)
		case 4:
			l := &d.locations[len(p.Location)]
			p.Location = append(p.Location, l)
			ok = d.location(l, from, to)
		case 5:
			f := &d.functions[len(p.Function)]
			p.Function = append(p.Function, f)
			ok = d.function(f, from, to)
		case 6:
			p.StringTable = append(p.StringTable, d.text[from:to])
		case 7:
			p.DropFrames = int64(v)
		case 8:
			p.KeepFrames = int64(v)
		case 9:
			p.TimeNanos = int64(v)
		case 10:
			p.DurationNanos = int64(v)
		case 11:
			p.PeriodType = &googlev1.ValueType{}
			ok = d.valueType(p.PeriodType, from, to)
		case 12:
			p.Period = int64(v)
		case 14:
			p.DefaultSampleType = int64(v)
		}
		if !ok {
			return false
		}
	}
	return !d.symbolsExceed()
}

func appendPacked[N ~int64 | ~uint64](to []N, b []byte) ([]N, bool) {
	for at := 0; at < len(b); {
		v, n := uvarint(b, at)
		if n == 0 {
			return to, false
		}
		to = append(to, N(v))
		at += n
	}
	return to, true
}

// numbers reads a message that has only numbers: field 1 into the first variable, and so
// on.
func (d *decoder) numbers(from, to int, into ...*int64) bool {
	return d.fields(from, to, func(field int, v uint64) bool {
		if field > len(into) {
			return false
		}
		*into[field-1] = int64(v)
		return true
	})
}

func (d *decoder) valueType(t *googlev1.ValueType, from, to int) bool {
	return d.numbers(from, to, &t.Type, &t.Unit)
}

func (d *decoder) sample(s *googlev1.Sample, from, to int) bool {
	firstID, firstValue, labels := len(d.ids), len(d.values), 0
	for at := from; at < to; {
		field, wire, v, start, end, ok := next(d.b[:to], at)
		if !ok {
			return false
		}
		at = end
		switch {
		case field == 1 && wire == wireVarint:
			d.ids = append(d.ids, v)
		case field == 1:
			d.ids, ok = appendPacked(d.ids, d.b[start:end])
		case field == 2 && wire == wireVarint:
			d.values = append(d.values, int64(v))
		case field == 2:
			d.values, ok = appendPacked(d.values, d.b[start:end])
		case field == 3 && wire == wireBytes:
			if labels++; exceeds(labels, d.limits.MaxLabels) {
				return false
			}
			taken := d.labels.take(d.memory)
			if taken == nil {
				return false
			}
			l := &taken[0]
			s.Label = append(s.Label, l)
			ok = d.numbers(start, end, &l.Key, &l.Str, &l.Num, &l.NumUnit)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	if len(d.values)-firstValue > len(d.types) {
		return false // values holds as many as there are types
	}
	if len(d.ids) > firstID {
		s.LocationId = d.ids[firstID:len(d.ids):len(d.ids)]
	}
	if len(d.values) > firstValue {
		s.Value = d.values[firstValue:len(d.values):len(d.values)]
	}
	return true
}

// fields calls fn with each field of a message that has only numbers. fn reports false
// for an unknown field.
func (d *decoder) fields(from, to int, fn func(field int, v uint64) bool) bool {
	for at := from; at < to; {
		field, wire, v, end, _, ok := next(d.b[:to], at)
		if !ok || wire != wireVarint || !fn(field, v) {
			return false
		}
		at = end
	}
	return true
}

func (d *decoder) mapping(m *googlev1.Mapping, from, to int) bool {
	return d.fields(from, to, func(field int, v uint64) bool {
		switch field {
		case 1:
			m.Id = v
		case 2:
			m.MemoryStart = v
		case 3:
			m.MemoryLimit = v
		case 4:
			m.FileOffset = v
		case 5:
			m.Filename = int64(v)
		case 6:
			m.BuildId = int64(v)
		case 7:
			m.HasFunctions = v != 0
		case 8:
			m.HasFilenames = v != 0
		case 9:
			m.HasLineNumbers = v != 0
		case 10:
			m.HasInlineFrames = v != 0
		default:
			return false
		}
		return true
	})
}

func (d *decoder) location(l *googlev1.Location, from, to int) bool {
	lines := 0
	for at := from; at < to; {
		field, wire, v, start, end, ok := next(d.b[:to], at)
		if !ok {
			return false
		}
		at = end
		switch {
		case field == 4 && wire == wireBytes:
			taken := d.lines.take(d.memory)
			if taken == nil {
				return false
			}
			line := &taken[0]
			if lines++; lines == 1 {
				if l.Line = d.linePtrs.take(d.memory); l.Line == nil {
					return false
				}
				l.Line[0] = line
			} else {
				l.Line = append(l.Line, line)
			}
			if !d.line(line, start, end) {
				return false
			}
			continue
		case wire != wireVarint:
			return false
		}
		switch field {
		case 1:
			l.Id = v
		case 2:
			l.MappingId = v
		case 3:
			l.Address = v
		case 5:
			l.IsFolded = v != 0
		default:
			return false
		}
	}
	d.lineCount += lines
	return true
}

func (d *decoder) line(l *googlev1.Line, from, to int) bool {
	return d.fields(from, to, func(field int, v uint64) bool {
		switch field {
		case 1:
			l.FunctionId = v
		case 2:
			l.Line = int64(v)
		default: // a column, which is not stored
			return false
		}
		return true
	})
}

func (d *decoder) function(f *googlev1.Function, from, to int) bool {
	return d.fields(from, to, func(field int, v uint64) bool {
		switch field {
		case 1:
			f.Id = v
		case 2:
			f.Name = int64(v)
		case 3:
			f.SystemName = int64(v)
		case 4:
			f.Filename = int64(v)
		case 5:
			f.StartLine = int64(v)
		default:
			return false
		}
		return true
	})
}
