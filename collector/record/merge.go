package record

import (
	"encoding/binary"
	"regexp"
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// MaxStacks bounds the distinct stacktraces of a recording. Those beyond it are
// counted under a frame that says so.
const MaxStacks = 1 << 20

// otherStacks is the name of the frame that stands for them.
const otherStacks = "[other stacktraces: the recording holds no more]"

// cutMark begins the name of a frame that says why a stacktrace ends early.
const cutMark = "[stack incomplete"

// A merger adds up profiles into one, with the same sample types. It is used by one
// goroutine at a time.
type merger struct {
	include, exclude []*regexp.Regexp

	out       *googlev1.Profile
	texts     map[string]int64
	functions map[googlev1Function]uint64
	mappings  map[googlev1Mapping]uint64
	locations map[string]uint64 // by their bytes
	marks     []mark            // of locations, by ID
	stacks    map[string]int    // index in out.Sample by location IDs
	scratch   []byte
	limit     int // distinct stacktraces

	leftOut, cut, beyond int64 // sums of the first value
}

type (
	googlev1Function struct {
		name, system, file, line int64
	}
	googlev1Mapping struct {
		start, limit, offset uint64
		file, buildID        int64
	}
)

// A mark says what a location is.
type mark uint8

const (
	included mark = 1 << iota // by a pattern
	excluded
	cutting
)

func newMerger(include, exclude []*regexp.Regexp) *merger {
	m := &merger{
		include: include, exclude: exclude, limit: MaxStacks,
		out:       &googlev1.Profile{StringTable: []string{""}},
		texts:     map[string]int64{"": 0},
		functions: map[googlev1Function]uint64{},
		mappings:  map[googlev1Mapping]uint64{},
		locations: map[string]uint64{},
		marks:     []mark{0},
		stacks:    map[string]int{},
	}
	return m
}

func (m *merger) text(s string) int64 {
	i, ok := m.texts[s]
	if !ok {
		i = int64(len(m.out.StringTable))
		m.texts[s] = i
		m.out.StringTable = append(m.out.StringTable, s)
	}
	return i
}

func (m *merger) function(name, system, file string, line int64) uint64 {
	if system == name {
		// go tool pprof takes names with a system name of their own for final; it would
		// shorten others as if they were mangled: Python's <module> to nothing.
		system = ""
	}
	key := googlev1Function{m.text(name), m.text(system), m.text(file), line}
	id, ok := m.functions[key]
	if !ok {
		id = uint64(len(m.out.Function)) + 1
		m.functions[key] = id
		m.out.Function = append(m.out.Function, &googlev1.Function{Id: id, Name: key.name, SystemName: key.system, Filename: key.file, StartLine: line})
	}
	return id
}

func (m *merger) mapping(p *googlev1.Profile, in *googlev1.Mapping) uint64 {
	key := googlev1Mapping{in.MemoryStart, in.MemoryLimit, in.FileOffset, m.text(p.StringTable[in.Filename]), m.text(p.StringTable[in.BuildId])}
	id, ok := m.mappings[key]
	if !ok {
		id = uint64(len(m.out.Mapping)) + 1
		m.mappings[key] = id
		c := in.CloneVT()
		c.Id, c.Filename, c.BuildId = id, key.file, key.buildID
		m.out.Mapping = append(m.out.Mapping, c)
	}
	return id
}

// location returns the ID of a location, which is owned by the merger from then on.
func (m *merger) location(l *googlev1.Location, names []string) uint64 {
	b := binary.LittleEndian.AppendUint64(m.scratch[:0], l.MappingId)
	b = binary.LittleEndian.AppendUint64(b, l.Address)
	for _, ln := range l.Line {
		b = binary.LittleEndian.AppendUint64(b, ln.FunctionId)
		b = binary.LittleEndian.AppendUint64(b, uint64(ln.Line))
	}
	m.scratch = b
	id, ok := m.locations[string(b)]
	if ok {
		return id
	}
	id = uint64(len(m.out.Location)) + 1
	l.Id = id
	m.locations[string(b)] = id
	m.out.Location = append(m.out.Location, l)
	m.marks = append(m.marks, m.markOf(names))
	return id
}

// markOf compares the names of functions and files with the patterns.
func (m *merger) markOf(names []string) (k mark) {
	for _, name := range names {
		for _, re := range m.include {
			if re.MatchString(name) {
				k |= included
			}
		}
		for _, re := range m.exclude {
			if re.MatchString(name) {
				k |= excluded
			}
		}
		if strings.HasPrefix(name, cutMark) {
			k |= cutting
		}
	}
	return k
}

// frame returns the location of a frame that is a name only.
func (m *merger) frame(name string) uint64 {
	return m.location(&googlev1.Location{Line: []*googlev1.Line{{FunctionId: m.function(name, name, "", 0)}}}, []string{name})
}

// add adds a profile below frames that begin its stacktraces, outermost first. The
// profile is one of package sample: its indexes are right.
func (m *merger) add(p *googlev1.Profile, roots ...string) {
	if m.out.SampleType == nil {
		for _, t := range p.SampleType {
			m.out.SampleType = append(m.out.SampleType, m.valueType(p, t))
		}
		if p.PeriodType != nil {
			m.out.PeriodType, m.out.Period = m.valueType(p, p.PeriodType), p.Period
		}
	}
	functions := make(map[uint64]*googlev1.Function, len(p.Function))
	for _, f := range p.Function {
		functions[f.Id] = f
	}
	mappings := make(map[uint64]uint64, len(p.Mapping))
	for _, mp := range p.Mapping {
		mappings[mp.Id] = m.mapping(p, mp)
	}
	locations := make(map[uint64]uint64, len(p.Location))
	for _, l := range p.Location {
		c := &googlev1.Location{MappingId: mappings[l.MappingId], Address: l.Address, IsFolded: l.IsFolded}
		var names []string
		for _, ln := range l.Line {
			f := functions[ln.FunctionId]
			name, file := p.StringTable[f.Name], p.StringTable[f.Filename]
			names = append(names, name, file)
			c.Line = append(c.Line, &googlev1.Line{FunctionId: m.function(name, p.StringTable[f.SystemName], file, f.StartLine), Line: ln.Line})
		}
		locations[l.Id] = m.location(c, names)
	}
	bottom := make([]uint64, 0, len(roots))
	for i := len(roots) - 1; i >= 0; i-- {
		bottom = append(bottom, m.frame(roots[i]))
	}
	for _, s := range p.Sample {
		ids := make([]uint64, 0, len(s.LocationId)+len(bottom))
		var k mark
		for _, id := range s.LocationId {
			ids = append(ids, locations[id])
			k |= m.marks[locations[id]]
		}
		if k&excluded != 0 || len(m.include) > 0 && k&included == 0 {
			m.leftOut += s.Value[0]
			continue
		}
		if k&cutting != 0 {
			m.cut += s.Value[0]
		}
		m.count(append(ids, bottom...), s.Value)
	}
}

func (m *merger) valueType(p *googlev1.Profile, t *googlev1.ValueType) *googlev1.ValueType {
	return &googlev1.ValueType{Type: m.text(p.StringTable[t.Type]), Unit: m.text(p.StringTable[t.Unit])}
}

// count adds the values of a stacktrace.
func (m *merger) count(ids []uint64, values []int64) {
	key := stackKey(ids)
	i, ok := m.stacks[key]
	if !ok && len(m.stacks) >= m.limit {
		m.beyond += values[0]
		ids = []uint64{m.frame(otherStacks)}
		key = stackKey(ids)
		i, ok = m.stacks[key]
	}
	if !ok {
		i = len(m.out.Sample)
		m.stacks[key] = i
		m.out.Sample = append(m.out.Sample, &googlev1.Sample{LocationId: ids, Value: make([]int64, len(values))})
	}
	for j, v := range values {
		m.out.Sample[i].Value[j] += v
	}
}

func stackKey(ids []uint64) string {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return string(b)
}

// total is the sum of the first values that were kept.
func (m *merger) total() (sum int64) {
	for _, s := range m.out.Sample {
		sum += s.Value[0]
	}
	return sum
}
