package ingest

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// A tracerLabel is the meaning of a label that tracers put on samples.
type tracerLabel uint8

const (
	noTracerLabel tracerLabel = iota
	spanLabel                 // the span that was active
	profileLabel              // the active span, in Pyroscope's older clients
	rootSpanLabel             // the first span of the trace in this process
	traceLabel
	contextLabel   // trace and span in the form of an HTTP header
	otherSpanLabel // another span than the sample's
)

// tracerLabelNames are tracers' names of labels in lower case, without prefixes and
// separators: OpenTelemetry and Pyroscope write span_id, profile_id and trace_id,
// Datadog "span id" and "local root span id", Elastic and New Relic span.id and
// trace.id, Honeycomb trace.span_id, Sentry sentry.trace_id.
var tracerLabelNames = map[string]tracerLabel{
	"spanid": spanLabel, "profileid": profileLabel,
	"rootspanid": rootSpanLabel, "localrootspanid": rootSpanLabel, "tracelocalrootspanid": rootSpanLabel,
	"traceid": traceLabel, "parentspanid": otherSpanLabel,
}

// tracerContextNames are headers, and fields of headers, that propagate a trace: W3C's,
// Zipkin's, Sentry's, Jaeger's, AWS' and Google's.
var tracerContextNames = map[string]bool{
	"traceparent": true, "b3": true, "sentrytrace": true, "ubertraceid": true, "xamzntraceid": true, "xcloudtracecontext": true,
}

// tracerNames are the prefixes that tracers put before a label's name, each with the
// names that only this tracer uses.
var tracerNames = map[string]map[string]tracerLabel{
	"otel": nil, "opentelemetry": nil, "tracing": nil, "mdc": nil, "zipkin": nil, "jaeger": nil, "sentry": nil, "lightstep": nil, "newrelic": nil, "nr": nil,
	"dynatrace": nil, "dt": nil, "skywalking": nil, "sw": nil, "gcp": nil, "logginggoogleapiscom": nil, "aws": nil, "xray": nil, "awsxray": nil,
	"dd": nil, "datadog": nil, "b3": nil, "xb3": nil,
	"pyroscope":  {"spanid": profileLabel},
	"trace":      {"parentid": otherSpanLabel},
	"honeycomb":  {"parentid": otherSpanLabel},
	"elastic":    {"transactionid": rootSpanLabel},
	"elasticapm": {"transactionid": rootSpanLabel},
}

// tracerLabelOf returns the meaning of a label by its name.
func tracerLabelOf(name string) tracerLabel {
	switch name {
	case "span_id":
		return spanLabel
	case "profile_id":
		return profileLabel
	case "trace_id":
		return traceLabel
	case "transaction.id": // Elastic's, by its schema
		return rootSpanLabel
	}
	// Names end in ID, except those of some headers.
	n := len(name)
	if n < 2 || n > 48 {
		return noTracerLabel
	}
	isID := n >= 6 && name[n-1]|0x20 == 'd' && name[n-2]|0x20 == 'i'
	switch name[n-1] {
	case 't', 'T', 'e', 'E', '3':
	default:
		if !isID {
			return noTracerLabel
		}
	}
	var buf [48]byte
	plain := buf[:0]
	for i := range n {
		switch c := name[i]; c {
		case ' ', '_', '-', '.', '/', ':':
		default:
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			plain = append(plain, c)
		}
	}
	if tracerContextNames[string(plain)] {
		return contextLabel
	}
	if !isID {
		return noTracerLabel
	}
	if kind := tracerLabelNames[string(plain)]; kind != noTracerLabel {
		return kind
	}
	for i := 2; i < len(plain)-4; i++ {
		own, ok := tracerNames[string(plain[:i])]
		if !ok {
			continue
		}
		if kind := cmp.Or(own[string(plain[i:])], tracerLabelNames[string(plain[i:])]); kind != noTracerLabel {
			return kind
		}
	}
	return noTracerLabel
}

// isOpenTelemetry reports whether a tracer's label has the form that collector/store
// reads: span_id or profile_id with 16 hexadecimal digits, or trace_id with 32.
func isOpenTelemetry(name, value string) bool {
	n := 16
	switch name {
	case "span_id", "profile_id":
	case "trace_id":
		n = 32
	default:
		return false
	}
	return len(value) == n && isHexadecimal(value)
}

func isHexadecimal(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f' || r >= 'A' && r <= 'F')
	}) < 0
}

// tracerLabels replaces tracers' labels of spans and traces, in the samples of a valid
// profile, by span_id and trace_id with hexadecimal digits as in OpenTelemetry. IDs do
// not become labels of series, since they differ for each request. Values that are not
// IDs are left out.
func tracerLabels(p *googlev1.Profile, r *Report) {
	t := tracerTexts{profile: p, indexes: map[string]int64{}}
	for _, s := range p.Sample {
		if !slices.ContainsFunc(s.Label, func(l *googlev1.Label) bool { return tracerLabelOf(p.StringTable[l.Key]) != noTracerLabel }) {
			continue
		}
		var ids [otherSpanLabel + 1]string
		kept := make([]*googlev1.Label, 0, len(s.Label))
		for _, l := range s.Label {
			name := p.StringTable[l.Key]
			kind := tracerLabelOf(name)
			if kind == noTracerLabel {
				kept = append(kept, l)
				continue
			}
			if kind == contextLabel {
				trace, span, ok := tracerContext(p.StringTable[l.Str])
				if !ok {
					r.Skip("label", name+", which has no IDs", 1)
				}
				ids[traceLabel], ids[rootSpanLabel] = cmp.Or(ids[traceLabel], trace), cmp.Or(ids[rootSpanLabel], span)
				continue
			}
			id, ok := tracerID(kind, name, p.StringTable[l.Str], l.Num)
			if !ok {
				r.Skip("label", name+", which is not an ID", 1)
			}
			ids[kind] = cmp.Or(ids[kind], id)
		}
		if id := cmp.Or(ids[spanLabel], ids[profileLabel], ids[rootSpanLabel]); id != "" {
			kept = append(kept, t.label("span_id", id))
		}
		if id := ids[traceLabel]; id != "" {
			kept = append(kept, t.label("trace_id", id))
		}
		s.Label = kept
	}
}

// tracerTexts adds strings to a profile's string table without duplicates.
type tracerTexts struct {
	profile *googlev1.Profile
	indexes map[string]int64
}

func (t *tracerTexts) index(s string) int64 {
	i, ok := t.indexes[s]
	if !ok {
		i = int64(len(t.profile.StringTable))
		t.profile.StringTable = append(t.profile.StringTable, s)
		t.indexes[s] = i
	}
	return i
}

func (t *tracerTexts) label(name, value string) *googlev1.Label {
	return &googlev1.Label{Key: t.index(name), Str: t.index(value)}
}

// tracerID reads an ID: hexadecimal digits, or, as Datadog writes it, a decimal number,
// as text or as the label's number. It returns "" for an empty text and for zeros, which
// mean no ID.
func tracerID(kind tracerLabel, name, text string, number int64) (id string, ok bool) {
	digits := 16
	if kind == traceLabel {
		digits = 32
	}
	text = strings.TrimPrefix(strings.TrimSpace(text), "0x")
	if kind == traceLabel { // AWS writes 1-5759e988-bd862e3fe1be46a994272793, others a UUID
		if plain := strings.ReplaceAll(strings.TrimPrefix(text, "1-"), "-", ""); len(plain) == 32 {
			text = plain
		}
	}
	decimal, err := strconv.ParseUint(text, 10, 64)
	isDecimal := err == nil
	if text == "" {
		decimal, isDecimal = uint64(number), true
	}
	// A number of 16 digits may be hexadecimal or decimal. Only Datadog's names have
	// spaces.
	isHex := isHexadecimal(text) && (len(text) == digits || len(text) == 16)
	switch datadog := strings.Contains(name, " ") || strings.HasPrefix(name, "dd") || strings.HasPrefix(name, "datadog"); {
	case isDecimal && (datadog || !isHex):
		text = fmt.Sprintf("%x", decimal)
	case isHexadecimal(text) && text != "" && len(text) <= digits:
	default:
		return "", false
	}
	if strings.Trim(text, "0") == "" {
		return "", true
	}
	text = strings.Repeat("0", digits-len(text)) + strings.ToLower(text)
	_, err = hex.DecodeString(text)
	return text, err == nil
}

// tracerContext reads the IDs of a trace and a span from a header's text, such as W3C's
// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01. A missing ID is "".
func tracerContext(text string) (trace, span string, ok bool) {
	fields := strings.FieldsFunc(text, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		switch {
		case trace == "" && len(f) == 8 && i+1 < len(fields) && len(fields[i+1]) == 24 && isHexadecimal(f+fields[i+1]): // AWS
			trace = f + fields[i+1]
			i++
		case trace == "" && isHexadecimal(f) && (len(f) == 32 || len(f) == 16 || len(f) > 8 && strings.Count(text, ":") == 3): // Jaeger leaves zeros out
			if len(f) > 32 {
				return "", "", false
			}
			trace = f
		case trace != "" && len(f) <= 16 && isHexadecimal(f) && (len(f) == 16 || strings.Count(text, ":") == 3):
			return paddedID(trace, 32), paddedID(f, 16), true
		case trace != "" && strings.Contains(text, "/"): // Google's span is decimal
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return "", "", false
			}
			return paddedID(trace, 32), paddedID(strconv.FormatUint(n, 16), 16), true
		}
	}
	return paddedID(trace, 32), "", trace != ""
}

// paddedID pads an ID with zeros to a number of digits. It returns "" for zeros only.
func paddedID(id string, digits int) string {
	if strings.Trim(id, "0") == "" {
		return ""
	}
	return strings.Repeat("0", max(digits-len(id), 0)) + strings.ToLower(id)
}

// tidyLabels does for a profile that was converted from another format what Pprof does:
// it normalises tracers' labels and bounds the series.
func tidyLabels(p *googlev1.Profile, l Limits) {
	labelled, tracer := 0, false
	for _, s := range p.Sample {
		if len(s.Label) > 0 {
			labelled++
		}
		for _, label := range s.Label {
			name := p.StringTable[label.Key]
			tracer = tracer || tracerLabelOf(name) != noTracerLabel && !isOpenTelemetry(name, p.StringTable[label.Str])
		}
	}
	if tracer {
		tracerLabels(p, l.Report)
	}
	boundSeries(p, labelled, l)
}

// boundSeries bounds the distinct label sets of a valid profile's samples, each of which
// is a series, by Limits.MaxSeries. While there are more, it leaves out the label with
// the most values, which identifies requests rather than services. n is the number of
// samples with labels.
func boundSeries(p *googlev1.Profile, n int, l Limits) {
	for exceeds(n, l.MaxSeries) && exceeds(labelSets(p, l.MaxSeries), l.MaxSeries) {
		values := map[string]map[string]struct{}{}
		for _, s := range p.Sample {
			for _, label := range s.Label {
				name := p.StringTable[label.Key]
				if label.Str == 0 || tracerLabelOf(name) != noTracerLabel {
					continue
				}
				if values[name] == nil {
					values[name] = map[string]struct{}{}
				}
				values[name][p.StringTable[label.Str]] = struct{}{}
			}
		}
		most := ""
		for name, of := range values {
			if len(of) > len(values[most]) || len(of) == len(values[most]) && name < most {
				most = name
			}
		}
		for _, s := range p.Sample {
			s.Label = slices.DeleteFunc(s.Label, func(label *googlev1.Label) bool { return p.StringTable[label.Key] == most })
		}
		l.Report.Skip("label", fmt.Sprintf("%s, which has more values than a push may have series, %d", most, l.MaxSeries), len(values[most]))
	}
}

// labelSets counts the distinct label sets of samples. It stops above most.
func labelSets(p *googlev1.Profile, most int) int {
	sets := map[string]struct{}{}
	var pairs []string
	for _, s := range p.Sample {
		pairs = pairs[:0]
		for _, label := range s.Label {
			if name := p.StringTable[label.Key]; label.Str != 0 && tracerLabelOf(name) == noTracerLabel {
				pairs = append(pairs, name+"\x00"+p.StringTable[label.Str])
			}
		}
		slices.Sort(pairs)
		sets[strings.Join(pairs, "\x00")] = struct{}{}
		if len(sets) > most {
			break
		}
	}
	return len(sets)
}
