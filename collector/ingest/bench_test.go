package ingest

import (
	"bytes"
	"fmt"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
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
	for _, bc := range []struct {
		name string
		in   []byte
	}{{"plain", raw}, {"gzip", packed}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, _, err := Pprof(bc.in, benchLimits); err != nil {
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
		if _, _, err := Folded(text.Bytes(), m, benchLimits); err != nil {
			b.Fatal(err)
		}
	}
}

var benchLimits = Limits{MaxProfileBytes: 32 << 20, MaxSamples: 200_000, MaxSymbols: 1_000_000, MaxStackDepth: 4096, MaxSymbolBytes: 65535, MaxLabels: 30}

// BenchmarkJFR reads recordings of async-profiler and of the JDK. What the scan
// before the parser takes of that is measured apart.
func BenchmarkJFR(b *testing.B) {
	for _, name := range []string{"async-profiler", "jdk"} {
		body := recorded(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, _, err := JFR(body, nil, shop, benchLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/scan", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := scanJFR(body, 0, benchLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOTLP reads a request of 400 stacks of 30 locations, as an eBPF profiler
// sends of a machine.
func BenchmarkOTLP(b *testing.B) {
	ps := pprofile.NewProfiles()
	d := ps.Dictionary()
	text := []string{"", "samples", "count", "cpu", "nanoseconds"}
	d.MappingTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	d.FunctionTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	for i := range int32(1200) {
		text = append(text, fmt.Sprintf("example.org/service/package%d.(*Type%d).Method%d", i%40, i%300, i))
		d.FunctionTable().AppendEmpty().SetNameStrindex(i + 5)
		line := d.LocationTable().AppendEmpty().Lines().AppendEmpty()
		line.SetFunctionIndex(i + 1)
		line.SetLine(int64(i))
	}
	d.StringTable().FromRaw(text)
	r := ps.ResourceProfiles().AppendEmpty()
	r.Resource().Attributes().PutStr("service.name", "shop")
	p := r.ScopeProfiles().AppendEmpty().Profiles().AppendEmpty()
	p.SetTime(1_700_000_000_000_000_000)
	p.SampleType().SetTypeStrindex(1)
	p.SampleType().SetUnitStrindex(2)
	p.PeriodType().SetTypeStrindex(3)
	p.PeriodType().SetUnitStrindex(4)
	p.SetPeriod(50e6)
	for i := range int32(400) {
		stack := d.StackTable().AppendEmpty()
		for j := range int32(30) {
			stack.LocationIndices().Append((i*7+j*3)%1200 + 1)
		}
		s := p.Samples().AppendEmpty()
		s.SetStackIndex(i + 1)
		s.TimestampsUnixNano().Append(1, 2, 3)
	}
	body, err := pprofileotlp.NewExportRequestFromProfiles(ps).MarshalProto()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := OTLP(body, false, exportedAt, benchLimits); err != nil {
			b.Fatal(err)
		}
	}
}
