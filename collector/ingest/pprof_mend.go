package ingest

import (
	"errors"
	"path"
	"unicode/utf8"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// mend makes a profile sound in which single elements are wrong: it corrects
// them, or leaves them out. No value of a sample is lost because a name or a
// reference is wrong. The report names what was done; an error says that there
// is nothing left, or nothing that has a meaning.
func mend(p *googlev1.Profile, l Limits) error {
	if len(p.SampleType) == 0 {
		return errors.New("sample_type: is missing")
	}
	m := mender{profile: p, limits: l, report: &Report{}}
	m.strings()
	m.header()
	types := len(p.SampleType)
	keep := m.types()
	m.mappings()
	m.functions()
	m.locations()
	if err := m.samples(types, keep); err != nil {
		return err
	}
	l.Report.merge(m.report)
	return nil
}

// A mender mends one profile.
type mender struct {
	profile *googlev1.Profile
	limits  Limits
	report  *Report

	mappingIDs, functionIDs, locationIDs ids

	unknownFunction, unknownLocation uint64 // IDs, 0 if there is none
	cutLocation                      uint64
}

// strings makes all strings UTF-8, no longer than may be, and the first one empty. Some writers number
// from 0 without an empty string; then a 0 that has to mean something means the
// first string.
func (m *mender) strings() {
	p := m.profile
	for i, s := range p.StringTable {
		s = validText(s, m.report)
		if most := m.limits.MaxSymbolBytes; exceeds(len(s), most) {
			for most > 0 && !utf8.RuneStart(s[most]) {
				most--
			}
			s = s[:most]
			m.report.Correct("string", "longer than limits.max_symbol_bytes, which was cut", 1)
		}
		p.StringTable[i] = s
	}
	if len(p.StringTable) == 0 {
		p.StringTable = []string{""}
	}
	first := p.StringTable[0]
	if first == "" {
		return
	}
	m.report.Correct("string", "0, which was not empty", 1)
	p.StringTable[0] = ""
	n := int64(len(p.StringTable))
	p.StringTable = append(p.StringTable, first)
	move := func(index *int64) {
		if *index == 0 {
			*index = n
		}
	}
	for _, t := range p.SampleType {
		move(&t.Type)
	}
	for _, f := range p.Function {
		if f.SystemName == 0 {
			move(&f.Name)
		}
	}
	for _, s := range p.Sample {
		for _, l := range s.Label {
			move(&l.Key)
		}
	}
}

// text returns what is at an index of the string table, "" if there is nothing.
func (m *mender) text(i int64) string {
	if i < 0 || i >= int64(len(m.profile.StringTable)) {
		return ""
	}
	return m.profile.StringTable[i]
}

// index sets an index that is outside the string table to that of "".
func (m *mender) index(i *int64, what string) {
	if *i < 0 || *i >= int64(len(m.profile.StringTable)) {
		*i = 0
		m.report.Correct("reference", "to a string that is not there, by "+what, 1)
	}
}

func (m *mender) newText(s string) int64 {
	m.profile.StringTable = append(m.profile.StringTable, s)
	return int64(len(m.profile.StringTable)) - 1
}

func (m *mender) header() {
	p := m.profile
	if p.DurationNanos < 0 || p.DurationNanos > maxDuration {
		p.DurationNanos = 0
		m.report.Correct("time", "that the profile took, which was negative or more than a day", 1)
	}
	if p.Period < 0 {
		p.Period = 0
		m.report.Correct("period", "which was negative", 1)
	}
	m.index(&p.DropFrames, "drop_frames")
	m.index(&p.KeepFrames, "keep_frames")
	m.index(&p.DefaultSampleType, "default_sample_type")
}

// types corrects the sample types and returns the indexes of those that stay: of
// a type that is there twice the first, which is the one that pprof shows too.
func (m *mender) types() (keep []int) {
	p := m.profile
	if t := p.PeriodType; t != nil {
		m.valueType(t, "period_type")
	}
	type name struct{ name, unit string }
	seen := map[name]bool{}
	for i, t := range p.SampleType {
		m.valueType(t, "sample_type")
		n := name{m.text(t.Type), m.text(t.Unit)}
		switch {
		case n.name == "" && len(p.SampleType) > 1:
			m.report.Skip("type", "without a name", 1)
		case seen[n]:
			m.report.Skip("type", n.name+" in "+n.unit+", which is there twice", 1)
		default:
			seen[n] = true
			keep = append(keep, i)
		}
	}
	types := make([]*googlev1.ValueType, 0, len(keep))
	for _, i := range keep {
		types = append(types, p.SampleType[i])
	}
	p.SampleType = types
	return keep
}

func (m *mender) valueType(t *googlev1.ValueType, what string) {
	m.index(&t.Type, what)
	m.index(&t.Unit, what)
}

func (m *mender) mappings() {
	p := m.profile
	kept := p.Mapping[:0]
	for _, f := range p.Mapping {
		if !m.mappingIDs.put(f.Id) {
			m.report.Skip("mapping", "whose ID is 0 or there twice", 1)
			continue
		}
		m.index(&f.Filename, "a mapping")
		m.index(&f.BuildId, "a mapping")
		kept = append(kept, f)
	}
	p.Mapping = kept
}

// functions gives every function a name: the system's, that of its file, or
// [unknown].
func (m *mender) functions() {
	p := m.profile
	kept := p.Function[:0]
	for _, f := range p.Function {
		if !m.functionIDs.put(f.Id) {
			m.report.Skip("function", "whose ID is 0 or there twice", 1)
			continue
		}
		m.index(&f.Name, "a function")
		m.index(&f.SystemName, "a function")
		m.index(&f.Filename, "a function")
		if m.text(f.Name) == "" {
			switch file := path.Base(m.text(f.Filename)); {
			case m.text(f.SystemName) != "":
				f.Name = f.SystemName
			case m.text(f.Filename) != "" && file != "":
				f.Name = m.newText(file)
				m.report.Correct("function", "without a name", 1)
			default:
				f.Name = m.newText(frameUnknown)
				m.report.Correct("function", "without a name", 1)
			}
		}
		kept = append(kept, f)
	}
	p.Function = kept
}

// locations frees locations of references that lead nowhere. One that has an
// address is then shown by that, and others as [unknown].
func (m *mender) locations() {
	p := m.profile
	kept := p.Location[:0]
	for _, l := range p.Location {
		if !m.locationIDs.put(l.Id) {
			m.report.Skip("location", "whose ID is 0 or there twice", 1)
			continue
		}
		if l.MappingId != 0 && !m.mappingIDs.has(l.MappingId) {
			l.MappingId = 0
			m.report.Correct("location", "whose mapping is not there", 1)
		}
		dangling := 0
		for _, line := range l.Line {
			if !m.functionIDs.has(line.FunctionId) {
				dangling++
			}
		}
		if dangling > 0 {
			m.report.Correct("location", "whose function is not there", 1)
			if dangling == len(l.Line) && l.Address != 0 {
				l.Line = nil
			}
			for _, line := range l.Line {
				if !m.functionIDs.has(line.FunctionId) {
					line.FunctionId, line.Line = m.unknown(), 0
				}
			}
		}
		kept = append(kept, l)
	}
	p.Location = kept
}

// unknown returns the ID of a function called [unknown].
func (m *mender) unknown() uint64 {
	if m.unknownFunction == 0 {
		m.unknownFunction = m.newFunction(frameUnknown)
	}
	return m.unknownFunction
}

// unknownPlace returns the ID of a location in that function.
func (m *mender) unknownPlace() uint64 {
	if m.unknownLocation == 0 {
		m.unknownLocation = m.newLocation(m.unknown())
	}
	return m.unknownLocation
}

func (m *mender) newFunction(name string) uint64 {
	id, text := m.functionIDs.fresh(), m.newText(name)
	m.profile.Function = append(m.profile.Function, &googlev1.Function{Id: id, Name: text, SystemName: text})
	return id
}

func (m *mender) newLocation(function uint64) uint64 {
	id := m.locationIDs.fresh()
	m.profile.Location = append(m.profile.Location, &googlev1.Location{Id: id, Line: []*googlev1.Line{{FunctionId: function}}})
	return id
}

// depth cuts a stacktrace that is deeper than may be in its middle, most often
// recursion: so the function that ran keeps its own time, and those that everything
// is called by their total.
func (m *mender) depth(s *googlev1.Sample) {
	most := m.limits.MaxStackDepth
	if !exceeds(len(s.LocationId), most) {
		return
	}
	if m.cutLocation == 0 {
		m.cutLocation = m.newLocation(m.newFunction(frameTruncated))
	}
	callers := (most - 1) / 2
	leaf := most - 1 - callers
	ids := append(make([]uint64, 0, most), s.LocationId[:leaf]...)
	ids = append(ids, m.cutLocation)
	s.LocationId = append(ids, s.LocationId[len(s.LocationId)-callers:]...)
	m.report.Correct("stacktrace", "deeper than limits.max_stack_depth, which was cut in the middle", 1)
}
