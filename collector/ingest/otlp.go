package ingest

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unsafe"

	otlpv1 "go.opentelemetry.io/proto/otlp/profiles/v1development"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/pkg/profile"
)

// OTLP reads an ExportProfilesServiceRequest of OpenTelemetry's
// opentelemetry.proto.collector.profiles.v1development, in protobuf or, if json is set,
// in OTLP's JSON. body must not be compressed: the transport has undone that.
//
// Profiles of the same resource, type and time are merged. Labels are the attributes of
// resource and scope, with Pyroscope's names, except those that identify processes and
// threads. A request without profiles is valid.
//
// Samples keep their timestamps: a profile longer than five seconds becomes one profile
// per five-second window. Impossible times are corrected, as by ProfileTime, by the time
// received at which the request arrived; l.Report says so.
//
// Errors name the invalid field.
func OTLP(body []byte, json bool, received time.Time, l Limits) ([]profile.Profile, error) {
	req, err := decodeOTLP(body, json, l)
	if err != nil {
		return nil, err
	}
	d := req.GetDictionary()
	if d == nil {
		if len(req.ResourceProfiles) == 0 {
			return nil, nil
		}
		d = &otlpv1.ProfilesDictionary{}
	}
	if err := checkDictionary(d, l); err != nil {
		return nil, fmt.Errorf("dictionary.%w", err)
	}
	c := otlpConverter{budget: newBudget(l), received: received, times: timelines{latest: received.UnixNano(), ticks: l.SampleTimes}, dictionary: d, byKey: map[otlpKey]*otlpDraft{}}
	for i, r := range req.ResourceProfiles {
		if err := c.addResource(r); err != nil {
			return nil, fmt.Errorf("resource_profiles[%d].%w", i, err)
		}
	}
	return c.profiles()
}

// otlpPartCost is the memory, in bytes, that the largest part of a request takes, with the
// pointer to it.
const otlpPartCost = int64(unsafe.Sizeof(otlpv1.Profile{})) + 8

// decodeOTLP decodes a request into ProfilesData, which has the same fields as the
// request and needs no gRPC package.
func decodeOTLP(body []byte, json bool, l Limits) (*otlpv1.ProfilesData, error) {
	req := new(otlpv1.ProfilesData)
	if !json {
		s := scanner{limits: l}
		if err := s.scan(otlpMessageFields, body, 0); err != nil {
			return nil, err
		}
		if err := reserveBeyond(l, int64(len(body)), int64(s.symbols)*otlpPartCost); err != nil {
			return nil, err
		}
		if err := proto.Unmarshal(body, req); err != nil {
			return nil, fmt.Errorf("decode protobuf: %w", err)
		}
		return req, nil
	}
	if err := CheckJSON(body, l, otlpPartCost); err != nil {
		return nil, err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("decode JSON: %w", err)
	}
	return req, fixIDs(req)
}

// fixIDs corrects IDs that were read from JSON: protobuf's JSON decodes them as base64,
// but OTLP writes hexadecimal digits.
func fixIDs(req *otlpv1.ProfilesData) error {
	fix := func(id *[]byte, size int) error {
		if n := len(*id); n == 0 || n == size {
			return nil
		}
		b, err := hex.DecodeString(base64.StdEncoding.EncodeToString(*id))
		if err == nil && len(b) != size {
			err = fmt.Errorf("%d bytes, want %d", len(b), size)
		}
		*id = b
		return err
	}
	for i, link := range req.GetDictionary().GetLinkTable() {
		if err := errors.Join(fix(&link.TraceId, 16), fix(&link.SpanId, 8)); err != nil {
			return fmt.Errorf("dictionary.link_table[%d]: ID: %w", i, err)
		}
	}
	for _, r := range req.ResourceProfiles {
		for _, s := range r.GetScopeProfiles() {
			for _, p := range s.GetProfiles() {
				if err := fix(&p.ProfileId, 16); err != nil {
					return fmt.Errorf("profile_id: %w", err)
				}
			}
		}
	}
	return nil
}

// Messages within otlpMessageFields. Fields that are not listed are numbers, whose count
// the size of the body bounds.
var (
	otlpKeyValue = &message{"KeyValue", []field{
		1: {"key", text, nil, free}, 2: {"value", nested, otlpValue(3), free}, 3: {"key_strindex", varint, nil, free},
	}}
	otlpValueType = &message{"ValueType", numbers("type_strindex", "unit_strindex")}

	// otlpMessageFields describes ExportProfilesServiceRequest for the scan before
	// decoding.
	otlpMessageFields = &message{"ExportProfilesServiceRequest", []field{
		1: {"resource_profiles", nested, &message{"ResourceProfiles", []field{
			1: {"resource", nested, &message{"Resource", []field{1: {"attributes", nested, otlpKeyValue, symbol}}}, free},
			2: {"scope_profiles", nested, &message{"ScopeProfiles", []field{
				1: {"scope", nested, &message{"InstrumentationScope", []field{
					1: {"name", text, nil, free}, 2: {"version", text, nil, free}, 3: {"attributes", nested, otlpKeyValue, symbol},
				}}, free},
				2: {"profiles", nested, &message{"Profile", []field{
					1: {"sample_type", nested, otlpValueType, free},
					2: {"samples", nested, &message{"Sample", []field{
						1: {"stack_index", varint, nil, free},
						2: {"attribute_indices", packed, nil, free},
						3: {"link_index", varint, nil, free},
						4: {"values", packed, nil, free},
					}}, symbol},
					4:  {"duration_nano", varint, nil, free},
					5:  {"period_type", nested, otlpValueType, free},
					6:  {"period", varint, nil, free},
					7:  {"profile_id", text, nil, free},
					9:  {"original_payload_format", text, nil, free},
					10: {"original_payload", text, nil, free},
					11: {"attribute_indices", packed, nil, free},
				}}, symbol},
				3: {"schema_url", text, nil, free},
			}}, symbol},
			3: {"schema_url", text, nil, free},
		}}, symbol},
		2: {"dictionary", nested, &message{"ProfilesDictionary", []field{
			1: {"mapping_table", nested, &message{"Mapping", []field{
				1: {"memory_start", varint, nil, free},
				2: {"memory_limit", varint, nil, free},
				3: {"file_offset", varint, nil, free},
				4: {"filename_strindex", varint, nil, free},
				5: {"attribute_indices", packed, nil, free},
			}}, symbol},
			2: {"location_table", nested, &message{"Location", []field{
				1: {"mapping_index", varint, nil, free},
				2: {"address", varint, nil, free},
				3: {"lines", nested, &message{"Line", numbers("function_index", "line", "column")}, symbol},
				4: {"attribute_indices", packed, nil, free},
			}}, symbol},
			3: {"function_table", nested, &message{"Function", numbers("name_strindex", "system_name_strindex", "filename_strindex", "start_line")}, symbol},
			4: {"link_table", nested, &message{"Link", []field{1: {"trace_id", text, nil, free}, 2: {"span_id", text, nil, free}}}, symbol},
			5: {"string_table", text, nil, symbol},
			6: {"attribute_table", nested, &message{"KeyValueAndUnit", []field{
				1: {"key_strindex", varint, nil, free},
				2: {"value", nested, otlpValue(3), free},
				3: {"unit_strindex", varint, nil, free},
			}}, symbol},
			7: {"stack_table", nested, &message{"Stack", []field{1: {"location_indices", packed, nil, free}}}, symbol},
		}}, free},
	}}
)

// otlpValue describes an AnyValue whose lists and maps are nested up to levels deep.
func otlpValue(levels int) *message {
	m := &message{"AnyValue", []field{1: {"string_value", text, nil, free}, 7: {"bytes_value", text, nil, free}}}
	if levels == 0 { // here lists and maps have a wrong wire type, so that they are refused
		m.fields = append(m.fields[:5:5], field{"array_value, too deep,", varint, nil, free}, field{"kvlist_value, too deep,", varint, nil, free}, m.fields[7])
		return m
	}
	below := otlpValue(levels - 1)
	m.fields[5] = field{"array_value", nested, &message{"ArrayValue", []field{1: {"values", nested, below, symbol}}}, free}
	m.fields[6] = field{"kvlist_value", nested, &message{"KeyValueList", []field{
		1: {"values", nested, &message{"KeyValue", []field{1: {"key", text, nil, free}, 2: {"value", nested, below, free}}}, symbol},
	}}, free}
	return m
}
