// Package dataset generates or reads the CPU profiles for comparing two servers: those
// of a fleet of services over some time, the same in every run.
//
// The absolute time and the recipients are left to callers.
package dataset

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/klauspost/compress/gzip"
	"google.golang.org/protobuf/encoding/protowire"
)

// ProfileType is the type of all profiles, as queries name it.
const ProfileType = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

const labelServiceName = "service_name"

// A Set has the profiles of one stretch of time. It is not changed after it was made,
// and safe for concurrent use.
type Set struct {
	Profiles []Profile     // by Offset
	Length   time.Duration // whole minutes; every Offset is less
	Origin   string        // what it is, for people
}

// A Profile is one CPU profile. Its bytes are generated or read on demand, since an hour
// of a fleet needs too much memory.
type Profile struct {
	Labels []*typesv1.LabelPair // by name
	Offset time.Duration        // from the start of the set
	load   func() ([]byte, error)
}

// Service is the value of the label service_name, "" without.
func (p Profile) Service() string {
	for _, l := range p.Labels {
		if l.Name == labelServiceName {
			return l.Value
		}
	}
	return ""
}

// At returns the gzipped pprof profile with the time at.
func (p Profile) At(at time.Time) ([]byte, error) {
	raw, err := p.load()
	if err != nil {
		return nil, err
	}
	if raw, err = retime(raw, at); err != nil {
		return nil, fmt.Errorf("move profile of %s: %w", p.Service(), err)
	}
	return compress(raw)
}

// Loaded returns the same profile with its bytes in memory.
func (p Profile) Loaded() (Profile, error) {
	raw, err := p.load()
	p.load = func() ([]byte, error) { return raw, err }
	return p, err
}

// Services lists the services by name.
func (s *Set) Services() []string {
	var names []string
	for _, p := range s.Profiles {
		names = append(names, p.Service())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Of returns the profiles of one service.
func (s *Set) Of(service string) []Profile {
	var out []Profile
	for _, p := range s.Profiles {
		if p.Service() == service {
			out = append(out, p)
		}
	}
	return out
}

// timeNanos is the field of google.v1.Profile, see
// https://github.com/google/pprof/blob/main/proto/profile.proto.
const timeNanos = 9

// retime changes the time of an uncompressed pprof profile, and no other byte.
func retime(raw []byte, at time.Time) ([]byte, error) {
	out := make([]byte, 0, len(raw)+protowire.SizeTag(timeNanos)+10)
	for offset := 0; offset < len(raw); {
		number, _, n := protowire.ConsumeField(raw[offset:])
		if n < 0 {
			return nil, fmt.Errorf("field at byte %d: %w", offset, protowire.ParseError(n))
		}
		if number != timeNanos {
			out = append(out, raw[offset:offset+n]...)
		}
		offset += n
	}
	out = protowire.AppendTag(out, timeNanos, protowire.VarintType)
	return protowire.AppendVarint(out, uint64(at.UnixNano())), nil
}

func compress(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compress profile: %w", err)
	}
	if _, err := w.Write(raw); err != nil {
		return nil, fmt.Errorf("compress profile: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress profile: %w", err)
	}
	return b.Bytes(), nil
}

func decompress(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
