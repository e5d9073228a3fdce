package query

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend/gtime"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/timeexpr"
)

const (
	// alertPad is how far the window reaches before an alert's start and after its end,
	// since the cause of an alert precedes it.
	alertPad = 10 * time.Minute
	// alertRange is the length of the window if the alert's start is unknown.
	alertRange = time.Hour
	// pointPad is how far the window reaches to both sides of a point of a chart.
	pointPad = time.Minute
)

// A Drilldown is the target of an alert's link: a query and its time range.
type Drilldown struct {
	From, To      string // as in Grafana's URLs: Unix milliseconds, or relative such as now-1h
	ProfileTypeID string
	LabelSelector string
	Notice        string   // for the user: what was left out and why
	LeftOut       []string // names of labels that were left out
}

// reserved are the parameters of a drilldown other than labels.
var reserved = []string{"startsAt", "endsAt", "around", "from", "to", "pad", "step", "labelSelector", "profileTypeId", "orgId"}

// Drilldown finds the query for an alert, or for a point of a chart. The parameters are
// its labels, and:
//
//	startsAt, endsAt  when the alert fired, as alertTime reads it;
//	                  an end of zero means that it still fires
//	around            the time of the point, instead of those
//	from, to          the time range, instead of the one made of those
//	pad               how far the range reaches beyond startsAt and endsAt, or around
//	step              instead of pad: the range is the step that ends around the point
//	labelSelector     matchers that the profiles have to meet besides those of labels
//	profileTypeId     instead of CPU time
//
// Labels that the profiles of that time do not have are left out, and so are values
// without profiles. The notice names them.
func (r *Runner) Drilldown(ctx context.Context, params url.Values) (Drilldown, error) {
	w, err := r.window(params)
	if err != nil {
		return Drilldown{}, err
	}
	d := Drilldown{From: w.from, To: w.to}
	if d.ProfileTypeID, err = r.drilldownType(ctx, params.Get("profileTypeId"), w); err != nil {
		return Drilldown{}, err
	}
	alert := make(map[string]string)
	for name := range params {
		if value := params.Get(name); !slices.Contains(reserved, name) && value != "" {
			alert[name] = value
		}
	}
	known, err := r.Client.LabelNames(ctx, "{}", w.start, w.end)
	if err != nil {
		return Drilldown{}, err
	}
	s := &labelSearch{client: r.Client, window: w, known: known, mapping: r.LabelMapping}
	if text := params.Get("labelSelector"); text != "" {
		if s.kept, err = profile.ParseSelector(text); err != nil {
			return Drilldown{}, client.Invalidf("labelSelector", "%w", err)
		}
	}
	if err := s.match(ctx, alert); err != nil {
		return Drilldown{}, err
	}
	d.LabelSelector = profile.FormatSelector(s.kept)
	d.LeftOut = s.leftOut
	d.Notice = s.notice(alert["alertname"])
	return d, nil
}

// A window is a time range, for URLs and for the server.
type window struct {
	from, to   string
	start, end int64 // Unix milliseconds
}

func (r *Runner) window(params url.Values) (window, error) {
	now := r.now()
	var times [2]time.Time
	for i, name := range []string{"startsAt", "endsAt"} {
		var err error
		if times[i], err = alertTime(params.Get(name), now); err != nil {
			return window{}, client.Invalidf(name, "%w", err)
		}
	}
	starts, ends := times[0], times[1]
	pad := alertPad
	around, err := alertTime(params.Get("around"), now)
	switch {
	case err != nil:
		return window{}, client.Invalidf("around", "%w", err)
	case around.IsZero():
	case around.After(now):
		return window{}, client.Invalidf("around", "%s has not come yet", around.UTC().Format(time.RFC3339))
	case !starts.IsZero() || !ends.IsZero():
		return window{}, client.Invalidf("around", "give it, or startsAt and endsAt")
	default:
		starts, ends, pad = around, around, pointPad
	}
	if s := params.Get("pad"); s != "" {
		var err error
		if pad, err = gtime.ParseDuration(s); err != nil || pad < 0 {
			return window{}, client.Invalidf("pad", "%q is not a duration such as 10m", s)
		}
	}
	if s := params.Get("step"); s != "" {
		step, err := gtime.ParseDuration(s)
		switch {
		case err != nil || step <= 0:
			return window{}, client.Invalidf("step", "%q is not a duration such as 15s", s)
		case around.IsZero():
			return window{}, client.Invalidf("step", "give around too, the end of the step")
		}
		starts, pad = around.Add(-step), 0
	}
	if ends.IsZero() || ends.Before(starts) || ends.After(now) {
		ends = now
	}
	if around.IsZero() && (starts.IsZero() || !starts.Before(ends)) {
		starts = ends.Add(-alertRange)
	}
	to := ends.Add(pad)
	if to.After(now) {
		to = now
	}
	w := window{
		from: cmp.Or(params.Get("from"), millis(starts.Add(-pad))),
		to:   cmp.Or(params.Get("to"), millis(to)),
	}
	start, end, err := ParseRange(w.from, w.to, now)
	if err != nil {
		return window{}, err
	}
	w.start, w.end = start.UnixMilli(), end.UnixMilli()
	// Grafana's URLs have fewer forms of times than ParseRange.
	if !strings.HasPrefix(w.from, "now") {
		w.from = millis(start)
	}
	if !strings.HasPrefix(w.to, "now") {
		w.to = millis(end)
	}
	return w, nil
}

// millis writes a time as Grafana's URLs do, in Unix milliseconds.
func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// ParseRange reads a time range in the forms of timeexpr.Parse, which include those of
// Grafana's URLs. Errors name from or to.
func ParseRange(from, to string, now time.Time) (start, end time.Time, err error) {
	return parseRange("from", "to", from, to, now)
}

// parseRange is ParseRange for fields of other names.
func parseRange(fromField, toField, from, to string, now time.Time) (start, end time.Time, err error) {
	if start, err = timeexpr.Parse(from, now, false); err != nil {
		return start, end, client.Invalidf(fromField, "%w", err)
	}
	if end, err = timeexpr.Parse(to, now, true); err != nil {
		return start, end, client.Invalidf(toField, "%w", err)
	}
	return start, end, nil
}

// alertTime reads a time of an alert in the forms of timeexpr.Parse, or as a number with
// an exponent, as Prometheus prints them. An empty text, the zero time of Grafana and
// Alertmanager, and times before 1970 give the zero time.
func alertTime(s string, now time.Time) (time.Time, error) {
	if s == "" || strings.HasPrefix(s, "0001-01-01T") {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		switch {
		case n <= 0:
			return time.Time{}, nil
		case strings.ContainsAny(s, "eE") && n < 1e18:
			s = strconv.FormatFloat(n, 'f', -1, 64)
		}
	}
	t, err := timeexpr.Parse(s, now, false)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, err
	}
	return t, nil
}

// cpuTime is the profile type for an alert that names none.
var cpuTime = profile.Type{Name: "process_cpu", SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds"}

// drilldownType returns the type of the parameters, else the runner's default, else CPU
// time, else any type that the server has in the window.
func (r *Runner) drilldownType(ctx context.Context, id string, w window) (string, error) {
	if id != "" {
		t, err := profile.ParseType(id)
		if err != nil {
			return "", client.Invalidf("profileTypeId", "%w", err)
		}
		return t.String(), nil
	}
	types, err := r.Client.ProfileTypes(ctx, w.start, w.end)
	if err != nil {
		return "", err
	}
	preferred := cmp.Or(r.DefaultType, cpuTime)
	for _, t := range []profile.Type{preferred, cpuTime} {
		if len(types) == 0 || slices.Contains(types, t) {
			return t.String(), nil
		}
	}
	for _, t := range types {
		if t.SampleType == cpuTime.SampleType {
			return t.String(), nil
		}
	}
	return types[0].String(), nil
}

// labelSearch finds the labels of an alert that profiles have.
type labelSearch struct {
	client *client.Client
	window window
	known  []string
	// mapping is tried before renames.
	mapping []LabelMapping

	kept    []*labels.Matcher
	leftOut []string
	reasons []string
}

// A rename maps a label of metrics to the label of profiles with the same meaning.
type rename struct {
	from, to string
	value    func(string) string // nil: unchanged
}

// renames are tried in this order, each only if there is no matcher for its target yet.
var renames = []rename{
	{"service", "service_name", nil},
	{"job", "service_name", nil},
	{"job", "service_name", afterSlash}, // Prometheus operator: namespace/service
	{"app", "service_name", nil},
	{"deployment", "service_name", nil},
	{"statefulset", "service_name", nil},
	{"daemonset", "service_name", nil},
	{"workload", "service_name", nil},
	{"groupname", "service_name", nil}, // process-exporter
	{"groupname", "comm", nil},
	{"instance", "node", beforeColon}, // node exporter: host:port
}

// renames are those of the settings, then the known ones.
func (s *labelSearch) renames() []rename {
	all := make([]rename, 0, len(s.mapping)+len(renames))
	for _, m := range s.mapping {
		all = append(all, rename{m.Metrics, m.Profiles, nil})
	}
	return append(all, renames...)
}

func afterSlash(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

func beforeColon(s string) string {
	host, _, _ := strings.Cut(s, ":")
	return host
}

// first are the most significant labels, which are tried before the others.
var first = []string{"service_name", "cluster", "namespace", "pod", "container", "node"}

func (s *labelSearch) match(ctx context.Context, alert map[string]string) error {
	names := slices.SortedFunc(maps.Keys(alert), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	var unmatched []string
	for _, name := range names {
		ok, err := s.keep(ctx, name, alert[name])
		if err != nil {
			return err
		}
		if !ok && name != "alertname" {
			unmatched = append(unmatched, name)
		}
	}
	for _, rn := range s.renames() {
		value, given := alert[rn.from]
		if !given || !slices.Contains(unmatched, rn.from) || s.has(rn.to) {
			continue
		}
		if rn.value != nil {
			value = rn.value(value)
		}
		ok, err := s.keep(ctx, rn.to, value)
		if err != nil {
			return err
		}
		if ok {
			s.reasons = append(s.reasons, fmt.Sprintf("%s is taken as %s=%q", rn.from, rn.to, value))
			unmatched = slices.DeleteFunc(unmatched, func(n string) bool { return n == rn.from })
		}
	}
	for _, name := range unmatched {
		s.leftOut = append(s.leftOut, name)
		if slices.Contains(s.known, name) {
			s.reasons = append(s.reasons, fmt.Sprintf("left out %s=%q (no profiles under it)", name, alert[name]))
		} else {
			s.reasons = append(s.reasons, fmt.Sprintf("left out %s (profiles have no such label)", name))
		}
	}
	return nil
}

func rank(name string) int {
	if i := slices.Index(first, name); i >= 0 {
		return i
	}
	return len(first)
}

func (s *labelSearch) has(name string) bool {
	return slices.ContainsFunc(s.kept, func(m *labels.Matcher) bool { return m.Name == name })
}

// keep adds a matcher if there are profiles that match it and all matchers so far.
func (s *labelSearch) keep(ctx context.Context, name, value string) (bool, error) {
	if !slices.Contains(s.known, name) {
		return false, nil
	}
	values, err := s.client.LabelValues(ctx, name, profile.FormatSelector(s.kept), s.window.start, s.window.end)
	if err != nil {
		return false, err
	}
	if !slices.Contains(values, value) {
		return false, nil
	}
	m, err := labels.NewMatcher(labels.MatchEqual, name, value)
	if err != nil {
		return false, client.Invalidf(name, "%w", err)
	}
	s.kept = append(s.kept, m)
	return true, nil
}

func (s *labelSearch) notice(alertname string) string {
	if len(s.reasons) == 0 {
		return ""
	}
	text := strings.Join(s.reasons, "; ") + "."
	if alertname != "" {
		text = fmt.Sprintf("From the alert %s: %s", alertname, text)
	} else {
		text = "From the alert's labels: " + text
	}
	return text
}
