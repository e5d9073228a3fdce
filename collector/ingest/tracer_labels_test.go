package ingest

import (
	"fmt"
	"strconv"
	"strings"
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
		"no ID":                   {[]testLabel{{"span id", "abc-def", 0}}, "", "skipped label span id, which is not an ID (1)"},
		"too long":                {[]testLabel{{"span id", trace, 0}}, "", "skipped label span id, which is not an ID (1)"},
		"several":                 {[]testLabel{{"span_id", hex(span), 0}, {"span id", decimal(root), 0}}, " span_id=" + hex(span), ""},
		"Sentry":                  {[]testLabel{{"sentry.trace_id", trace, 0}, {"sentry-span-id", hex(span), 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"Elastic":                 {[]testLabel{{"trace.id", trace, 0}, {"transaction.id", hex(root), 0}}, " span_id=" + hex(root) + " trace_id=" + trace, ""},
		"Honeycomb":               {[]testLabel{{"trace.trace_id", trace, 0}, {"trace.span_id", hex(span), 0}, {"trace.parent_id", hex(root), 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"Zipkin":                  {[]testLabel{{"X-B3-TraceId", trace, 0}, {"X-B3-SpanId", hex(span), 0}, {"X-B3-ParentSpanId", hex(root), 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"Google's log fields":     {[]testLabel{{"logging.googleapis.com/spanId", hex(span), 0}}, " span_id=" + hex(span), ""},
		"AWS":                     {[]testLabel{{"xray_trace_id", "1-4bf92f35-77b34da6a3ce929d0e0e4736", 0}}, " trace_id=" + trace, ""},
		"a UUID":                  {[]testLabel{{"trace_id", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", 0}}, " trace_id=" + trace, ""},
		"W3C's header":            {[]testLabel{{"traceparent", "00-" + trace + "-" + hex(span) + "-01", 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"Sentry's header":         {[]testLabel{{"sentry-trace", trace + "-" + hex(span) + "-1", 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"Zipkin's header":         {[]testLabel{{"b3", hex(root) + "-" + hex(span) + "-1", 0}}, " span_id=" + hex(span) + " trace_id=0000000000000000" + hex(root), ""},
		"Jaeger's header":         {[]testLabel{{"uber-trace-id", trace[1:] + ":f067aa0ba902b7:0:1", 0}}, " span_id=00f067aa0ba902b7 trace_id=0" + trace[1:], ""},
		"Google's header":         {[]testLabel{{"x-cloud-trace-context", trace + "/" + decimal(span) + ";o=1", 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"AWS' header":             {[]testLabel{{"x-amzn-trace-id", "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=" + hex(span) + ";Sampled=1", 0}}, " span_id=" + hex(span) + " trace_id=" + trace, ""},
		"a header without IDs":    {[]testLabel{{"traceparent", "-", 0}}, "", "skipped label traceparent, which has no IDs (1)"},
		"names that look alike":   {[]testLabel{{"add_span_kind", "x", 0}, {"paid", "y", 0}, {"transaction_id", "z", 0}}, " add_span_kind=x paid=y transaction_id=z", ""},
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
		299: "skipped label request, which has more values than a push may have series, 299 (300)",
		2:   "skipped label request, which has more values than a push may have series, 2 (300)",
		1:   "skipped label request, which has more values than a push may have series, 1 (300); skipped label zone, which has more values than a push may have series, 1 (2)",
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

// Attributes of OTLP's samples are labels as those of pprof are.
func TestOTLPReadsTracersLabelsAndBoundsSeries(t *testing.T) {
	var samples, attributes []string
	for i := range 200 {
		samples = append(samples, fmt.Sprintf(`{"values":["1"],"attributeIndices":[%d,%d]}`, 1+2*i, 2+2*i))
		attributes = append(attributes, fmt.Sprintf(`{"keyStrindex":3,"value":{"stringValue":"%d"}},{"keyStrindex":4,"value":{"stringValue":"r%d"}}`, i+1, i))
	}
	body := `{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"sampleType":{"typeStrindex":1,"unitStrindex":2},"timeUnixNano":"1700000000000000000","samples":[` +
		strings.Join(samples, ",") + `]}]}]}],"dictionary":{"stringTable":["","cpu","nanoseconds","dd.span_id","request"],"stackTable":[{}],"attributeTable":[{},` +
		strings.Join(attributes, ",") + `]}}`
	r := &Report{}
	ps, err := OTLP([]byte(body), true, exportedAt, Limits{MaxSeries: 100, Report: r})
	require.NoError(t, err)
	require.Len(t, ps, 1)
	require.Len(t, ps[0].Pprof.Sample, 200)
	for i, s := range ps[0].Pprof.Sample {
		require.Len(t, s.Label, 1)
		require.Equal(t, "span_id", ps[0].Pprof.StringTable[s.Label[0].Key])
		require.Equal(t, fmt.Sprintf("%016x", i+1), ps[0].Pprof.StringTable[s.Label[0].Str])
	}
	require.Equal(t, "skipped label request, which has more values than a push may have series, 100 (200)", r.String())
}

func TestTidyLabels(t *testing.T) {
	p := labelled(testLabel{"trace endpoint", "GET /", 0}, testLabel{"dd.trace_id", "17", 0})
	tidyLabels(p, Limits{})
	require.Equal(t, []string{"main [2] trace endpoint=GET / trace_id=00000000000000000000000000000011"}, shownStacks(p))
}
