package ingest

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message describes one message of profile.proto, so that an error can say
// which field is broken and where. Numbers without a field are skipped, as
// protobuf asks for.
type message struct {
	name   string
	fields map[protowire.Number]field
}

// A field is one field of a message.
type field struct {
	name string
	kind kind
	sub  *message // for kind nested
}

type kind uint8

const (
	varint kind = iota
	packed      // a repeated number, packed or not
	text
	nested
)

func pprofMessage() *message {
	valueType := &message{"ValueType", map[protowire.Number]field{1: {"type", varint, nil}, 2: {"unit", varint, nil}}}
	label := &message{"Label", map[protowire.Number]field{
		1: {"key", varint, nil}, 2: {"str", varint, nil}, 3: {"num", varint, nil}, 4: {"num_unit", varint, nil},
	}}
	line := &message{"Line", map[protowire.Number]field{
		1: {"function_id", varint, nil}, 2: {"line", varint, nil}, 3: {"column", varint, nil},
	}}
	return &message{"Profile", map[protowire.Number]field{
		1: {"sample_type", nested, valueType},
		2: {"sample", nested, &message{"Sample", map[protowire.Number]field{
			1: {"location_id", packed, nil}, 2: {"value", packed, nil}, 3: {"label", nested, label},
		}}},
		3: {"mapping", nested, &message{"Mapping", map[protowire.Number]field{
			1: {"id", varint, nil}, 2: {"memory_start", varint, nil}, 3: {"memory_limit", varint, nil},
			4: {"file_offset", varint, nil}, 5: {"filename", varint, nil}, 6: {"build_id", varint, nil},
			7: {"has_functions", varint, nil}, 8: {"has_filenames", varint, nil},
			9: {"has_line_numbers", varint, nil}, 10: {"has_inline_frames", varint, nil},
		}}},
		4: {"location", nested, &message{"Location", map[protowire.Number]field{
			1: {"id", varint, nil}, 2: {"mapping_id", varint, nil}, 3: {"address", varint, nil},
			4: {"line", nested, line}, 5: {"is_folded", varint, nil},
		}}},
		5: {"function", nested, &message{"Function", map[protowire.Number]field{
			1: {"id", varint, nil}, 2: {"name", varint, nil}, 3: {"system_name", varint, nil},
			4: {"filename", varint, nil}, 5: {"start_line", varint, nil},
		}}},
		6:  {"string_table", text, nil},
		7:  {"drop_frames", varint, nil},
		8:  {"keep_frames", varint, nil},
		9:  {"time_nanos", varint, nil},
		10: {"duration_nanos", varint, nil},
		11: {"period_type", nested, valueType},
		12: {"period", varint, nil},
		13: {"comment", packed, nil},
		14: {"default_sample_type", varint, nil},
	}}
}

// A scanner walks the encoded bytes once before they are decoded: broken bytes
// are named by field and offset, and what would grow past the limits when
// decoded is refused while it is small.
type scanner struct {
	limits           Limits
	samples, symbols int
}

// scan walks b, which starts at offset base of the profile and is the message
// at path.
func (s *scanner) scan(m *message, path string, b []byte, base int) error {
	counts := map[protowire.Number]int{}
	for at := 0; at < len(b); {
		start := at
		num, typ, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			return broken(path+m.name, base+at, protowire.ParseError(n))
		}
		at += n
		f, known := m.fields[num]
		name := f.name
		if !known {
			name = fmt.Sprintf("field %d of %s", num, m.name)
		}
		if path != "" || !known {
			name = path + name
		}
		if known && f.kind == nested {
			name = fmt.Sprintf("%s[%d]", name, counts[num])
		}
		n = protowire.ConsumeFieldValue(num, typ, b[at:])
		if n < 0 {
			return broken(name, base+start, protowire.ParseError(n))
		}
		value := b[at : at+n]
		valueAt := at
		at += n
		if !known {
			continue
		}
		if want, ok := f.kind.accepts(typ); !ok {
			return broken(name, base+start, fmt.Errorf("wire type %d where %d is due", typ, want))
		}
		counts[num]++
		if err := s.count(m.name, f.name, counts[num]); err != nil {
			return err
		}
		if typ != protowire.BytesType {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		innerAt := base + valueAt + n - len(inner)
		switch f.kind {
		case nested:
			if err := s.scan(f.sub, name+".", inner, innerAt); err != nil {
				return err
			}
		case packed:
			if err := scanPacked(name, inner, innerAt); err != nil {
				return err
			}
		}
	}
	return nil
}

// accepts reports whether a field of this kind may have the wire type, and
// which type is expected.
func (k kind) accepts(t protowire.Type) (protowire.Type, bool) {
	switch k {
	case varint:
		return protowire.VarintType, t == protowire.VarintType
	case packed:
		return protowire.BytesType, t == protowire.VarintType || t == protowire.BytesType
	}
	return protowire.BytesType, t == protowire.BytesType
}

// count keeps the tally of what takes memory, and refuses what is too much.
func (s *scanner) count(message, field string, n int) error {
	switch field {
	case "sample":
		if exceeds(n, s.limits.MaxSamples) {
			return fmt.Errorf("sample: more than %d samples (limits.max_samples)", s.limits.MaxSamples)
		}
	case "mapping", "location", "line", "function", "string_table":
		if message == "Line" { // its line number
			return nil
		}
		if s.symbols++; exceeds(s.symbols, s.limits.MaxSymbols) {
			return fmt.Errorf("%s: more than %d mappings, locations, lines, functions and strings (limits.max_symbols)", field, s.limits.MaxSymbols)
		}
	case "label":
		if exceeds(n, s.limits.MaxLabels) {
			return fmt.Errorf("sample.label: more than %d labels of one sample (limits.max_labels)", s.limits.MaxLabels)
		}
	}
	return nil
}

func scanPacked(name string, b []byte, base int) error {
	for at := 0; at < len(b); {
		_, n := protowire.ConsumeVarint(b[at:])
		if n < 0 {
			return broken(name, base+at, protowire.ParseError(n))
		}
		at += n
	}
	return nil
}

func broken(field string, offset int, err error) error {
	return fmt.Errorf("%s: %w, at byte %d of the decompressed profile", field, err, offset)
}
