package ingest

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	otlpv1 "go.opentelemetry.io/proto/otlp/profiles/v1development"
)

// outside returns an error if an index is outside of a table of n entries.
func outside(i int32, n int, table, field string, args ...any) error {
	if i < 0 || int(i) >= n {
		return fmt.Errorf(field+": %d is outside "+table+" of %d", append(args, i, n)...)
	}
	return nil
}

// checkDictionary checks every reference from one table to another.
//
// Entry 0 of a table means "none". A table may lack it if nothing refers to it.
func checkDictionary(d *otlpv1.ProfilesDictionary, l Limits) error {
	for i, s := range d.StringTable {
		if exceeds(len(s), l.MaxSymbolBytes) {
			return fmt.Errorf("string_table[%d]: %d bytes are more than %d (limits.max_symbol_bytes)", i, len(s), l.MaxSymbolBytes)
		}
	}
	text := func(index int32, field string, i int) error {
		if index == 0 {
			return nil
		}
		return outside(index, len(d.StringTable), "string_table", field, i)
	}
	attributes := func(indices []int32, field string, i int) error {
		for j, a := range indices {
			if err := outside(a, len(d.AttributeTable), "attribute_table", field+".attribute_indices[%d]", i, j); err != nil {
				return err
			}
		}
		return nil
	}
	for i, a := range d.AttributeTable {
		if err := text(a.GetKeyStrindex(), "attribute_table[%d].key_strindex", i); err != nil {
			return err
		}
	}
	for i, m := range d.MappingTable {
		if err := errors.Join(text(m.GetFilenameStrindex(), "mapping_table[%d].filename_strindex", i),
			attributes(m.GetAttributeIndices(), "mapping_table[%d]", i)); err != nil {
			return err
		}
	}
	for i, f := range d.FunctionTable {
		if err := errors.Join(text(f.GetNameStrindex(), "function_table[%d].name_strindex", i),
			text(f.GetSystemNameStrindex(), "function_table[%d].system_name_strindex", i),
			text(f.GetFilenameStrindex(), "function_table[%d].filename_strindex", i)); err != nil {
			return err
		}
	}
	for i, loc := range d.LocationTable {
		if m := loc.GetMappingIndex(); m != 0 {
			if err := outside(m, len(d.MappingTable), "mapping_table", "location_table[%d].mapping_index", i); err != nil {
				return err
			}
		}
		for j, line := range loc.GetLines() {
			if err := outside(line.GetFunctionIndex(), len(d.FunctionTable), "function_table", "location_table[%d].lines[%d].function_index", i, j); err != nil {
				return err
			}
		}
		if err := attributes(loc.GetAttributeIndices(), "location_table[%d]", i); err != nil {
			return err
		}
	}
	for i, s := range d.StackTable {
		if exceeds(len(s.GetLocationIndices()), l.MaxStackDepth) {
			return fmt.Errorf("stack_table[%d].location_indices: %d locations are more than %d (limits.max_stack_depth)", i, len(s.GetLocationIndices()), l.MaxStackDepth)
		}
		for j, loc := range s.GetLocationIndices() {
			if err := outside(loc, len(d.LocationTable), "location_table", "stack_table[%d].location_indices[%d]", i, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// otlpText returns a string of the table, "" if the index is 0 or outside of it.
func otlpText(d *otlpv1.ProfilesDictionary, i int32) string {
	if i <= 0 || int(i) >= len(d.StringTable) {
		return ""
	}
	return d.StringTable[i]
}

// otlpAttributeText returns the value of the first attribute with a key, "" if there is
// none.
func otlpAttributeText(d *otlpv1.ProfilesDictionary, indices []int32, key string) string {
	for _, i := range indices {
		if a := d.AttributeTable[i]; otlpText(d, a.GetKeyStrindex()) == key {
			return otlpString(d, a.GetValue())
		}
	}
	return ""
}

// otlpString returns an attribute's value as text if it is a string, an integer, a
// boolean, or a list with one of these; else "".
func otlpString(d *otlpv1.ProfilesDictionary, v *commonv1.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonv1.AnyValue_StringValue:
		return v.StringValue
	case *commonv1.AnyValue_StringValueStrindex:
		return otlpText(d, v.StringValueStrindex)
	case *commonv1.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *commonv1.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *commonv1.AnyValue_ArrayValue:
		if vs := v.ArrayValue.GetValues(); len(vs) == 1 && vs[0].GetArrayValue() == nil {
			return otlpString(d, vs[0])
		}
	}
	return ""
}

// An otlpAttribute is an attribute of a resource or a scope, with its value as text.
type otlpAttribute struct{ key, value string }

// otlpAttributes reads the attributes of a resource or a scope, whose keys and values
// are inline or in the string table.
func otlpAttributes(d *otlpv1.ProfilesDictionary, as []*commonv1.KeyValue) ([]otlpAttribute, error) {
	out := make([]otlpAttribute, 0, len(as))
	for i, a := range as {
		for _, index := range []int32{a.GetKeyStrindex(), a.GetValue().GetStringValueStrindex()} {
			if index != 0 {
				if err := outside(index, len(d.StringTable), "dictionary.string_table", "attributes[%d]", i); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, otlpAttribute{cmp.Or(a.GetKey(), otlpText(d, a.GetKeyStrindex())), otlpString(d, a.GetValue())})
	}
	return out, nil
}
