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

// A jsonCodec is protobuf's JSON form, for questions: a name of a value that there is
// not, as of an aggregation, is an error, where Connect's own codec ignores it and the
// question would be answered with another aggregation's numbers. Fields that a message
// does not have are ignored, since newer clients send them. It implements connect.Codec.
type jsonCodec struct {
	name string // of the content type, without application/
}

// jsonCodecs are those for both names that Connect has for JSON.
var jsonCodecs = []jsonCodec{{"json"}, {"json; charset=utf-8"}}

// Name replaces the codec that Connect has for this form.
func (c jsonCodec) Name() string { return c.name }

// Marshal encodes a message.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend appends an encoded message.
func (jsonCodec) MarshalAppend(to []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", message)
	}
	return protojson.MarshalOptions{}.MarshalAppend(to, m)
}

// Unmarshal decodes into a message. Errors name the field.
func (jsonCodec) Unmarshal(from []byte, message any) error {
	m, ok := message.(proto.Message)
	switch {
	case !ok:
		return fmt.Errorf("%T is no protobuf message", message)
	case len(from) == 0:
		return errors.New("no bytes, which is no JSON object")
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(from, m); err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(from, &fields); err != nil {
		return err
	}
	return checkEnums(m.ProtoReflect().Descriptor(), fields)
}

// checkEnums looks for names of values that an enumeration does not have. Of the
// questions' messages only lists of messages and messages hold others.
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
					continue // null, or a message that JSON has another form for
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
				return fmt.Errorf("%s: %.100q is none of %s", name, *text, enumNames(f.Enum()))
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
