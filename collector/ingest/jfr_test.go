package ingest

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// recorded returns a recording of e2e/senders/java/Shop.java, decompressed.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "jfr", name+".jfr.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	b, err := io.ReadAll(z)
	require.NoError(t, err)
	return b
}

var shop = Push{
	Labels: labels.FromStrings("service_name", "shop"),
	From:   time.Unix(1_700_000_000, 0), Until: time.Unix(1_700_000_010, 0),
}

// totals are the sums of all values, by profile type.
func totals(t testing.TB, ps []profile.Profile) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, p := range ps {
		require.NoError(t, check(p.Pprof, Limits{}))
		text := p.Pprof.StringTable
		for i, st := range p.Pprof.SampleType {
			id := profile.Type{Name: p.Labels.Get("__name__"), SampleType: text[st.Type], SampleUnit: text[st.Unit]}
			if pt := p.Pprof.PeriodType; pt != nil {
				id.PeriodType, id.PeriodUnit = text[pt.Type], text[pt.Unit]
			}
			for _, s := range p.Pprof.Sample {
				out[id.String()] += s.Value[i]
			}
		}
	}
	return out
}

// folded are the values of a sample type by stack, root first.
func folded(p *googlev1.Profile, i int) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		var names []string
		for j := len(s.LocationId) - 1; j >= 0; j-- {
			for _, line := range p.Location[s.LocationId[j]-1].Line {
				names = append(names, p.StringTable[p.Function[line.FunctionId-1].Name])
			}
		}
		out[strings.Join(names, ";")] += s.Value[i]
	}
	return out
}

// The JDK's own tool says what the recordings hold: the wanted numbers are
// counts and sums over the events that `jfr print --json --events ...` lists.
func TestJFRTotals(t *testing.T) {
	const (
		cpu      = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
		wall     = "wall:wall:nanoseconds:wall:nanoseconds"
		inTLAB   = "memory:alloc_in_new_tlab_objects:count:space:bytes"
		inBytes  = "memory:alloc_in_new_tlab_bytes:bytes:space:bytes"
		locked   = "mutex:contentions:count:mutex:count"
		lockTime = "mutex:delay:nanoseconds:mutex:count"
		parked   = "block:contentions:count:block:count"
		parkTime = "block:delay:nanoseconds:block:count"
	)
	for name, want := range map[string]map[string]int64{
		"async-profiler": {
			cpu: 191 * 10e6, wall: 2397 * 20e6, // profiler.WallClockSample has a field samples
			inTLAB: 143, inBytes: 37_486_592, locked: 62, lockTime: 1_635_671_877, parked: 55, parkTime: 1_658_876_859,
		},
		"live": {cpu: 136 * 5e6, inTLAB: 32, inBytes: 8_388_608, "memory:live:count:objects:count": 32},
		"jdk": {
			cpu: 206 * 10e6, wall: 119 * 20e6, // jdk.NativeMethodSample
			inTLAB: 178, inBytes: 48_787_936, locked: 58, lockTime: 2_037_487_777, parked: 107, parkTime: 2_406_252_766,
			"memory:alloc_outside_tlab_objects:count:space:bytes": 28,
			"memory:alloc_outside_tlab_bytes:bytes:space:bytes":   115_136,
			"memory:alloc_sample_objects:count:space:bytes":       162,
			"memory:alloc_sample_bytes:bytes:space:bytes":         53_885_856,
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw := recorded(t, name)
			ps, size, err := JFR(raw, nil, shop, Limits{})
			require.NoError(t, err)
			assert.Equal(t, len(raw), size)
			assert.Equal(t, want, totals(t, ps))
			for _, p := range ps {
				assert.Equal(t, shop.From.UnixNano(), p.Pprof.TimeNanos)
				assert.Equal(t, int64(10e9), p.Pprof.DurationNanos)
				assert.Equal(t, "shop", p.Labels.Get("service_name"))
			}
		})
	}
}
