package ingest

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
)

// exportedAt is when what is exported was received.
var exportedAt = time.Unix(1_700_000_006, 0)

// exported is a request as OpenTelemetry's own library builds and encodes it:
// CPU samples of two processes of one service, one of a program without a
// service, and what the service waited for.
func exported() pprofile.Profiles {
	ps := pprofile.NewProfiles()
	d := ps.Dictionary()
	d.StringTable().FromRaw([]string{
		"", "samples", "count", "cpu", "nanoseconds", "off_cpu", // 5
		"main", "main.go", "/usr/lib/libc.so.6", "service.name", "worker", // 10
		"thread.id", "profile.frame.type", "abort-marker", "_ZN4shop5priceEv", "endpoint", // 15
		"process.executable.build_id.gnu",
	})
	for range 2 {
		d.MappingTable().AppendEmpty()
	}
	m := d.MappingTable().At(1)
	m.SetMemoryStart(0x1000)
	m.SetFileOffset(0x100)
	m.SetFilenameStrindex(8)
	attribute := func(key int32, value string) int32 {
		a := d.AttributeTable().AppendEmpty()
		a.SetKeyStrindex(key)
		a.Value().SetStr(value)
		return int32(d.AttributeTable().Len() - 1)
	}
	d.AttributeTable().AppendEmpty()
	m.AttributeIndices().Append(attribute(16, "abc123"))
	worker, thread, abort, endpoint := attribute(9, "worker"), attribute(11, "77"), attribute(12, "abort-marker"), attribute(15, "/buy")
	for range 3 {
		d.FunctionTable().AppendEmpty()
	}
	d.FunctionTable().At(1).SetNameStrindex(6)
	d.FunctionTable().At(1).SetFilenameStrindex(7)
	d.FunctionTable().At(2).SetSystemNameStrindex(14)
	for range 5 {
		d.LocationTable().AppendEmpty()
	}
	main, native, inlined, end := d.LocationTable().At(1), d.LocationTable().At(2), d.LocationTable().At(3), d.LocationTable().At(4)
	line := main.Lines().AppendEmpty()
	line.SetFunctionIndex(1)
	line.SetLine(12)
	native.SetMappingIndex(1)
	native.SetAddress(0x1234)
	inlined.Lines().AppendEmpty().SetFunctionIndex(2)
	inlined.Lines().AppendEmpty().SetFunctionIndex(1)
	end.AttributeIndices().Append(abort)
	for _, stack := range [][]int32{nil, {2, 1}, {3}, {1, 4}} {
		d.StackTable().AppendEmpty().LocationIndices().Append(stack...)
	}
	d.LinkTable().AppendEmpty()
	link := d.LinkTable().AppendEmpty()
	link.SetTraceID(pcommon.TraceID{1, 2, 3, 15: 9})
	link.SetSpanID(pcommon.SpanID{7, 7: 1})

	resource := func(attributes map[string]any) pprofile.ProfilesSlice {
		r := ps.ResourceProfiles().AppendEmpty()
		if err := r.Resource().Attributes().FromRaw(attributes); err != nil {
			panic(err)
		}
		return r.ScopeProfiles().AppendEmpty().Profiles()
	}
	cpu := func(p pprofile.Profile) {
		p.SetTime(1_700_000_000_000_000_000)
		p.SetDurationNano(5e9)
		p.SampleType().SetTypeStrindex(1)
		p.SampleType().SetUnitStrindex(2)
		p.PeriodType().SetTypeStrindex(3)
		p.PeriodType().SetUnitStrindex(4)
		p.SetPeriod(50e6)
	}
	sample := func(p pprofile.Profile, stack int32, timestamps []uint64, values ...int64) pprofile.Sample {
		s := p.Samples().AppendEmpty()
		s.SetStackIndex(stack)
		s.TimestampsUnixNano().Append(timestamps...)
		s.Values().Append(values...)
		return s
	}
	for pid := range 2 {
		shop := resource(map[string]any{
			"service.name": "shop", "process.pid": int64(1000 + pid), "k8s.pod.name": "shop-0", "cloud/zone": "a", "blue": true,
		})
		p := shop.AppendEmpty()
		cpu(p)
		sample(p, 1, []uint64{1, 2, 3}).AttributeIndices().Append(thread)
		s := sample(p, 2, nil, 2)
		s.SetLinkIndex(1)
		s.AttributeIndices().Append(endpoint)
	}
	off := ps.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().AppendEmpty()
	off.SampleType().SetTypeStrindex(5)
	off.SampleType().SetUnitStrindex(4)
	sample(off, 3, []uint64{1, 2}, 10, 20)
	other := resource(map[string]any{"process.executable.name": "burn", "process.pid": int64(7)}).AppendEmpty()
	cpu(other)
	sample(other, 1, []uint64{1})
	sample(other, 3, []uint64{1, 2}).AttributeIndices().Append(worker)
	return ps
}

// TestOTLP sends the same request in both encodings.
func TestOTLP(t *testing.T) {
	req := pprofileotlp.NewExportRequestFromProfiles(exported())
	wire, err := req.MarshalProto()
	require.NoError(t, err)
	text, err := req.MarshalJSON()
	require.NoError(t, err)
	for name, body := range map[string][]byte{"protobuf": wire, "JSON": text} {
		t.Run(name, func(t *testing.T) {
			ps, err := OTLP(body, name == "JSON", exportedAt, Limits{})
			require.NoError(t, err)
			require.Len(t, ps, 4)
			assert.Equal(t, map[string]int64{
				"process_cpu:cpu:nanoseconds:cpu:nanoseconds": (2*(3+2) + 1 + 2) * 50e6,
				"off_cpu:off_cpu:nanoseconds::":               30,
			}, totals(t, ps))

			shop := ps[0]
			assert.Equal(t, labels.FromStrings("__name__", "process_cpu", "service_name", "shop", "k8s_pod_name", "shop-0", "pod", "shop-0",
				"cloud_zone", "a", "blue", "true"), shop.Labels)
			assert.Equal(t, int64(1_700_000_000_000_000_000), shop.Pprof.TimeNanos)
			assert.Equal(t, int64(5e9), shop.Pprof.DurationNanos)
			assert.Equal(t, int64(50e6), shop.Pprof.Period)
			require.Len(t, shop.Pprof.Sample, 2, "samples of both processes add up")
			assert.Equal(t, int64(300e6), shop.Pprof.Sample[0].Value[0])
			assert.Empty(t, shop.Pprof.Sample[0].Label, "a thread's ID is no label")
			assert.Equal(t, map[string]int64{"main;shop::price": 200e6, "main;": 300e6}, folded(shop.Pprof))
			assert.Equal(t, map[string]string{
				"endpoint": "/buy", "span_id": "0700000000000001", "trace_id": "01020300000000000000000000000009",
			}, labelsOf(shop.Pprof, shop.Pprof.Sample[1]))

			native := shop.Pprof.Location[shop.Pprof.Sample[0].LocationId[0]-1]
			assert.Empty(t, native.Line)
			assert.Equal(t, uint64(0x1234), native.Address)
			mapping := shop.Pprof.Mapping[native.MappingId-1]
			assert.Equal(t, "/usr/lib/libc.so.6", shop.Pprof.StringTable[mapping.Filename])
			assert.Equal(t, "abc123", shop.Pprof.StringTable[mapping.BuildId])
			assert.Equal(t, uint64(0x1000), mapping.MemoryStart)
			assert.Equal(t, uint64(0x100), mapping.FileOffset)

			assert.Equal(t, "off_cpu", ps[1].Labels.Get("__name__"))
			assert.Equal(t, map[string]int64{"[abort-marker];main": 30}, folded(ps[1].Pprof))
			assert.Equal(t, "unknown_service:burn", ps[2].Labels.Get("service_name"))
			assert.Equal(t, "worker", ps[3].Labels.Get("service_name"), "the sample's own service")
		})
	}
}

// One negative value does not cost the others; where they are half of all, the profile is a
// comparison.
func TestOTLPNegative(t *testing.T) {
	for value, want := range map[int64]string{-4: "", -30: "samples[1].values[0]: -30 is negative"} {
		all := exported()
		off := all.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(1)
		s := off.Samples().AppendEmpty()
		s.SetStackIndex(1)
		s.Values().Append(value)
		body, err := pprofileotlp.NewExportRequestFromProfiles(all).MarshalProto()
		require.NoError(t, err)
		var report Report
		ps, err := OTLP(body, false, exportedAt, Limits{Report: &report})
		if want != "" {
			require.ErrorContains(t, err, want)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, int64(30), totals(t, ps)["off_cpu:off_cpu:nanoseconds::"])
		assert.Contains(t, report.String(), "skipped sample with a negative value (1)")
	}
}

// OpenTelemetry forbids an attribute that is there twice: the first one counts, and the
// answer says so.
func TestOTLPAttributeTwice(t *testing.T) {
	ps := exported()
	d := ps.Dictionary()
	again := d.AttributeTable().AppendEmpty()
	again.SetKeyStrindex(15) // endpoint
	again.Value().SetStr("/sell")
	sample := ps.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0).Samples().At(1)
	sample.AttributeIndices().Append(sample.AttributeIndices().At(0), int32(d.AttributeTable().Len()-1))
	body, err := pprofileotlp.NewExportRequestFromProfiles(ps).MarshalProto()
	require.NoError(t, err)
	report := &Report{}
	_, err = OTLP(body, false, exportedAt, Limits{Report: report})
	require.NoError(t, err)
	require.Contains(t, report.String(), "skipped label endpoint, of which the sample has another value (1)")
}
