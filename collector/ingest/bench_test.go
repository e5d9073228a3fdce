package ingest

import (
	"bytes"
	"fmt"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// BenchmarkPprof reads a profile of the size that a Go service gives in ten
// seconds: 450 stacks of some 30 locations.
func BenchmarkPprof(b *testing.B) {
	p := &googlev1.Profile{
		StringTable: []string{"", "cpu", "nanoseconds", "samples", "count"},
		SampleType:  []*googlev1.ValueType{{Type: 3, Unit: 4}, {Type: 1, Unit: 2}},
		PeriodType:  &googlev1.ValueType{Type: 1, Unit: 2},
		Mapping:     []*googlev1.Mapping{{Id: 1}},
		TimeNanos:   1, DurationNanos: 10e9,
	}
	for i := range uint64(1200) {
		p.StringTable = append(p.StringTable, fmt.Sprintf("example.org/service/package%d.(*Type%d).Method%d", i%40, i%300, i))
		p.Function = append(p.Function, &googlev1.Function{Id: i + 1, Name: int64(i + 5), SystemName: int64(i + 5), Filename: int64(i%40 + 5), StartLine: int64(i)})
		p.Location = append(p.Location, &googlev1.Location{Id: i + 1, MappingId: 1, Address: 0x400000 + i*64, Line: []*googlev1.Line{{FunctionId: i + 1, Line: int64(i)}}})
	}
	for i := range uint64(450) {
		s := &googlev1.Sample{Value: []int64{int64(i%7 + 1), int64(i%7+1) * 1e7}}
		for j := range 20 + i%20 {
			s.LocationId = append(s.LocationId, (i*i+j*7)%1200+1)
		}
		p.Sample = append(p.Sample, s)
	}
	raw := encode(b, p)
	packed := gzipped(b, raw)
	limits := Limits{MaxProfileBytes: 32 << 20, MaxSamples: 200_000, MaxSymbols: 1_000_000, MaxStackDepth: 4096, MaxSymbolBytes: 65535, MaxLabels: 30}
	for _, bc := range []struct {
		name string
		in   []byte
	}{{"plain", raw}, {"gzip", packed}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, _, err := Pprof(bc.in, limits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("unmarshal alone", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			var p googlev1.Profile
			if err := p.UnmarshalVT(bytes.Clone(raw)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFolded reads 450 stacktraces of some 30 functions.
func BenchmarkFolded(b *testing.B) {
	var text bytes.Buffer
	for i := range 450 {
		for j := range 20 + i%20 {
			fmt.Fprintf(&text, "example.org/service/package%d.(*Type%d).Method;", j%7, (i>>(j%4*3)+j*7)%300)
		}
		fmt.Fprintf(&text, "leaf %d\n", i%7+1)
	}
	m := pushOf(b, "shop")
	b.ReportAllocs()
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, _, err := Folded(text.Bytes(), m, Limits{MaxProfileBytes: 32 << 20, MaxSamples: 200_000, MaxSymbols: 1_000_000, MaxStackDepth: 4096, MaxSymbolBytes: 65535}); err != nil {
			b.Fatal(err)
		}
	}
}
