package ingest

import (
	"errors"
	"path"
	"unicode/utf8"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// correct makes a profile valid by correcting single elements or leaving them out. No
// value of a sample is lost because a name or a reference is wrong. The report says what
// was done. It returns an error if nothing is left, or nothing with a meaning.
func correct(p *googlev1.Profile, l Limits) error {
	if len(p.SampleType) == 0 {
		return errors.New("sample_type: is missing")
	}
	c := corrector{profile: p, limits: l, report: &Report{}}
	c.strings()
	c.header()
	types := len(p.SampleType)
	keep := c.types()
	c.mappings()
	c.functions()
	c.locations()
	if err := c.samples(types, keep); err != nil {
		return err
	}
	l.Report.merge(c.report)
	return nil
}

// A corrector corrects one profile.
type corrector struct {
	profile *googlev1.Profile
	limits  Limits
	report  *Report

	mappingIDs, functionIDs, locationIDs ids

	unknownFunction, unknownLocation uint64 // IDs, 0 if there is none
	cutLocation                      uint64
}

// strings makes all strings UTF-8, cuts those that are too long, and makes the first one
// empty. Some writers number strings from 0 without an empty string; then a 0 where text
// is required means the first string.
func (c *corrector) strings() {
	p := c.profile
	for i, s := range p.StringTable {
		s = validText(s, c.report)
		if most := c.limits.MaxSymbolBytes; exceeds(len(s), most) {
			for most > 0 && !utf8.RuneStart(s[most]) {
				most--
			}
			s = s[:most]
			c.report.Correct("string", "longer than limits.max_symbol_bytes, which was cut", 1)
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
	c.report.Correct("string", "0, which was not empty", 1)
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

// text returns a string of the string table, "" if the index is outside of it.
func (c *corrector) text(i int64) string {
	if i < 0 || i >= int64(len(c.profile.StringTable)) {
		return ""
	}
	return c.profile.StringTable[i]
}

// index sets an index outside of the string table to 0, which is "".
func (c *corrector) index(i *int64, what string) {
	if *i < 0 || *i >= int64(len(c.profile.StringTable)) {
		*i = 0
		c.report.Correct("reference", "to a missing string, by "+what, 1)
	}
}

func (c *corrector) newText(s string) int64 {
	c.profile.StringTable = append(c.profile.StringTable, s)
	return int64(len(c.profile.StringTable)) - 1
}

func (c *corrector) header() {
	p := c.profile
	if p.DurationNanos < 0 || p.DurationNanos > maxDuration {
		p.DurationNanos = 0
		c.report.Correct("time", "that the profile took, which was negative or more than a day", 1)
	}
	if p.Period < 0 {
		p.Period = 0
		c.report.Correct("period", "which was negative", 1)
	}
	c.index(&p.DropFrames, "drop_frames")
	c.index(&p.KeepFrames, "keep_frames")
	c.index(&p.DefaultSampleType, "default_sample_type")
}

// types corrects the sample types and returns the indexes of those to keep. Of a type
// that occurs twice it keeps the first, which pprof shows too.
func (c *corrector) types() (keep []int) {
	p := c.profile
	if t := p.PeriodType; t != nil {
		c.valueType(t, "period_type")
	}
	type name struct{ name, unit string }
	seen := map[name]bool{}
	for i, t := range p.SampleType {
		c.valueType(t, "sample_type")
		n := name{c.text(t.Type), c.text(t.Unit)}
		switch {
		case n.name == "" && len(p.SampleType) > 1:
			c.report.Skip("type", "without a name", 1)
		case seen[n]:
			c.report.Skip("type", n.name+" in "+n.unit+", which occurs twice", 1)
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

func (c *corrector) valueType(t *googlev1.ValueType, what string) {
	c.index(&t.Type, what)
	c.index(&t.Unit, what)
}

func (c *corrector) mappings() {
	p := c.profile
	kept := p.Mapping[:0]
	for _, f := range p.Mapping {
		if !c.mappingIDs.put(f.Id) {
			c.report.Skip("mapping", "whose ID is 0 or occurs twice", 1)
			continue
		}
		c.index(&f.Filename, "a mapping")
		c.index(&f.BuildId, "a mapping")
		kept = append(kept, f)
	}
	p.Mapping = kept
}

// functions gives each function without a name one: its system name, its file's name, or
// [unknown].
func (c *corrector) functions() {
	p := c.profile
	kept := p.Function[:0]
	for _, f := range p.Function {
		if !c.functionIDs.put(f.Id) {
			c.report.Skip("function", "whose ID is 0 or occurs twice", 1)
			continue
		}
		c.index(&f.Name, "a function")
		c.index(&f.SystemName, "a function")
		c.index(&f.Filename, "a function")
		if c.text(f.Name) == "" {
			switch file := path.Base(c.text(f.Filename)); {
			case c.text(f.SystemName) != "":
				f.Name = f.SystemName
			case c.text(f.Filename) != "" && file != "":
				f.Name = c.newText(file)
				c.report.Correct("function", "without a name", 1)
			default:
				f.Name = c.newText(frameUnknown)
				c.report.Correct("function", "without a name", 1)
			}
		}
		kept = append(kept, f)
	}
	p.Function = kept
}

// locations removes dangling references from locations. A location that has an address
// is then displayed by it, others as [unknown].
func (c *corrector) locations() {
	p := c.profile
	kept := p.Location[:0]
	for _, l := range p.Location {
		if !c.locationIDs.put(l.Id) {
			c.report.Skip("location", "whose ID is 0 or occurs twice", 1)
			continue
		}
		if l.MappingId != 0 && !c.mappingIDs.has(l.MappingId) {
			l.MappingId = 0
			c.report.Correct("location", "whose mapping is missing", 1)
		}
		dangling := 0
		for _, line := range l.Line {
			if !c.functionIDs.has(line.FunctionId) {
				dangling++
			}
		}
		if dangling > 0 {
			c.report.Correct("location", "whose function is missing", 1)
			if dangling == len(l.Line) && l.Address != 0 {
				l.Line = nil
			}
			for _, line := range l.Line {
				if !c.functionIDs.has(line.FunctionId) {
					line.FunctionId, line.Line = c.unknown(), 0
				}
			}
		}
		kept = append(kept, l)
	}
	p.Location = kept
}

// unknown returns the ID of the function [unknown].
func (c *corrector) unknown() uint64 {
	if c.unknownFunction == 0 {
		c.unknownFunction = c.newFunction(frameUnknown)
	}
	return c.unknownFunction
}

// unknownPlace returns the ID of a location in the function [unknown].
func (c *corrector) unknownPlace() uint64 {
	if c.unknownLocation == 0 {
		c.unknownLocation = c.newLocation(c.unknown())
	}
	return c.unknownLocation
}

func (c *corrector) newFunction(name string) uint64 {
	id, text := c.functionIDs.fresh(), c.newText(name)
	c.profile.Function = append(c.profile.Function, &googlev1.Function{Id: id, Name: text, SystemName: text})
	return id
}

func (c *corrector) newLocation(function uint64) uint64 {
	id := c.locationIDs.fresh()
	c.profile.Location = append(c.profile.Location, &googlev1.Location{Id: id, Line: []*googlev1.Line{{FunctionId: function}}})
	return id
}

// depth removes frames from the middle of a stacktrace that is too deep, which most
// often is recursion: the leaf keeps its self value, and the outer callers their totals.
func (c *corrector) depth(s *googlev1.Sample) {
	most := c.limits.MaxStackDepth
	if !exceeds(len(s.LocationId), most) {
		return
	}
	if c.cutLocation == 0 {
		c.cutLocation = c.newLocation(c.newFunction(frameTruncated))
	}
	callers := (most - 1) / 2
	leaf := most - 1 - callers
	ids := append(make([]uint64, 0, most), s.LocationId[:leaf]...)
	ids = append(ids, c.cutLocation)
	s.LocationId = append(ids, s.LocationId[len(s.LocationId)-callers:]...)
	c.report.Correct("stacktrace", "deeper than limits.max_stack_depth, which was cut in the middle", 1)
}
