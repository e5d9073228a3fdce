package ingest

import (
	"fmt"
	"strconv"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// A testLabel is given as text, or as a number where the text is empty.
type testLabel struct {
	name, text string
	number     int64
}

func labelled(ls ...testLabel) *googlev1.Profile {
	p := sound()
	p.Sample = p.Sample[1:]
	p.Sample[0].Label = nil
	for _, l := range ls {
		to := &googlev1.Label{Key: int64(len(p.StringTable)), Num: l.number}
		p.StringTable = append(p.StringTable, l.name)
		if l.text != "" {
			to.Str = int64(len(p.StringTable))
			p.StringTable = append(p.StringTable, l.text)
		}
		p.Sample[0].Label = append(p.Sample[0].Label, to)
	}
	return p
}

func TestPprofReadsTracersLabels(t *testing.T) {
	const (
		span  = uint64(3763807687390000123)
		root  = uint64(5832010910514730000)
		trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	)
	hex := func(id uint64) string { return fmt.Sprintf("%016x", id) }
	decimal := func(id uint64) string { return strconv.FormatUint(id, 10) }
	for name, tc := range map[string]struct {
		in   []testLabel
		want string
		note string
	}{
		"Datadog": {[]testLabel{{"local root span id", decimal(root), 0}, {"span id", decimal(span), 0}, {"trace endpoint", "GET /", 0}},
			" trace endpoint=GET / span_id=" + hex(span), ""},
		"Datadog's root":          {[]testLabel{{"local root span id", decimal(root), 0}}, " span_id=" + hex(root), ""},
		"Datadog's numbers":       {[]testLabel{{"span id", "", int64(span)}, {"trace id", "", -1}}, " span_id=" + hex(span) + " trace_id=0000000000000000ffffffffffffffff", ""},
		"Datadog, 16 digits":      {[]testLabel{{"span id", "1234567890123456", 0}}, " span_id=000462d53c8abac0", ""},
		"Datadog's 128 bits":      {[]testLabel{{"trace id", trace, 0}}, " trace_id=" + trace, ""},
		"OpenTelemetry":           {[]testLabel{{"span_id", hex(span), 0}, {"trace_id", trace, 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"OpenTelemetry's names":   {[]testLabel{{"spanID", hex(span), 0}, {"trace.id", trace, 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"16 digits":               {[]testLabel{{"spanId", "1234567890123456", 0}}, " span_id=1234567890123456", ""},
		"upper case":              {[]testLabel{{"SPAN-ID", "00F067AA0BA902B7", 0}}, " span_id=00f067aa0ba902b7", ""},
		"Pyroscope":               {[]testLabel{{"pyroscope.profile.id", hex(span), 0}}, " span_id=" + hex(span), ""},
		"Pyroscope's older":       {[]testLabel{{"profile_id", hex(span), 0}}, " profile_id=" + hex(span), ""},
		"a decimal span_id":       {[]testLabel{{"span_id", decimal(span), 0}}, " span_id=" + hex(span), ""},
		"no span":                 {[]testLabel{{"span id", "0", 0}, {"trace_id", "00000000000000000000000000000000", 0}}, "", ""},
		"nothing":                 {[]testLabel{{"span id", "", 0}}, "", ""},
		"no ID":                   {[]testLabel{{"span id", "abc-def", 0}}, "", "skipped label span id, which is no ID (1)"},
		"too long":                {[]testLabel{{"span id", trace, 0}}, "", "skipped label span id, which is no ID (1)"},
		"several":                 {[]testLabel{{"span_id", hex(span), 0}, {"span id", decimal(root), 0}}, " span_id=" + hex(span), ""},
		"a parent":                {[]testLabel{{"parent span id", decimal(root), 0}}, "", ""},
		"a label of another kind": {[]testLabel{{"customer_id", "17", 0}, {"id", "18", 0}}, " customer_id=17 id=18", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Report{}
			p, _, err := Pprof(encode(t, labelled(tc.in...)), Limits{Report: r})
			require.NoError(t, err)
			require.Equal(t, []string{"main [2]" + tc.want}, shownStacks(p))
			require.Equal(t, tc.note, r.String())
		})
	}
}

// A label with a value for each request makes no series, however many samples
// have it; others stay.
func TestPprofBoundsSeries(t *testing.T) {
	p := sound()
	p.StringTable = append(p.StringTable, "request", "zone", "a", "b")
	p.Sample = nil
	for i := range 300 {
		p.StringTable = append(p.StringTable, fmt.Sprint("r", i))
		p.Sample = append(p.Sample, &googlev1.Sample{LocationId: []uint64{1}, Value: []int64{1}, Label: []*googlev1.Label{
			{Key: 8, Str: int64(12 + i)}, {Key: 9, Str: int64(10 + i%2)},
		}})
	}
	for most, want := range map[int]string{
		0:   "",
		300: "",
		299: "skipped label request, of more values than a push may have series, 299 (300)",
		2:   "skipped label request, of more values than a push may have series, 2 (300)",
		1:   "skipped label request, of more values than a push may have series, 1 (300); skipped label zone, of more values than a push may have series, 1 (2)",
	} {
		r := &Report{}
		got, _, err := Pprof(encode(t, p), Limits{MaxSeries: most, Report: r})
		require.NoError(t, err)
		require.Equal(t, want, r.String())
		require.Len(t, got.Sample, 300)
		sets := map[string]bool{}
		for _, s := range shownStacks(got) {
			sets[s] = true
		}
		if most > 0 {
			require.LessOrEqual(t, len(sets), most)
		}
	}
}
