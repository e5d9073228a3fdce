package ingest

import (
	"testing"

	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
)

// small are limits that a fuzzer cannot make anything large within.
var small = Limits{
	MaxProfileBytes: 1 << 20, MaxSamples: 20_000, MaxSymbols: 50_000, MaxStackDepth: 512,
	MaxSymbolBytes: 4096, MaxLabels: 16, MaxLabelNameBytes: 64, MaxLabelValueBytes: 256,
}

// FuzzJFR holds that whatever is read is a sound profile within the limits.
func FuzzJFR(f *testing.F) {
	snapshot := snapshotOf(f, map[string]string{"endpoint": "/checkout"})
	for _, name := range []string{"async-profiler", "live", "jdk"} {
		f.Add(recorded(f, name), snapshot)
	}
	f.Add([]byte("FLR\x00\x00\x02\x00\x00"), []byte{})
	f.Fuzz(func(t *testing.T, body, snapshot []byte) {
		ps, size, err := JFR(body, snapshot, shop, small)
		if err != nil {
			return
		}
		if int64(size) > small.MaxProfileBytes {
			t.Errorf("%d bytes were read", size)
		}
		for _, p := range ps {
			if err := check(p.Pprof, Limits{MaxSamples: small.MaxSamples, MaxStackDepth: small.MaxStackDepth + 1}); err != nil {
				t.Errorf("%s: %v", p.Labels, err)
			}
		}
	})
}

// FuzzContexts holds that the labels of contexts are within the limits.
func FuzzContexts(f *testing.F) {
	f.Add(snapshotOf(f, map[string]string{"endpoint": "/checkout", "region": "eu"}))
	f.Add(gzipped(f, snapshotOf(f, map[string]string{"a": "b"})))
	f.Add([]byte{0x0a, 0x00, 0x12, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readContexts(b, small)
		if err != nil {
			return
		}
		for id, ls := range c.known {
			if len(ls) > small.MaxLabels {
				t.Errorf("context %d: %d labels", id, len(ls))
			}
			for _, l := range c.labels(correlation{context: id, span: 1, spanName: 1, traceHi: 1}) {
				if l.name == "" || len(l.name) > small.MaxLabelNameBytes || len(l.value) > small.MaxLabelValueBytes {
					t.Errorf("context %d: %q %q", id, l.name, l.value)
				}
			}
		}
	})
}

// FuzzOTLP holds that whatever is read is a sound profile within the limits.
func FuzzOTLP(f *testing.F) {
	req := pprofileotlp.NewExportRequestFromProfiles(exported())
	wire, err := req.MarshalProto()
	if err != nil {
		f.Fatal(err)
	}
	text, err := req.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire, false)
	f.Add(text, true)
	f.Add([]byte(`{"resourceProfiles":[{}]}`), true)
	f.Fuzz(func(t *testing.T, body []byte, json bool) {
		ps, err := OTLP(body, json, exportedAt, small)
		if err != nil {
			return
		}
		for _, p := range ps {
			if err := check(p.Pprof, Limits{MaxSamples: small.MaxSamples, MaxStackDepth: small.MaxStackDepth}); err != nil {
				t.Errorf("%s: %v", p.Labels, err)
			}
			if p.Labels.Get("service_name") == "" || p.Labels.Get("__name__") == "" {
				t.Errorf("labels %s", p.Labels)
			}
		}
	})
}
