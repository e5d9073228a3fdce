package ingest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"runtime/pprof"
	"strings"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// sound returns a small profile that Pprof accepts.
func sound() *googlev1.Profile {
	return &googlev1.Profile{
		StringTable: []string{"", "cpu", "nanoseconds", "main", "main.go", "app", "span_id", "9a517183f26a089d"},
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
		PeriodType:  &googlev1.ValueType{Type: 1, Unit: 2},
		Mapping:     []*googlev1.Mapping{{Id: 1, Filename: 5}},
		Function:    []*googlev1.Function{{Id: 7, Name: 3, Filename: 4}},
		Location:    []*googlev1.Location{{Id: 1, MappingId: 1, Line: []*googlev1.Line{{FunctionId: 7, Line: 12}}}, {Id: 2, Address: 0xfe}},
		Sample: []*googlev1.Sample{
			{LocationId: []uint64{2, 1}, Value: []int64{40}},
			{LocationId: []uint64{1}, Value: []int64{2}, Label: []*googlev1.Label{{Key: 6, Str: 7}}},
		},
		TimeNanos: 1, DurationNanos: 2, Period: 3,
	}
}

// check checks a profile as Pprof does before it corrects anything.
func check(p *googlev1.Profile, l Limits) error {
	c := checker{profile: p, limits: l}
	return c.check()
}

func encode(t testing.TB, p *googlev1.Profile) []byte {
	t.Helper()
	b, err := p.MarshalVT()
	require.NoError(t, err)
	return b
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func zstandard(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(b, nil)
}

func TestPprofReadsEveryCompression(t *testing.T) {
	want := sound()
	raw := encode(t, want)
	for name, b := range map[string][]byte{"plain": raw, "gzip": gzipped(t, raw), "zstd": zstandard(t, raw)} {
		got, size, err := Pprof(b, Limits{MaxProfileBytes: int64(len(raw))})
		require.NoError(t, err, name)
		require.Equal(t, len(raw), size)
		require.True(t, want.EqualVT(got), name)
	}
}

func TestPprofReadsWhatTheRuntimeWrites(t *testing.T) {
	var buf bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&buf, 0))
	p, _, err := Pprof(buf.Bytes(), Limits{})
	require.NoError(t, err)
	require.NotEmpty(t, p.Sample)
}

// What makes a profile meaningless is refused, and names the field at fault.
func TestPprofNamesTheFieldAtFault(t *testing.T) {
	for name, tc := range map[string]struct {
		breakIt func(*googlev1.Profile)
		want    string
	}{
		"no sample type":      {func(p *googlev1.Profile) { p.SampleType = nil }, "sample_type: is missing"},
		"unnamed sample type": {func(p *googlev1.Profile) { p.SampleType[0].Type = 0 }, "sample_type[0].type: is empty"},
		"no strings":          {func(p *googlev1.Profile) { p.StringTable = nil }, "sample_type[0].type: is empty"},
		"no sample that fits": {func(p *googlev1.Profile) { p.SampleType = append(p.SampleType, p.SampleType[0].CloneVT()) },
			"sample: none of 2 is usable: skipped sample with more or fewer values than there are sample types (2)"},
		"negative values": {func(p *googlev1.Profile) { p.Sample[1].Value[0] = -40 },
			`sample.value[0]: the negative values of "cpu" are -40 in all, the others 40: a comparison (as pprof -base gives) is not a profile`},
		"base of a comparison": {func(p *googlev1.Profile) {
			p.StringTable = append(p.StringTable, "pprof::base", "true")
			p.Sample[1].Value[0], p.Sample[1].Label = -1, []*googlev1.Label{{Key: 8, Str: 9}}
		}, "sample[1]: is of the base of a comparison (pprof -diff_base)"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sound()
			tc.breakIt(p)
			_, _, err := Pprof(encode(t, p), Limits{})
			require.ErrorContains(t, err, "pprof: "+tc.want)
		})
	}
}

func TestPprofNamesTheOffset(t *testing.T) {
	raw := encode(t, sound())
	zipped := gzipped(t, raw)
	packed := protowire.AppendTag(nil, 2, protowire.BytesType)
	packed = protowire.AppendBytes(packed, []byte{1<<3 | 2, 2, 0xff, 0xff})
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"nothing":          {nil, "pprof: the profile is empty"},
		"text":             {[]byte("not a profile"), "pprof: "},
		"JSON":             {[]byte(`{"a":1}`), "pprof: this is JSON; the only JSON format that is read is speedscope's (format=speedscope)"},
		"HTML":             {[]byte("<!DOCTYPE html><html></html>"), "pprof: this is an HTML page"},
		"JFR":              {[]byte("FLR\x00\x00\x02"), "pprof: this is a recording of Java (format=jfr)"},
		"cut":              {raw[:len(raw)-1], "period: unexpected EOF, at byte "},
		"cut gzip":         {zipped[:len(zipped)/2], "pprof: gzip: unexpected EOF, at byte "},
		"gzip head":        {[]byte{0x1f, 0x8b, 1}, "pprof: gzip: "},
		"broken gzip":      {append(bytes.Clone(zipped[:20]), bytes.Repeat([]byte{0xff}, 40)...), "pprof: gzip: "},
		"broken zstd":      {append([]byte{0x28, 0xb5, 0x2f, 0xfd}, "nonsense"...), "pprof: zstd: "},
		"wrong wire type":  {protowire.AppendVarint(protowire.AppendTag(nil, 6, protowire.VarintType), 1), "string_table: wire type 0, want 2, at byte 0"},
		"cut packed value": {packed, "sample[0].location_id: unexpected EOF, at byte 4"},
		"location as text": {protowire.AppendString(protowire.AppendTag(nil, 9, protowire.BytesType), "x"), "time_nanos: wire type 2, want 0, at byte 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Pprof(tc.in, Limits{})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestPprofNamesTheLimit(t *testing.T) {
	raw := encode(t, sound())
	for limit, l := range map[string]Limits{
		"limits.max_samples": {MaxSamples: 1},
		"limits.max_symbols": {MaxSymbols: 13},
	} {
		_, _, err := Pprof(raw, l)
		require.ErrorContains(t, err, limit)
	}
	over := Limits{MaxProfileBytes: int64(len(raw)) - 1}
	for _, b := range [][]byte{raw, gzipped(t, raw), zstandard(t, raw)} {
		_, _, err := Pprof(b, over)
		require.ErrorContains(t, err, "limits.max_profile_bytes")
	}
	// 14 symbols: 1 sample type, 1 mapping, 1 function, 2 locations, 1 line, 8 strings.
	_, _, err := Pprof(raw, Limits{MaxSamples: 2, MaxSymbols: 14, MaxStackDepth: 2, MaxSymbolBytes: 16, MaxLabels: 1})
	require.NoError(t, err)
}

// A small body must not unfold into a large one in memory.
func TestPprofRefusesBombs(t *testing.T) {
	l := Limits{MaxProfileBytes: 1 << 20, MaxSamples: 1000, MaxSymbols: 1000, MaxLabels: 30}
	empty := func(n int, num protowire.Number) []byte {
		return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), nil), n)
	}
	for name, b := range map[string][]byte{
		"zeros":     gzipped(t, make([]byte, 64<<20)),
		"types":     gzipped(t, empty(100_000, 1)),
		"samples":   gzipped(t, empty(100_000, 2)),
		"locations": gzipped(t, empty(100_000, 4)),
		"lines":     gzipped(t, protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), empty(100_000, 4))),
		"labels":    gzipped(t, protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), empty(100_000, 3))),
	} {
		_, _, err := Pprof(b, l)
		require.ErrorContains(t, err, "limits.max_", name)
	}
}

func TestLabelIDsMayBeSparse(t *testing.T) {
	var s ids
	for i, id := range []uint64{1, 2, 9, 3, 1 << 63} {
		require.NoError(t, s.add(id, "location", i))
	}
	for _, id := range []uint64{1, 2, 3, 9, 1 << 63} {
		require.True(t, s.has(id), id)
		require.Error(t, s.add(id, "location", 5))
	}
	for _, id := range []uint64{0, 4, 8, 1<<64 - 1} {
		require.False(t, s.has(id), id)
	}
	require.True(t, strings.Contains(s.add(0, "location", 5).Error(), "location[5].id: is 0"))
}

// FuzzPprof checks that decoding never panics, that what is accepted decodes as
// scanned, and that it survives another round.
func FuzzPprof(f *testing.F) {
	f.Add(encode(f, sound()))
	f.Add(gzipped(f, encode(f, sound())))
	f.Add(zstandard(f, encode(f, sound())))
	f.Add([]byte{0x1f, 0x8b})
	for _, breakIt := range flaws {
		p := sound()
		breakIt.breakIt(p)
		f.Add(encode(f, p))
	}
	for _, text := range legacyProfiles {
		f.Add([]byte(text))
	}
	f.Add(oldCPU(8, binary.LittleEndian))
	l := Limits{MaxProfileBytes: 1 << 20, MaxSamples: 1000, MaxSymbols: 10_000, MaxStackDepth: 100, MaxLabels: 10, MaxSymbolBytes: 1000}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _, err := Pprof(b, l)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "pprof: ") {
				t.Fatalf("error without context: %v", err)
			}
			return
		}
		if err := check(p, Limits{}); err != nil {
			t.Fatalf("corrected, but: %v", err)
		}
		r := &Report{}
		again, _, err := Pprof(encode(t, p), Limits{Report: r})
		if err != nil {
			t.Fatalf("accepted once, refused re-encoded: %v", err)
		}
		if len(again.Sample) != len(p.Sample) {
			t.Fatalf("%d samples became %d", len(p.Sample), len(again.Sample))
		}
	})
}
