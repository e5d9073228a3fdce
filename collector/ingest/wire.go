package ingest

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message describes a protobuf message, so that an error can name a broken field and
// its offset. fields are indexed by their numbers; fields without a name are unknown,
// and skipped as protobuf requires.
type message struct {
	name   string
	fields []field
}

// A field is one field of a message.
type field struct {
	name  string
	kind  kind
	sub   *message // for kind nested
	tally tally
}

type kind uint8

const (
	varint kind = iota
	packed      // a repeated number, packed or not
	text
	nested
)

// A tally is the limit that a field counts towards.
type tally uint8

const (
	free tally = iota
	sample
	symbol
	label
)

// profileMessage is google/pprof's profile.proto.
var profileMessage = &message{"Profile", []field{
	1: {"sample_type", nested, valueTypeMessage, symbol},
	2: {"sample", nested, &message{"Sample", []field{
		1: {"location_id", packed, nil, free},
		2: {"value", packed, nil, free},
		3: {"label", nested, &message{"Label", numbers("key", "str", "num", "num_unit")}, label},
	}}, sample},
	3: {"mapping", nested, &message{"Mapping", numbers("id", "memory_start", "memory_limit", "file_offset", "filename", "build_id",
		"has_functions", "has_filenames", "has_line_numbers", "has_inline_frames")}, symbol},
	4: {"location", nested, &message{"Location", []field{
		1: {"id", varint, nil, free},
		2: {"mapping_id", varint, nil, free},
		3: {"address", varint, nil, free},
		4: {"line", nested, &message{"Line", numbers("function_id", "line", "column")}, symbol},
		5: {"is_folded", varint, nil, free},
	}}, symbol},
	5:  {"function", nested, &message{"Function", numbers("id", "name", "system_name", "filename", "start_line")}, symbol},
	6:  {"string_table", text, nil, symbol},
	7:  {"drop_frames", varint, nil, free},
	8:  {"keep_frames", varint, nil, free},
	9:  {"time_nanos", varint, nil, free},
	10: {"duration_nanos", varint, nil, free},
	11: {"period_type", nested, valueTypeMessage, free},
	12: {"period", varint, nil, free},
	13: {"comment", packed, nil, free},
	14: {"default_sample_type", varint, nil, free},
}}

var valueTypeMessage = &message{"ValueType", numbers("type", "unit")}

// numbers describes a message that has only numbers, by the fields' names from number 1.
func numbers(names ...string) []field {
	out := make([]field, 1, len(names)+1)
	for _, name := range names {
		out = append(out, field{name: name, kind: varint})
	}
	return out
}

// maxFields is greater than all field numbers above.
const maxFields = 16

// A scanner checks encoded bytes before they are decoded. It finds broken fields, and
// fields that would exceed a limit when decoded, before memory is allocated for them.
type scanner struct {
	limits  Limits
	symbols int
}

// A wireError is an error in a field: its path in the profile, and its offset in bytes.
type wireError struct {
	path   string
	offset int
	err    error
}

// Error returns the field, the reason and the offset.
func (e *wireError) Error() string {
	return fmt.Sprintf("%s: %v, at byte %d of the decompressed profile", e.path, e.err, e.offset)
}

// Unwrap returns the reason.
func (e *wireError) Unwrap() error { return e.err }

// scan checks b, a message m at offset base of the profile.
func (s *scanner) scan(m *message, b []byte, base int) error {
	var counts [maxFields]int
	for at := 0; at < len(b); {
		start := at
		num, typ, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			return &wireError{m.name, base + at, protowire.ParseError(n)}
		}
		at += n
		n = protowire.ConsumeFieldValue(num, typ, b[at:])
		var f *field
		if int(num) < len(m.fields) && m.fields[num].name != "" {
			f = &m.fields[num]
		}
		switch {
		case n < 0 && f == nil:
			return &wireError{fmt.Sprintf("field %d of %s", num, m.name), base + start, protowire.ParseError(n)}
		case n < 0:
			return &wireError{f.at(counts[num]), base + start, protowire.ParseError(n)}
		case f == nil:
			at += n
			continue
		}
		value, valueAt := b[at:at+n], at
		at += n
		if want, ok := f.kind.accepts(typ); !ok {
			return &wireError{f.at(counts[num]), base + start, fmt.Errorf("wire type %d, want %d", typ, want)}
		}
		counts[num]++
		if f.tally != free {
			if err := s.count(f, counts[num]); err != nil {
				return err
			}
		}
		if typ != protowire.BytesType || f.kind == text {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		innerAt := base + valueAt + n - len(inner)
		if f.kind == packed {
			if at, err := scanPacked(inner); err != nil {
				return &wireError{f.name, innerAt + at, err}
			}
			continue
		}
		if err := s.scan(f.sub, inner, innerAt); err != nil {
			var we *wireError
			if errors.As(err, &we) {
				we.path = f.at(counts[num]-1) + "." + we.path
			}
			return err
		}
	}
	return nil
}

// at returns the name of a field's i-th occurrence.
func (f *field) at(i int) string {
	if f.kind == nested {
		return fmt.Sprintf("%s[%d]", f.name, i)
	}
	return f.name
}

// accepts returns the wire type of this kind, and reports whether t is valid for it.
func (k kind) accepts(t protowire.Type) (protowire.Type, bool) {
	switch k {
	case varint:
		return protowire.VarintType, t == protowire.VarintType
	case packed:
		return protowire.BytesType, t == protowire.VarintType || t == protowire.BytesType
	}
	return protowire.BytesType, t == protowire.BytesType
}

// count adds a field to the total of its limit, and returns an error if that is
// exceeded. n is the number of occurrences in the message.
func (s *scanner) count(f *field, n int) error {
	switch f.tally {
	case sample:
		if exceeds(n, s.limits.MaxSamples) {
			return fmt.Errorf("sample: more than %d samples (limits.max_samples)", s.limits.MaxSamples)
		}
	case symbol:
		if s.symbols++; exceeds(s.symbols, s.limits.MaxSymbols) {
			return fmt.Errorf("%s: more than %d sample types, mappings, locations, lines, functions and strings (limits.max_symbols)", f.name, s.limits.MaxSymbols)
		}
	case label:
		if exceeds(n, s.limits.MaxLabels) {
			return fmt.Errorf("sample.label: more than %d labels of one sample (limits.max_labels)", s.limits.MaxLabels)
		}
	}
	return nil
}

// scanPacked checks packed numbers, and returns the offset of a broken one.
func scanPacked(b []byte) (at int, err error) {
	for at < len(b) {
		_, n := protowire.ConsumeVarint(b[at:])
		if n < 0 {
			return at, protowire.ParseError(n)
		}
		at += n
	}
	return at, nil
}
