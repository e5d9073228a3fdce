package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A jsonCodec is protobuf's JSON form for requests. An unknown name of an enumeration's
// value, such as of an aggregation, is an error: Connect's own codec ignores it, and the
// query would be answered with another aggregation. Unknown fields are ignored, since
// newer clients send them. It implements connect.Codec.
type jsonCodec struct {
	name string // subtype of the content type application/…
}

// jsonCodecs are the codecs for both content types that Connect has for JSON.
var jsonCodecs = []jsonCodec{{"json"}, {"json; charset=utf-8"}}

// Name is Connect's name for this form, so that jsonCodec replaces Connect's own codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal encodes a message.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend appends an encoded message.
func (jsonCodec) MarshalAppend(to []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	return protojson.MarshalOptions{}.MarshalAppend(to, m)
}

// Unmarshal decodes into a message. Errors name the field.
func (jsonCodec) Unmarshal(from []byte, message any) error {
	m, ok := message.(proto.Message)
	switch {
	case !ok:
		return fmt.Errorf("%T is not a protobuf message", message)
	case len(from) == 0:
		return errors.New("the body is empty, want a JSON object")
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(from, m); err != nil {
		return err
	}
	d := m.ProtoReflect().Descriptor()
	if !hasEnums(d, 0) {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(from, &fields); err != nil {
		return err
	}
	return checkEnums(d, fields)
}

// hasEnums reports whether a message, or one in it, has a field of an enumeration. depth
// ends messages that contain themselves: below four levels it is true, to be safe.
func hasEnums(d protoreflect.MessageDescriptor, depth int) bool {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if f.Enum() != nil || f.Message() != nil && (depth == 4 || hasEnums(f.Message(), depth+1)) {
			return true
		}
	}
	return false
}

// checkEnums returns an error for a name that an enumeration does not have. It descends
// into lists of messages only: requests have messages nowhere else.
func checkEnums(d protoreflect.MessageDescriptor, fields map[string]json.RawMessage) error {
	for name, raw := range fields {
		f := d.Fields().ByJSONName(name)
		if f == nil {
			f = d.Fields().ByTextName(name)
		}
		if f == nil || f.IsMap() {
			continue
		}
		values := []json.RawMessage{raw}
		if f.IsList() {
			values = nil
			if json.Unmarshal(raw, &values) != nil {
				continue
			}
		}
		for _, v := range values {
			if f.Message() != nil {
				var inner map[string]json.RawMessage
				if json.Unmarshal(v, &inner) != nil {
					continue // null, or a well-known type that JSON does not write as an object
				}
				if err := checkEnums(f.Message(), inner); err != nil {
					return fmt.Errorf("%s.%w", name, err)
				}
			}
			var text *string
			if f.Enum() == nil || json.Unmarshal(v, &text) != nil || text == nil {
				continue
			}
			if f.Enum().Values().ByName(protoreflect.Name(*text)) == nil {
				return fmt.Errorf("%s: %.100q is not one of %s", name, *text, enumNames(f.Enum()))
			}
		}
	}
	return nil
}

func enumNames(d protoreflect.EnumDescriptor) string {
	var names []string
	for i := range d.Values().Len() {
		names = append(names, string(d.Values().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}
