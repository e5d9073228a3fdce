package render

import (
	"io"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/flameline/flameline/pkg/profile"
)

// writePprof writes profile.proto with gzip, as `go tool pprof` reads it.
func writePprof(w io.Writer, d *Document) error {
	p := d.Pprof
	if p == nil {
		p = pprofOf(d)
	}
	b, err := p.MarshalVT()
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	if _, err := z.Write(b); err != nil {
		return err
	}
	return z.Close()
}

// pprofOf makes a pprof profile of a document's tree: a function and a location per
// name, a sample per stacktrace with a self value.
func pprofOf(d *Document) *googlev1.Profile {
	t := d.Tree
	p := &googlev1.Profile{StringTable: []string{""}}
	text := func(s string) int64 {
		if s == "" {
			return 0
		}
		p.StringTable = append(p.StringTable, s)
		return int64(len(p.StringTable) - 1)
	}
	p.SampleType = []*googlev1.ValueType{{Type: text(sampleType(d.Type)), Unit: text(sampleUnit(d.Type))}}
	if d.Type.PeriodType != "" {
		p.PeriodType = &googlev1.ValueType{Type: text(d.Type.PeriodType), Unit: text(d.Type.PeriodUnit)}
	}
	if !d.Start.IsZero() {
		p.TimeNanos = d.Start.UnixNano()
	}
	p.DurationNanos = int64(d.Duration)
	ids := make([]uint64, len(t.Names))
	location := func(name int32) uint64 {
		if ids[name] == 0 {
			id := uint64(len(p.Location) + 1)
			s := text(t.Names[name])
			// Without a system name go tool pprof does not shorten names such as <module>.
			p.Function = append(p.Function, &googlev1.Function{Id: id, Name: s})
			p.Location = append(p.Location, &googlev1.Location{Id: id, Line: []*googlev1.Line{{FunctionId: id}}})
			ids[name] = id
		}
		return ids[name]
	}
	for i := range t.Nodes {
		if t.Nodes[i].Self == 0 {
			continue
		}
		s := &googlev1.Sample{Value: []int64{t.Nodes[i].Self}}
		for n := int32(i); n > 0; n = t.Nodes[n].Parent {
			s.LocationId = append(s.LocationId, location(t.Nodes[n].Name))
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

// sampleType returns a type's name; pprof's may not be empty.
func sampleType(t profile.Type) string {
	if t.SampleType == "" {
		return "samples"
	}
	return t.SampleType
}

func sampleUnit(t profile.Type) string {
	if t.SampleUnit == "" {
		return "count"
	}
	return t.SampleUnit
}
