package ingest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/jfr-parser/parser"
	"github.com/grafana/jfr-parser/parser/types/def"
	"github.com/grafana/jfr-parser/pprof"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// recorded returns a recording of e2e/senders/java/Shop.java, decompressed. All
// but jdk, which has the settings beside that program, and phases25 (in
// jfr_time_test.go), are async-profiler's:
//
//	async-profiler  event=cpu,interval=10ms,alloc=256k,lock=1ms,wall=20ms
//	live            event=itimer,interval=5ms,alloc=256k,live
//	wall            event=wall
//	nobatch         event=cpu,wall=20ms,nobatch
//	malloc          nativemem=500k
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

// folded are the values of a profile's first sample type by stack, root first.
// Calls without a function have an empty name.
func folded(p *googlev1.Profile) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		var names []string
		for _, id := range s.LocationId {
			lines := p.Location[id-1].Line
			if len(lines) == 0 {
				names = append(names, "")
			}
			for _, line := range lines {
				names = append(names, p.StringTable[p.Function[line.FunctionId-1].Name])
			}
		}
		slices.Reverse(names)
		out[strings.Join(names, ";")] += s.Value[0]
	}
	return out
}

// labelsOf are a sample's labels.
func labelsOf(p *googlev1.Profile, s *googlev1.Sample) map[string]string {
	out := map[string]string{}
	for _, l := range s.Label {
		out[p.StringTable[l.Key]] = p.StringTable[l.Str]
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
		"live":    {cpu: 136 * 5e6, inTLAB: 32, inBytes: 8_388_608, "memory:live:count:objects:count": 32},
		"wall":    {cpu: 27 * 50e6, wall: (27 + 274) * 50e6}, // runnable, and all
		"nobatch": {cpu: 43 * 10e6, wall: (516 + 37) * 20e6}, // STATE_DEFAULT, and the others
		"malloc":  {"memory:malloc_objects:count::": 14, "memory:malloc_bytes:bytes::": 844_392},
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
			for _, p := range ps { // of years later, by their own clocks
				assert.Equal(t, shop.Until.UnixNano(), p.Pprof.TimeNanos+p.Pprof.DurationNanos)
				assert.Less(t, p.Pprof.DurationNanos, int64(3e9), "short recordings stay one profile")
				assert.Equal(t, "shop", p.Labels.Get("service_name"))
			}
		})
	}
}

// Frames are named as Pyroscope names them.
func TestJFRNames(t *testing.T) {
	ps, _, err := JFR(recorded(t, "async-profiler"), nil, shop, Limits{})
	require.NoError(t, err)
	for _, p := range ps {
		assert.Equal(t, "cpu", p.Labels.Get("jfr_event"))
		if p.Labels.Get("__name__") != "process_cpu" {
			continue
		}
		priced, printed, all := int64(0), int64(0), int64(0)
		for stack, v := range folded(p.Pprof) {
			all += v
			if strings.Contains(stack, "java/lang/Thread.run;Shop$$Lambda_.run;Shop.lambda$open$1;Shop.work;Shop.checkout;Shop.price") {
				priced += v
			}
			if strings.Contains(stack, "Shop.checkout;Shop.receipt") {
				printed += v
			}
			assert.NotContains(t, stack, ";.", "a function without a class has no dot before it")
		}
		// The program measured 1.052 s and 0.452 s by its thread's clock.
		assert.InDelta(t, 1.052e9, priced, 0.1e9)
		assert.InDelta(t, 0.452e9, printed, 0.1e9)
		assert.Greater(t, all, priced+printed, "the JVM's own threads")
		lines := map[int64]bool{}
		for _, l := range p.Pprof.Location {
			lines[l.Line[0].Line] = true
		}
		assert.True(t, lines[840], "Thread.run calls the Runnable in line 840 of its file")
	}
}

// Of a recording with one chunk and one clock, the library's own conversion,
// which is Pyroscope's, has the same stacktraces.
func TestJFRIsAsPyroscope(t *testing.T) {
	raw := recorded(t, "live")
	pyroscope, err := pprof.ParseJFR(raw, &pprof.ParseInput{StartTime: shop.From, EndTime: shop.Until, SampleRate: 200}, &pprof.LabelsSnapshot{})
	require.NoError(t, err)
	want := map[string]map[string]int64{}
	for _, p := range pyroscope.Profiles {
		stacks := map[string]int64{}
		for stack, v := range folded(p.Profile) {
			stacks[strings.ReplaceAll(";"+stack, ";.", ";")] += v
		}
		want[p.Metric+" "+p.Profile.StringTable[p.Profile.SampleType[0].Type]] = stacks
	}
	ps, _, err := JFR(raw, nil, shop, Limits{})
	require.NoError(t, err)
	got := map[string]map[string]int64{}
	for _, p := range ps {
		stacks := map[string]int64{}
		for stack, v := range folded(p.Pprof) {
			stacks[";"+stack] += v
		}
		got[p.Labels.Get("__name__")+" "+p.Pprof.StringTable[p.Pprof.SampleType[0].Type]] = stacks
	}
	assert.Equal(t, want, got)
}

// A recording of several chunks is those chunks one after the other; each has
// constants of its own.
func TestJFRChunks(t *testing.T) {
	jdk, asprof := recorded(t, "jdk"), recorded(t, "async-profiler")
	both := append(slices.Clone(jdk), asprof...)
	ps, size, err := JFR(gzipped(t, both), nil, shop, Limits{})
	require.NoError(t, err)
	assert.Equal(t, len(both), size)
	got := totals(t, ps)
	assert.Equal(t, int64((206+191)*10e6), got["process_cpu:cpu:nanoseconds:cpu:nanoseconds"])
	assert.Equal(t, int64(48_787_936+37_486_592), got["memory:alloc_in_new_tlab_bytes:bytes:space:bytes"])

	// Also by the recordings' own times, which "jfr summary" prints.
	ps, _, err = JFR(both, nil, undated(shop.Until), Limits{})
	require.NoError(t, err)
	assert.Equal(t, got, totals(t, ps))
	sums := map[time.Time]int64{}
	for _, p := range ps {
		if p.Labels.Get("__name__") == "process_cpu" {
			for _, v := range folded(p.Pprof) {
				sums[time.Unix(0, p.Pprof.TimeNanos).UTC().Truncate(time.Second)] += v
			}
		}
	}
	assert.Equal(t, map[time.Time]int64{
		time.Date(2026, 11, 24, 19, 34, 45, 0, time.UTC): 191 * 10e6,
		time.Date(2026, 11, 24, 19, 34, 50, 0, time.UTC): 206 * 10e6,
	}, sums)
}

// What is cut or changed anywhere is refused with its place, or makes no
// difference; nothing panics.
func TestJFRDamage(t *testing.T) {
	raw := recorded(t, "live")
	for n := range len(raw) {
		if n%211 != 0 {
			continue
		}
		_, _, err := JFR(raw[:n], nil, shop, Limits{})
		require.Error(t, err, "cut at %d", n)
		if n > 0 {
			require.Contains(t, err.Error(), "chunk 0, from byte 0: header: ")
		}
	}
	refused := 0
	for at := 0; at < len(raw); at += 29 {
		damaged := slices.Clone(raw)
		damaged[at] ^= 0xff
		if _, _, err := JFR(damaged, nil, shop, Limits{MaxSymbols: 100_000, MaxStackDepth: 4096}); err != nil {
			refused++
			require.Contains(t, err.Error(), "jfr: chunk 0, from byte 0: ", "byte %d", at)
		}
	}
	assert.Greater(t, refused, 25)
}

// A count that promises more than there are bytes is refused before anything is
// allocated for it: the parser would ask for 64 GB here, and end the service.
func TestJFRCounts(t *testing.T) {
	for _, name := range []string{"live", "jdk"} {
		raw := recorded(t, name)
		for place, field := range map[string]int{"metadata": 24, "constant pool": 16} {
			at := int(binary.BigEndian.Uint64(raw[field:])) // an event: its size, type and three numbers, then the count
			for n := 5; n > 0; n-- {
				for end := at + 8; raw[at] >= 0x80 && at < end; { // nine bytes at most
					at++
				}
				at++
			}
			if place == "constant pool" {
				at++ // flags
			}
			damaged := slices.Clone(raw)
			copy(damaged[at:], []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
			_, _, err := JFR(damaged, nil, shop, Limits{})
			require.ErrorContains(t, err, place+": 4294967295 of something in ", name)
		}
	}
}

// The parser alone allocates for counts that are not true, which is what the scan is
// for. Once this fails, a new version of the parser may do without.
func TestJFRParserTrustsCounts(t *testing.T) {
	raw := recorded(t, "live")
	at := int(binary.BigEndian.Uint64(raw[24:])) // the metadata: its size, type and three numbers, then the count of strings
	for range 5 {
		_, n := binary.Uvarint(raw[at:])
		at += n
	}
	copy(raw[at:], []byte{0x80, 0x80, 0x80, 0x08}) // 2^24, of 16 bytes each
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	before := allocated()
	_, err := parser.NewParser(raw, parser.Options{}).ParseEvent()
	require.Error(t, err)
	require.Greater(t, allocated()-before, uint64(256<<20), "of %d bytes", len(raw))

	before = allocated()
	_, _, err = JFR(raw, nil, shop, Limits{})
	require.ErrorContains(t, err, "metadata: 16777216 of something in ")
	require.Less(t, allocated()-before, uint64(16<<20))
}

// The parser reads arrays within objects as single values, arrays of objects as if
// their count was there twice, and a float that has fields as a number: what
// follows them would be read from another place than the one that was checked.
func TestJFRScanReadsAsTheParser(t *testing.T) {
	classes := map[uint64]*jfrClass{}
	for id, c := range map[uint64]def.Class{
		1: {Name: "long"}, 2: {Name: "java.lang.String"}, 3: {Name: "float", Fields: []def.Field{{Name: "f", Type: 1}}},
		4: {Name: "Pair", Fields: []def.Field{{Name: "a", Type: 1}, {Name: "b", Type: 2}}},
		5: {Name: "List", Fields: []def.Field{{Name: "all", Type: 1, Array: true}}},
		6: {Name: "jdk.types.StackFrame", Fields: []def.Field{{Name: "method", Type: 1, ConstantPool: true}}},
		7: {Name: "jdk.types.StackTrace", Fields: []def.Field{{Name: "frames", Type: 6, Array: true}}},
	} {
		classes[id] = &jfrClass{Class: &c}
	}
	for i, c := range []struct {
		field def.Field
		b     []byte
		want  string
	}{
		{def.Field{Name: "pair", Type: 4}, []byte{7, 3, 1, 'x'}, ""},
		{def.Field{Name: "numbers", Type: 1, Array: true}, []byte{2, 7, 7}, ""},
		{def.Field{Name: "names", Type: 2, Array: true}, []byte{1, 3, 1, 'x'}, ""},
		{def.Field{Name: "refs", Type: 4, Array: true, ConstantPool: true}, []byte{2, 7, 7}, ""},
		{def.Field{Name: "stack", Type: 7, ConstantPool: true}, []byte{7}, ""},
		{def.Field{Name: "pairs", Type: 4, Array: true}, []byte{1, 7, 3, 1, 'x'}, "pairs: an array in Event is not supported, at byte 0"},
		{def.Field{Name: "frames", Type: 6, Array: true}, []byte{1, 7}, "frames: an array in Event is not supported, at byte 0"},
		{def.Field{Name: "list", Type: 5}, []byte{1, 7}, "list: all: an array in List is not supported, at byte 0"},
		{def.Field{Name: "ratio", Type: 3}, []byte{7}, `ratio: values of class "float" are not supported, at byte 0`},
		{def.Field{Name: "cut", Type: 2}, []byte{4, 0xff, 0xff, 0xff, 0xff, 0x0f}, "cut: 4294967295 of something in 0 bytes"},
	} {
		classes[99] = &jfrClass{Class: &def.Class{Name: "Event", Fields: []def.Field{c.field}}}
		s := jfrScanner{b: c.b, end: len(c.b), chunk: jfrChunk{classes: classes}}
		err := s.value(99, 0)
		if c.want == "" {
			require.NoError(t, err, i)
			require.Equal(t, len(c.b), s.at, i)
			continue
		}
		require.ErrorContains(t, err, c.want, i)
	}
}

func TestJFRMistakes(t *testing.T) {
	raw := recorded(t, "async-profiler")
	change := func(at int, b ...byte) []byte {
		out := slices.Clone(raw)
		copy(out[at:], b)
		return out
	}
	for name, c := range map[string]struct {
		body     []byte
		snapshot []byte
		limits   Limits
		want     string
	}{
		"nothing":         {nil, nil, Limits{}, "jfr: the recording is empty"},
		"no recording":    {change(0, 'F', 'L', 'X'), nil, Limits{}, `jfr: chunk 0, from byte 0: header: "FLX\x00" is not how a recording begins, at byte 0`},
		"version":         {change(4, 0, 1), nil, Limits{}, "version 1.0 is not 2"},
		"still recording": {change(8, make([]byte, 8)...), nil, Limits{}, "the recording was copied before it ended"},
		"second chunk":    {append(slices.Clone(raw), "FLR"...), nil, Limits{}, fmt.Sprintf("jfr: chunk 1, from byte %d: header: 3 bytes where 68 are due", len(raw))},
		"bytes":           {gzipped(t, raw), nil, Limits{MaxProfileBytes: 10_000}, "limits.max_profile_bytes"},
		"symbols":         {raw, nil, Limits{MaxSymbols: 500}, "limits.max_symbols"},
		"symbol bytes":    {raw, nil, Limits{MaxSymbolBytes: 10}, "limits.max_symbol_bytes"},
		"stack depth":     {raw, nil, Limits{MaxStackDepth: 4}, "limits.max_stack_depth"},
		"samples":         {raw, nil, Limits{MaxSamples: 4}, "limits.max_samples"},
		"labels":          {raw, []byte{0x0a, 0xff}, Limits{}, "labels: contexts[0]: "},
		"label value":     {raw, snapshotOf(t, map[string]string{"endpoint": "/checkout"}), Limits{MaxLabelValueBytes: 8}, "limits.max_label_value_bytes"},
	} {
		_, _, err := JFR(c.body, c.snapshot, shop, c.limits)
		require.ErrorContains(t, err, c.want, name)
	}
}

// snapshotOf is a snapshot with one context, number 1.
func snapshotOf(t testing.TB, of map[string]string) []byte {
	t.Helper()
	s := &pprof.LabelsSnapshot{Contexts: map[int64]*pprof.Context{1: {Labels: map[int64]int64{}}}, Strings: map[int64]string{}}
	for name, value := range of {
		n := int64(len(s.Strings)) + 1
		s.Strings[n], s.Strings[n+1] = name, value
		s.Contexts[1].Labels[n] = n + 1
	}
	b, err := s.MarshalVT()
	require.NoError(t, err)
	return b
}

func TestContexts(t *testing.T) {
	b := snapshotOf(t, map[string]string{"endpoint": "/checkout", "region": "eu"})
	for _, b := range [][]byte{b, gzipped(t, b)} {
		c, err := readContexts(b, Limits{})
		require.NoError(t, err)
		assert.Equal(t, []sampleLabel{{"endpoint", "/checkout"}, {"region", "eu"}}, c.labels(correlation{context: 1}))
		assert.Empty(t, c.labels(correlation{context: 2}))
		assert.Equal(t, []sampleLabel{
			{"endpoint", "/checkout"}, {"region", "eu"},
			{"profile_id", "00000000000000ab"}, {"span_name", "eu"}, {"trace_id", "0000000000000001000000000000000f"},
		}, c.labels(correlation{context: 1, span: 0xab, spanName: regionKey(c) + 1, traceHi: 1, traceLo: 15}))
	}
}

func regionKey(c contexts) uint64 {
	for k, s := range c.snapshot.Strings {
		if s == "region" {
			return uint64(k)
		}
	}
	return 0
}
