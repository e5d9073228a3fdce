package ingest

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/funcname"
)

// Pprof decodes one profile, which may be compressed with gzip or zstd: a profile.proto
// message, or one of the older formats that `go tool pprof` opens (legacy).
//
// A fault in one element, such as a dangling reference, is corrected, or the element is
// left out; Limits.Report names it (correct). A fault that makes the profile
// meaningless, or exceeds a limit, is an error that names the field with its index or
// byte offset. In the result every index and reference is valid, each sample has one
// value per sample type, values are not negative, and strings are UTF-8. Functions have
// demangled names (names), frames that match drop_frames are dropped (dropFrames), and
// tracers' span labels have OpenTelemetry's names (tracerLabels).
//
// TimeNanos is the sender's, even if it is impossible: ProfileTime corrects it. size is
// the size of the profile after decompression, in bytes. The profile may share memory
// with b, which must not change.
func Pprof(b []byte, l Limits) (p *googlev1.Profile, size int, err error) {
	return readPprof(b, l, func(*googlev1.Profile) {})
}

// readPprof is Pprof with a function that corrects known faults of certain senders
// before the profile is checked.
func readPprof(b []byte, l Limits, repair func(*googlev1.Profile)) (p *googlev1.Profile, size int, err error) {
	if len(b) == 0 {
		return nil, 0, errors.New("pprof: the profile is empty")
	}
	raw, err := decompress(b, l)
	if err != nil {
		return nil, 0, fmt.Errorf("pprof: %w", err)
	}
	memory := newReservation(raw, unsafe.SliceData(raw) != unsafe.SliceData(b), l)
	if p, err = decode(raw, l, memory); err == nil && p == nil && !memory.spendAll(raw) {
		err = memory.err
	}
	if err != nil {
		return nil, 0, fmt.Errorf("pprof: %w", err)
	}
	if p == nil {
		if p, err = decodeSlowly(raw, l); err != nil {
			if p, err = decodeOther(raw, l, err); err != nil {
				return nil, 0, fmt.Errorf("pprof: %w", err)
			}
		}
	}
	if n := len(p.SampleType); n > maxSampleTypes {
		return nil, 0, fmt.Errorf("pprof: sample_type: %d types are more than %d", n, maxSampleTypes)
	}
	repair(p)
	c := checker{profile: p, limits: l}
	if err := c.check(); err != nil {
		if err := correct(p, l); err != nil {
			return nil, 0, fmt.Errorf("pprof: %w", err)
		}
		c = checker{profile: p, limits: l}
		if err := c.check(); err != nil {
			return nil, 0, fmt.Errorf("pprof: %w", err)
		}
	}
	if c.mangled {
		newNames(l).profile(p)
	}
	if p.DropFrames != 0 {
		dropFrames(p, l.Report)
	}
	if c.tracer {
		tracerLabels(p, l.Report)
	}
	boundSeries(p, c.labelled, l)
	return p, len(raw), nil
}

// decodeSlowly decodes any profile.proto message, or returns an error that names the
// broken field.
func decodeSlowly(raw []byte, l Limits) (*googlev1.Profile, error) {
	s := scanner{limits: l}
	if err := s.scan(profileMessage, raw, 0); err != nil {
		return nil, err
	}
	p := new(googlev1.Profile)
	return p, p.UnmarshalVT(raw)
}

// A checker checks a decoded profile's references and limits, in one pass without
// corrections, since nearly all profiles are valid.
type checker struct {
	profile   *googlev1.Profile
	limits    Limits
	mappings  ids
	functions ids
	locations ids

	// Findings for the steps that follow.
	mangled  bool // a function's name may be mangled
	tracer   bool // a label of a span or a trace is not in OpenTelemetry's form
	labelled int  // samples with labels

	key    int64 // key of the last label
	isSpan bool  // key is a tracer's label
}

// maxSampleTypes bounds the sample types of a profile, each of which becomes a profile type.
// Profilers have up to about ten.
const maxSampleTypes = 256

// maxDuration is the longest possible duration, in ns. A longer one is in another unit,
// or the time since the program started.
const maxDuration = int64(24 * time.Hour)

func (c *checker) check() error {
	p, l := c.profile, c.limits
	if len(p.SampleType) == 0 {
		return errors.New("sample_type: is missing")
	}
	if len(p.StringTable) == 0 || p.StringTable[0] != "" {
		return errors.New(`string_table[0]: is not ""`)
	}
	for i, s := range p.StringTable {
		if exceeds(len(s), l.MaxSymbolBytes) {
			return fmt.Errorf("string_table[%d]: %d bytes are more than %d (limits.max_symbol_bytes)", i, len(s), l.MaxSymbolBytes)
		}
		if !utf8.ValidString(s) {
			return fmt.Errorf("string_table[%d]: %q is not UTF-8", i, s[:min(len(s), 64)])
		}
	}
	if p.DurationNanos < 0 || p.DurationNanos > maxDuration {
		return fmt.Errorf("duration_nanos: %d is not between 0 and a day", p.DurationNanos)
	}
	if p.Period < 0 {
		return fmt.Errorf("period: %d is negative", p.Period)
	}
	if c.outside(p.DropFrames) || c.outside(p.KeepFrames) || c.outside(p.DefaultSampleType) {
		return errors.New("drop_frames, keep_frames or default_sample_type: is outside of the string table")
	}
	for _, part := range []func() error{c.types, c.symbols, c.samples} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) outside(index int64) bool {
	return index < 0 || index >= int64(len(c.profile.StringTable))
}

// text checks an index into the string table. field, a format for i, names the index in
// errors.
func (c *checker) text(index int64, field string, i int) error {
	if c.outside(index) {
		return fmt.Errorf(field+": %d is outside of the string table, which has %d strings", i, index, len(c.profile.StringTable))
	}
	return nil
}

func (c *checker) types() error {
	text := c.profile.StringTable
	type name struct{ name, unit string }
	seen := make(map[name]struct{}, len(c.profile.SampleType))
	for i, t := range c.profile.SampleType {
		if err := errors.Join(c.text(t.Type, "sample_type[%d].type", i), c.text(t.Unit, "sample_type[%d].unit", i)); err != nil {
			return err
		}
		if text[t.Type] == "" {
			return fmt.Errorf("sample_type[%d].type: is empty", i)
		}
		n := name{text[t.Type], text[t.Unit]}
		if _, ok := seen[n]; ok {
			return fmt.Errorf("sample_type[%d]: %s in %s occurs twice", i, n.name, n.unit)
		}
		seen[n] = struct{}{}
	}
	if t := c.profile.PeriodType; t != nil && (c.outside(t.Type) || c.outside(t.Unit)) {
		return fmt.Errorf("period_type: %d or %d is outside of the string table, which has %d strings", t.Type, t.Unit, len(text))
	}
	return nil
}

func (c *checker) symbols() error {
	p := c.profile
	for i, m := range p.Mapping {
		if err := c.mappings.add(m.Id, "mapping", i); err != nil {
			return err
		}
		if err := errors.Join(c.text(m.Filename, "mapping[%d].filename", i), c.text(m.BuildId, "mapping[%d].build_id", i)); err != nil {
			return err
		}
	}
	for i, f := range p.Function {
		if err := c.functions.add(f.Id, "function", i); err != nil {
			return err
		}
		if err := errors.Join(c.text(f.Name, "function[%d].name", i), c.text(f.SystemName, "function[%d].system_name", i),
			c.text(f.Filename, "function[%d].filename", i)); err != nil {
			return err
		}
		name := p.StringTable[f.Name]
		if name == "" {
			return fmt.Errorf("function[%d].name: is empty", i)
		}
		c.mangled = c.mangled || funcname.Mangled(name)
	}
	for i, l := range p.Location {
		if err := c.locations.add(l.Id, "location", i); err != nil {
			return err
		}
		if l.MappingId != 0 && !c.mappings.has(l.MappingId) {
			return fmt.Errorf("location[%d].mapping_id: no mapping has ID %d", i, l.MappingId)
		}
		for j, line := range l.Line {
			if !c.functions.has(line.FunctionId) {
				return fmt.Errorf("location[%d].line[%d].function_id: no function has ID %d", i, j, line.FunctionId)
			}
		}
	}
	return nil
}

func (c *checker) samples() error {
	types := len(c.profile.SampleType)
	for i, s := range c.profile.Sample {
		if len(s.Value) != types {
			return fmt.Errorf("sample[%d].value: %d values for %d sample types", i, len(s.Value), types)
		}
		for j, v := range s.Value {
			if v < 0 {
				return fmt.Errorf("sample[%d].value[%d]: %d is negative", i, j, v)
			}
		}
		if exceeds(len(s.LocationId), c.limits.MaxStackDepth) {
			return fmt.Errorf("sample[%d].location_id: %d locations are more than %d (limits.max_stack_depth)", i, len(s.LocationId), c.limits.MaxStackDepth)
		}
		for j, id := range s.LocationId {
			if !c.locations.has(id) {
				return fmt.Errorf("sample[%d].location_id[%d]: no location has ID %d", i, j, id)
			}
		}
		if len(s.Label) > 0 {
			c.labelled++
			if err := c.labels(i, s.Label); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) labels(i int, ls []*googlev1.Label) error {
	text := c.profile.StringTable
	for j, l := range ls {
		if err := errors.Join(c.text(l.Key, "sample[%d].label.key", i), c.text(l.Str, "sample[%d].label.str", i),
			c.text(l.NumUnit, "sample[%d].label.num_unit", i)); err != nil {
			return err
		}
		if text[l.Key] == "" {
			return fmt.Errorf("sample[%d].label.key: is empty", i)
		}
		if l.Key != c.key {
			c.key, c.isSpan = l.Key, tracerLabelOf(text[l.Key]) != noTracerLabel
		}
		if c.isSpan {
			c.tracer = c.tracer || !isOpenTelemetry(text[l.Key], text[l.Str])
			continue
		}
		for _, o := range ls[:j] {
			if l.Str != 0 && o.Str != 0 && text[o.Key] == text[l.Key] && text[o.Str] != text[l.Str] {
				return fmt.Errorf("sample[%d].label: %q occurs twice", i, text[l.Key])
			}
		}
	}
	return nil
}

// ids is a set of IDs. IDs that count up from 1, as nearly all senders number them, need
// no map.
type ids struct {
	dense  uint64
	sparse map[uint64]struct{}
}

func (s *ids) has(id uint64) bool {
	if id-1 < s.dense { // 0 wraps around
		return true
	}
	_, ok := s.sparse[id]
	return ok
}

// put adds an ID. It reports false for an ID that is in the set, and for 0.
func (s *ids) put(id uint64) bool {
	switch {
	case id == 0 || s.has(id):
		return false
	case id == s.dense+1 && s.sparse == nil:
		s.dense++
	default:
		if s.sparse == nil {
			s.sparse = map[uint64]struct{}{}
		}
		s.sparse[id] = struct{}{}
	}
	return true
}

func (s *ids) add(id uint64, kind string, i int) error {
	switch {
	case s.put(id):
		return nil
	case id == 0:
		return fmt.Errorf("%s[%d].id: is 0", kind, i)
	}
	return fmt.Errorf("%s[%d].id: %d occurs twice", kind, i, id)
}

// fresh adds an unused ID and returns it.
func (s *ids) fresh() uint64 {
	id := s.dense + uint64(len(s.sparse)) + 1
	for !s.put(id) {
		id++
	}
	return id
}
