package server

import (
	"fmt"
	"net/http"
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"google.golang.org/protobuf/proto"
)

// vtCodec encodes and decodes protobuf's binary form by generated code, where the
// message has it: that takes a fraction of the time of reflection, since answers are
// mostly numbers. It implements connect.Codec.
type vtCodec struct{}

// vtMessage is what protoc-gen-go-vtproto generates.
type vtMessage interface {
	SizeVT() int
	MarshalToSizedBufferVT(to []byte) (int, error)
	UnmarshalVT(from []byte) error
}

// Name is Connect's name for this form, so that vtCodec replaces Connect's own codec.
func (vtCodec) Name() string { return "proto" }

// Marshal encodes a message.
func (c vtCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend appends an encoded message.
func (vtCodec) MarshalAppend(to []byte, message any) ([]byte, error) {
	if to, ok := appendFlame(to, message); ok {
		return to, nil
	}
	if m, ok := message.(vtMessage); ok {
		if b := encoded(message); b != nil && len(to) == 0 {
			return b, nil
		}
		size, at := m.SizeVT(), len(to)
		if cap(to)-at < size {
			to = append(make([]byte, 0, at+size), to...)
		}
		to = to[:at+size]
		_, err := m.MarshalToSizedBufferVT(to[at:])
		return to, err
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	return proto.MarshalOptions{}.MarshalAppend(to, m)
}

// encodedAs stores an encoded message in the unknown fields of an empty one, which any
// codec of the binary form writes as they are. For a client that asked for JSON it
// decodes the message instead.
func encodedAs(to interface {
	vtMessage
	proto.Message
}, data []byte, request http.Header) error {
	if strings.Contains(request.Get("Content-Type"), "json") {
		return to.UnmarshalVT(data)
	}
	to.ProtoReflect().SetUnknown(data)
	return nil
}

// encoded returns the bytes that encodedAs stored in a message, nil if the message was
// not made by encodedAs.
func encoded(message any) []byte {
	switch m := message.(type) {
	case *googlev1.Profile, *querierv1.SeriesResponse:
		if b := m.(proto.Message).ProtoReflect().GetUnknown(); len(b) > 0 && m.(vtMessage).SizeVT() == len(b) {
			return b
		}
	}
	return nil
}

func hasUnknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

// Unmarshal decodes into a message.
func (vtCodec) Unmarshal(from []byte, message any) error {
	if m, ok := message.(vtMessage); ok {
		if p, ok := message.(proto.Message); ok {
			proto.Reset(p) // as Connect's own codec does
		}
		return m.UnmarshalVT(from)
	}
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a protobuf message", message)
	}
	return proto.Unmarshal(from, m)
}
