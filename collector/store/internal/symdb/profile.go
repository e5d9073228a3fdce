package symdb

import (
	"fmt"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// A Profile is a pprof profile that was found to be sound: every reference in it
// leads somewhere.
type Profile struct {
	*googlev1.Profile
	locations, functions, mappings ids
	prints                         []uint64 // what fingerprints returns
	States                         uint64   // bit i is set if sample type i is a state
}

// ids maps pprof's IDs to indexes. Most writers number from 1 in order.
type ids struct {
	n  int
	by map[uint64]int // nil if in order
}

func (x ids) index(id uint64) (int, bool) {
	if x.by == nil {
		return int(id - 1), id-1 < uint64(x.n)
	}
	i, ok := x.by[id]
	return i, ok
}

func newIDs(n int, id func(int) uint64) ids {
	x := ids{n: n}
	for i := range n {
		if id(i) != uint64(i)+1 {
			x.by = make(map[uint64]int, n)
			break
		}
	}
	if x.by != nil {
		for i := range n {
			x.by[id(i)] = i
		}
	}
	return x
}

// Check follows every reference once.
func Check(p *googlev1.Profile) (*Profile, error) {
	n := int64(len(p.StringTable))
	text := func(i int64) bool { return i >= 0 && i < n }
	if len(p.SampleType) == 0 {
		return nil, fmt.Errorf("sample_type: missing")
	}
	for i, t := range p.SampleType {
		if t == nil || !text(t.Type) || !text(t.Unit) {
			return nil, fmt.Errorf("sample_type[%d]: no such string", i)
		}
		if p.StringTable[t.Type] == "" {
			return nil, fmt.Errorf("sample_type[%d]: type is empty", i)
		}
	}
	if t := p.PeriodType; t != nil && (!text(t.Type) || !text(t.Unit)) {
		return nil, fmt.Errorf("period_type: no such string")
	}
	for i, m := range p.Mapping {
		if m == nil || m.Id == 0 || !text(m.Filename) || !text(m.BuildId) {
			return nil, fmt.Errorf("mapping[%d]: no ID, or no such string", i)
		}
	}
	for i, f := range p.Function {
		if f == nil || f.Id == 0 || !text(f.Name) || !text(f.SystemName) || !text(f.Filename) {
			return nil, fmt.Errorf("function[%d]: no ID, or no such string", i)
		}
	}
	s := &Profile{
		Profile:   p,
		mappings:  newIDs(len(p.Mapping), func(i int) uint64 { return p.Mapping[i].Id }),
		functions: newIDs(len(p.Function), func(i int) uint64 { return p.Function[i].Id }),
	}
	for i, l := range p.Location {
		if l == nil || l.Id == 0 {
			return nil, fmt.Errorf("location[%d]: no ID", i)
		}
		if _, ok := s.mappings.index(l.MappingId); !ok && l.MappingId != 0 {
			return nil, fmt.Errorf("location[%d].mapping_id: no mapping %d", i, l.MappingId)
		}
		for j, ln := range l.Line {
			if ln == nil {
				return nil, fmt.Errorf("location[%d].line[%d]: missing", i, j)
			}
			if _, ok := s.functions.index(ln.FunctionId); !ok {
				return nil, fmt.Errorf("location[%d].line[%d].function_id: no function %d", i, j, ln.FunctionId)
			}
		}
	}
	s.locations = newIDs(len(p.Location), func(i int) uint64 { return p.Location[i].Id })
	for i, sample := range p.Sample {
		if sample == nil || len(sample.Value) != len(p.SampleType) {
			return nil, fmt.Errorf("sample[%d].value: want %d values", i, len(p.SampleType))
		}
		for j, id := range sample.LocationId {
			if _, ok := s.locations.index(id); !ok {
				return nil, fmt.Errorf("sample[%d].location_id[%d]: no location %d", i, j, id)
			}
		}
		for j, l := range sample.Label {
			if l == nil || !text(l.Key) || !text(l.Str) {
				return nil, fmt.Errorf("sample[%d].label[%d]: no such string", i, j)
			}
		}
	}
	return s, nil
}
