package ingest

import (
	"encoding/binary"
	"fmt"
	"math"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// A budget bounds the total size, about as pprof encodes it, of the profiles made from
// one body, to that of one profile: a small body can refer to the same data many times.
type budget struct {
	limits Limits
	bytes  int64
	names  *names
}

func newBudget(l Limits) budget { return budget{limits: l, names: newNames(l)} }

func (b *budget) fits() error {
	if exceeds(b.bytes, b.limits.MaxProfileBytes) {
		return fmt.Errorf("%w: more than %d bytes as pprof (limits.max_profile_bytes)", ErrTooLarge, b.limits.MaxProfileBytes)
	}
	return nil
}

// A draft is a pprof profile under construction. Strings, functions, locations and
// samples are deduplicated; equal samples are added up.
type draft struct {
	budget    *budget
	pprof     *googlev1.Profile
	texts     map[string]int64
	functions map[functionKey]uint64
	places    map[placeKey]uint64
	samples   map[string]uint32 // index in pprof.Sample, by key
	key       []byte
}

// A valueType is a type of values with its unit.
type valueType struct{ name, unit string }

// A sampleLabel is a sample's label.
type sampleLabel struct{ name, value string }

type functionKey struct{ name, file int64 }

// A placeKey is a line of a function.
type placeKey struct {
	function uint64
	line     int64
}

// newDraft returns a draft without samples. Types without a name are left out.
func newDraft(b *budget, ts ...valueType) *draft {
	d := &draft{
		budget:    b,
		pprof:     &googlev1.Profile{StringTable: []string{""}},
		texts:     map[string]int64{"": 0},
		functions: map[functionKey]uint64{},
		places:    map[placeKey]uint64{},
		samples:   map[string]uint32{},
	}
	for _, t := range ts {
		if t.name != "" {
			d.pprof.SampleType = append(d.pprof.SampleType, d.valueType(t))
		}
	}
	return d
}

func (d *draft) text(s string) int64 {
	i, ok := d.texts[s]
	if !ok {
		i = int64(len(d.pprof.StringTable))
		d.pprof.StringTable = append(d.pprof.StringTable, s)
		d.texts[s] = i
		d.budget.bytes += int64(len(s))
	}
	return i
}

func (d *draft) valueType(t valueType) *googlev1.ValueType {
	return &googlev1.ValueType{Type: d.text(t.name), Unit: d.text(t.unit)}
}

// period sets the period's type and length, unless the type has no name.
func (d *draft) period(t valueType, period int64) {
	if t.name != "" {
		d.pprof.PeriodType, d.pprof.Period = d.valueType(t), period
	}
}

// location returns the ID of a line of a function.
func (d *draft) location(name string, line int64) uint64 {
	k := placeKey{d.function(name, ""), line}
	id, ok := d.places[k]
	if !ok {
		id = d.newLocation(&googlev1.Location{Line: []*googlev1.Line{{FunctionId: k.function, Line: line}}})
		d.places[k] = id
	}
	return id
}

func (d *draft) newLocation(l *googlev1.Location) uint64 {
	l.Id = uint64(len(d.pprof.Location)) + 1
	d.budget.bytes += 8
	d.pprof.Location = append(d.pprof.Location, l)
	return l.Id
}

// function returns the ID of a function. A mangled name becomes its system name, and
// functions with the same displayed name and file are one.
func (d *draft) function(name, file string) uint64 {
	k := functionKey{d.text(name), d.text(file)}
	id, ok := d.functions[k]
	if ok {
		return id
	}
	raw := k
	if shown := d.budget.names.shown(name); shown != name {
		if k.name = d.text(shown); d.functions[k] != 0 {
			d.functions[raw] = d.functions[k]
			return d.functions[k]
		}
	}
	id = uint64(len(d.pprof.Function)) + 1
	d.pprof.Function = append(d.pprof.Function, &googlev1.Function{Id: id, Name: k.name, SystemName: raw.name, Filename: k.file})
	d.functions[k], d.functions[raw] = id, id
	return id
}

// fits checks the limits on this draft's symbols and on the budget of all drafts.
func (d *draft) fits() error {
	p, most := d.pprof, d.budget.limits.MaxSymbols
	if n := len(p.StringTable) + len(p.Function) + len(p.Location) + len(p.Mapping); exceeds(n, most) {
		return fmt.Errorf("more than %d mappings, locations, functions and strings (limits.max_symbols)", most)
	}
	return d.budget.fits()
}

// add adds values, none of them negative, to the sample with these locations and labels,
// and returns the sample's index. The draft keeps the slice locations.
func (d *draft) add(locations []uint64, labels []sampleLabel, values ...int64) (index uint32, err error) {
	l := d.budget.limits
	if exceeds(len(labels), l.MaxLabels) {
		return 0, fmt.Errorf("sample: %d labels are more than %d (limits.max_labels)", len(labels), l.MaxLabels)
	}
	d.key = d.key[:0]
	for _, id := range locations {
		d.key = binary.AppendUvarint(d.key, id)
	}
	d.key = append(d.key, 0) // no location has this ID
	for _, label := range labels {
		d.key = binary.AppendUvarint(d.key, uint64(d.text(label.name)))
		d.key = binary.AppendUvarint(d.key, uint64(d.text(label.value)))
	}
	index, ok := d.samples[string(d.key)]
	if !ok {
		if exceeds(len(d.pprof.Sample)+1, l.MaxSamples) {
			return 0, fmt.Errorf("sample: more than %d samples (limits.max_samples)", l.MaxSamples)
		}
		s := &googlev1.Sample{LocationId: locations, Value: make([]int64, len(values))}
		for _, label := range labels {
			s.Label = append(s.Label, &googlev1.Label{Key: d.text(label.name), Str: d.text(label.value)})
		}
		index = uint32(len(d.pprof.Sample))
		d.pprof.Sample = append(d.pprof.Sample, s)
		d.samples[string(d.key)] = index
		d.budget.bytes += int64(len(d.key))
		if err := d.budget.fits(); err != nil {
			return 0, err
		}
	}
	s := d.pprof.Sample[index]
	for i, v := range values {
		if s.Value[i] > math.MaxInt64-v {
			return 0, fmt.Errorf("sample: values add up to more than %d", int64(math.MaxInt64))
		}
		s.Value[i] += v
	}
	return index, nil
}
