package ingest

import (
	"maps"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"

	"github.com/flameline/flameline/pkg/profile"
)

// small are limits that a fuzzer cannot make anything large within.
var small = Limits{
	MaxProfileBytes: 1 << 20, MaxSamples: 20_000, MaxSymbols: 50_000, MaxStackDepth: 512,
	MaxSymbolBytes: 4096, MaxLabels: 16, MaxLabelNameBytes: 64, MaxLabelValueBytes: 256,
}

// checkWindows checks that profiles are sound, within the limits and not too many,
// and that they have the values of those that were not cut by time.
func checkWindows(t *testing.T, ps []profile.Profile, whole map[string]int64) {
	t.Helper()
	series := map[string]int{}
	for _, p := range ps {
		if err := check(p.Pprof, Limits{MaxSamples: small.MaxSamples, MaxStackDepth: small.MaxStackDepth + 1}); err != nil {
			t.Errorf("%s: %v", p.Labels, err)
		}
		series[p.Labels.String()]++
	}
	for ls, n := range series {
		if n > 2*maxWindows {
			t.Errorf("%s: %d profiles", ls, n)
		}
	}
	if got := totals(t, ps); whole != nil && !maps.Equal(got, whole) {
		t.Errorf("%v where %v is due", got, whole)
	}
}

// FuzzJFR checks that whatever is read is a sound profile within the limits, and
// that cutting a recording by time changes no value.
func FuzzJFR(f *testing.F) {
	snapshot := snapshotOf(f, map[string]string{"endpoint": "/checkout"})
	for _, name := range []string{"async-profiler", "live", "jdk", "phases25"} {
		f.Add(recorded(f, name), snapshot)
	}
	w := jfrWriter{begin: recordedAt, duration: time.Minute, ticks: 3e9}
	w.add(jfrCPUTimeSample, 7*time.Second, []string{"a", "b"}, map[string]uint64{"samplingPeriod": 3e7})
	w.add(jfrCPUTimeSamplesLost, 9*time.Second, nil, map[string]uint64{"lostSamples": 3})
	w.add("jdk.ThreadPark", -time.Minute, []string{"a"}, map[string]uint64{"duration": w.inTicks(80 * time.Second)})
	w.add(jfrWallClockSample, 30*time.Second, []string{"b"}, map[string]uint64{"samples": 50, "timeSpan": w.inTicks(9 * time.Second)})
	w.add("jdk.OldObjectSample", time.Second, []string{"a"}, nil)
	f.Add(w.bytes(f), snapshot)
	f.Add([]byte("FLR\x00\x00\x02\x00\x00"), []byte{})
	f.Fuzz(func(t *testing.T, body, snapshot []byte) {
		// Moved by its push, a recording has the same events.
		own, _, failed := JFR(body, snapshot, undated(shop.Until), small)
		ps, size, err := JFR(body, snapshot, shop, small)
		if err != nil {
			return
		}
		if int64(size) > small.MaxProfileBytes {
			t.Errorf("%d bytes were read", size)
		}
		checkWindows(t, ps, nil)
		if failed == nil {
			checkWindows(t, ps, totals(t, own))
		}
	})
}

// FuzzContexts checks that the labels of contexts are within the limits.
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

// FuzzOTLP checks that whatever is read is a sound profile within the limits, and
// that when it was received changes no value.
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
		later, err := OTLP(body, json, exportedAt.Add(24*time.Hour), small)
		if err == nil {
			checkWindows(t, ps, totals(t, later))
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
