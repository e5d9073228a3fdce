package tools

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	pprof "github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// mergePprof makes one pprof profile of several: each of their types is a sample type of
// it. A single profile is returned as it is.
func mergePprof(ps []profile.Profile) (*googlev1.Profile, error) {
	if len(ps) == 1 {
		return ps[0].Pprof, nil
	}
	types := typesOf(ps)
	names := make([]*pprof.ValueType, len(types))
	for i, t := range types {
		names[i] = &pprof.ValueType{Type: t.SampleType, Unit: t.SampleUnit}
		// Profiles of a recording may count samples of several kinds.
		if slices.ContainsFunc(names[:i], func(o *pprof.ValueType) bool { return *o == *names[i] }) {
			names[i].Type = t.Name + "_" + t.SampleType
		}
	}
	parts := make([]*pprof.Profile, 0, len(ps))
	for _, p := range ps {
		b, err := p.Pprof.MarshalVT()
		if err != nil {
			return nil, err
		}
		one, err := pprof.ParseUncompressed(b)
		if err != nil {
			return nil, err
		}
		at := make([]int, len(one.SampleType))
		for i := range at {
			at[i] = slices.Index(types, typeOf(p, i))
		}
		for _, s := range one.Sample {
			values := make([]int64, len(types))
			for i, v := range s.Value {
				values[at[i]] = v
			}
			s.Value = values
		}
		one.SampleType, one.PeriodType, one.Period, one.DefaultSampleType = names, &pprof.ValueType{}, 0, ""
		parts = append(parts, one)
	}
	all, err := pprof.Merge(parts)
	if err != nil {
		return nil, fmt.Errorf("merge %d profiles: %w", len(ps), err)
	}
	start, length := spanOf(ps)
	all.TimeNanos, all.DurationNanos = start, length
	all.PeriodType, all.DefaultSampleType = nil, names[slices.Index(types, defaultType(ps))].Type
	var b strings.Builder
	if err := all.WriteUncompressed(&b); err != nil {
		return nil, err
	}
	out := new(googlev1.Profile)
	return out, out.UnmarshalVT([]byte(b.String()))
}

// unknownName is what a location without functions is shown as: module+0xoffset.
func unknownName(p *googlev1.Profile, m *googlev1.Mapping, address uint64) string {
	if m == nil || p.StringTable[m.Filename] == "" {
		return "0x" + strconv.FormatUint(address, 16)
	}
	if address >= m.MemoryStart {
		address = address - m.MemoryStart + m.FileOffset
	}
	file := p.StringTable[m.Filename]
	return file[strings.LastIndexByte(file, '/')+1:] + "+0x" + strconv.FormatUint(address, 16)
}
