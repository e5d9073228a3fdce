package ingest

import (
	"errors"
	"fmt"
	"unicode/utf8"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// Pprof decodes one profile.proto message, which may be compressed with gzip
// or zstd, and checks it: every index and reference holds, values are as many
// as sample types and not negative, strings are UTF-8, and the limits are kept.
// An error names the field at fault, with its index or its byte offset.
//
// A profile without a time keeps TimeNanos 0; the receiver decides what that
// means. size is the profile's, in bytes, after decompression. The profile may
// refer to b, which must not change.
func Pprof(b []byte, l Limits) (p *googlev1.Profile, size int, err error) {
	return readPprof(b, l, func(*googlev1.Profile) {})
}

// readPprof repairs what a sender is known to do wrong before the profile is
// checked.
func readPprof(b []byte, l Limits, repair func(*googlev1.Profile)) (p *googlev1.Profile, size int, err error) {
	if len(b) == 0 {
		return nil, 0, errors.New("pprof: no bytes")
	}
	raw, err := decompress(b, l.MaxProfileBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("pprof: %w", err)
	}
	p, ok := decode(raw, l)
	if !ok {
		if p, err = decodeSlowly(raw, l); err != nil {
			return nil, 0, fmt.Errorf("pprof: %w", err)
		}
	}
	repair(p)
	if err := check(p, l); err != nil {
		return nil, 0, fmt.Errorf("pprof: %w", err)
	}
	return p, len(raw), nil
}

// decodeSlowly decodes any profile.proto message, or says what is wrong with it.
func decodeSlowly(raw []byte, l Limits) (*googlev1.Profile, error) {
	s := scanner{limits: l}
	if err := s.scan(profileMessage, raw, 0); err != nil {
		return nil, err
	}
	p := new(googlev1.Profile)
	return p, p.UnmarshalVT(raw)
}

// check validates a decoded profile.
func check(p *googlev1.Profile, l Limits) error {
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
	if p.TimeNanos < 0 {
		return fmt.Errorf("time_nanos: %d is negative", p.TimeNanos)
	}
	if p.DurationNanos < 0 {
		return fmt.Errorf("duration_nanos: %d is negative", p.DurationNanos)
	}
	c := checker{profile: p, limits: l}
	for _, part := range []func() error{c.types, c.symbols, c.samples} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// A checker checks the references of one profile.
type checker struct {
	profile   *googlev1.Profile
	limits    Limits
	mappings  ids
	functions ids
	locations ids
}

func (c *checker) outside(index int64) bool {
	return index < 0 || index >= int64(len(c.profile.StringTable))
}

// text checks an index into the string table, which field, a format for i,
// holds.
func (c *checker) text(index int64, field string, i int) error {
	if c.outside(index) {
		return fmt.Errorf(field+": %d is outside the string table of %d", i, index, len(c.profile.StringTable))
	}
	return nil
}

func (c *checker) types() error {
	for i, t := range c.profile.SampleType {
		if err := errors.Join(c.text(t.Type, "sample_type[%d].type", i), c.text(t.Unit, "sample_type[%d].unit", i)); err != nil {
			return err
		}
		if c.profile.StringTable[t.Type] == "" {
			return fmt.Errorf("sample_type[%d].type: is empty", i)
		}
	}
	if t := c.profile.PeriodType; t != nil && (c.outside(t.Type) || c.outside(t.Unit)) {
		return fmt.Errorf("period_type: %d or %d is outside the string table of %d", t.Type, t.Unit, len(c.profile.StringTable))
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
		for _, l := range s.Label {
			if err := errors.Join(c.text(l.Key, "sample[%d].label.key", i), c.text(l.Str, "sample[%d].label.str", i),
				c.text(l.NumUnit, "sample[%d].label.num_unit", i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ids is the set of IDs of one kind. IDs that count up from 1, as nearly all
// senders number them, take no memory.
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

func (s *ids) add(id uint64, kind string, i int) error {
	switch {
	case id == 0:
		return fmt.Errorf("%s[%d].id: is 0", kind, i)
	case s.has(id):
		return fmt.Errorf("%s[%d].id: %d is there twice", kind, i, id)
	case id == s.dense+1 && s.sparse == nil:
		s.dense++
	default:
		if s.sparse == nil {
			s.sparse = map[uint64]struct{}{}
		}
		s.sparse[id] = struct{}{}
	}
	return nil
}
