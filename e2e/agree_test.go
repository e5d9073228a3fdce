package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	pprof "github.com/google/pprof/profile"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/pkg/profile"
)

const (
	// chartStep is the step of the charts that are compared.
	chartStep = 15 * time.Second
	// Shares by which answers about the same profiles may differ: those that give
	// each function its value, and those that cut flows into steps.
	exactly, nearly = 0.001, 0.02
)

// An agreement is about all profiles of one type and service over a time range,
// asked for in every way there is. Ranges are [from, to), multiples of chartStep.
type agreement struct {
	address, typeID, selector string
	from, to                  time.Time
	typ                       profile.Type
	client                    querierv1connect.QuerierServiceClient
}

// agrees checks of every profile type that services have sent since a time that
// the chart, the flame graph, the table, the difference with itself and the
// exports say the same. It waits until charts show what was sent until now.
func agrees(t *testing.T, address string, since time.Time, services ...string) {
	t.Helper()
	// Profiles of recordings may have begun before they were pushed.
	from, to := since.Add(-time.Minute).Truncate(chartStep), time.Now().Truncate(chartStep).Add(chartStep)
	time.Sleep(time.Until(to.Add(chartStep + time.Second)))
	client := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	for _, service := range services {
		selector := fmt.Sprintf("{service_name=%q}", service)
		types := typesOfService(t, client, selector, from, to)
		if len(types) == 0 {
			t.Errorf("%s has no profile type from %s to %s", service, from, to)
		}
		for _, id := range types {
			typ, err := profile.ParseType(id)
			if err != nil {
				t.Errorf("%s lists %q: %v", service, id, err)
				continue
			}
			a := agreement{address, id, selector, from, to, typ, client}
			t.Run(service+" "+typ.Name+" "+typ.SampleType, a.check)
		}
	}
}

func typesOfService(t *testing.T, client querierv1connect.QuerierServiceClient, selector string, from, to time.Time) []string {
	t.Helper()
	resp, err := client.Series(t.Context(), connect.NewRequest(&querierv1.SeriesRequest{
		Matchers: []string{selector}, LabelNames: []string{"__profile_type__"}, Start: from.UnixMilli(), End: to.UnixMilli(),
	}))
	if err != nil {
		t.Fatalf("types of %s: %v", selector, err)
	}
	types := map[string]bool{}
	for _, s := range resp.Msg.LabelsSet {
		for _, l := range s.Labels {
			types[l.Value] = true
		}
	}
	return slices.Sorted(maps.Keys(types))
}

// state reports whether values of the type describe an instant, so that they are
// averaged over time, rather than added up. It is written down here anew, to be
// compared with what the programs say.
func (a agreement) state() bool {
	name := a.typ.SampleType
	return strings.HasPrefix(name, "inuse_") || name == "goroutine" || name == "live"
}

func (a agreement) check(t *testing.T) {
	points, unit := a.panelChart(t)
	if len(points) == 0 {
		t.Fatal("the chart has no points")
	}
	api := a.apiChart(t, chartStep)
	if a.state() {
		// What it is on average is asked of the time in which it was there.
		times := slices.Sorted(maps.Keys(api))
		if len(times) == 0 {
			t.Fatal("the chart of the API has no points")
		}
		a.from, a.to = time.UnixMilli(times[0]).Add(-chartStep), time.UnixMilli(times[len(times)-1])
	}

	tree, err := mergedTree(t.Context(), a.address, a.typeID, a.selector, a.from.UnixMilli(), a.to.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	total := float64(tree.Nodes[0].Total)
	t.Logf("%s: %.0f", a.typeID, total)
	if total <= 0 {
		t.Fatal("the flame graph is empty")
	}
	same := func(what string, got, within float64) {
		t.Helper()
		if math.Abs(got-total) > within*total+1 {
			t.Errorf("%s: %.2f, but the flame graph has %.2f (%+.2f %%)", what, got, total, 100*(got-total)/total)
		}
	}

	divisor := 1.0 // of a point: what is shown of a flow is its rate
	if !a.state() {
		divisor = 1 / chartStep.Seconds()
		if unit == "cores" || unit == "s/s" {
			divisor /= float64(a.perSecond(t))
		}
	}
	if a.state() {
		// A step has the mean of its snapshots, of which there may be one or two:
		// the mean of all snapshots is that of one step as long as the range.
		same("chart of the API in one step", sum(a.apiChart(t, a.to.Sub(a.from))), exactly)
		values := slices.Collect(maps.Values(api))
		if lowest, highest := slices.Min(values), slices.Max(values); total < lowest-1 || total > highest+1 {
			t.Errorf("the flame graph has %.2f, but the chart is between %.2f and %.2f", total, lowest, highest)
		}
	} else {
		same("chart of the API", sum(api), nearly)
	}
	// The panel leaves out the last steps, which wait for profiles.
	last := slices.Max(slices.Collect(maps.Keys(points)))
	for at := a.from.Add(chartStep).UnixMilli(); at <= last; at += chartStep.Milliseconds() {
		if got := points[at] / divisor; math.Abs(got-api[at]) > exactly*math.Abs(got)+1 {
			t.Errorf("chart at %s: %.2f in the panel, %.2f by the API", time.UnixMilli(at).UTC(), got, api[at])
		}
	}

	if !a.state() { // what has arrived has happened
		later, err := mergedTree(t.Context(), a.address, a.typeID, a.selector, a.from.Add(-time.Hour).UnixMilli(), a.to.Add(time.Hour).UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		same("flame graph with an hour before and after", float64(later.Nodes[0].Total), exactly)
	}
	root, self := a.panelFlamegraph(t)
	same("root of the panel's flame graph", root, exactly)
	same("own values in the panel's table", sum(self), exactly)
	exported := a.pprof(t)
	same("SelectMergeProfile", sum(exported), exactly)
	a.sameFunctions(t, "SelectMergeProfile", exported, self, total)
	rendered := a.renderedPprof(t)
	same("/render of pprof", sum(rendered), exactly)
	a.sameFunctions(t, "/render of pprof", rendered, self, total)
	folded := a.renderedFolded(t)
	same("/render of collapsed stacktraces", sum(folded), exactly)
	// A name cannot have the separator of functions, as names of Go's generic types do.
	named := map[string]float64{}
	for name, v := range self {
		named[strings.ReplaceAll(name, ";", ":")] += v
	}
	a.sameFunctions(t, "/render of collapsed stacktraces", folded, named, total)
	same("/render of JSON", a.renderedJSON(t), exactly)

	left, right, differing := a.diff(t)
	same("left side of the difference with itself", left, exactly)
	same("right side of the difference with itself", right, exactly)
	if differing > 0 {
		t.Errorf("the difference of the profile with itself has %d calls whose sides are not the same", differing)
	}
}

// steady checks that the rate in every step but the first and the last is that of
// one busy thread; the unit is nanoseconds.
func (a agreement) steady(t *testing.T) {
	t.Helper()
	points := a.apiChart(t, chartStep)
	times := slices.Sorted(maps.Keys(points))
	if len(times) < 4 {
		t.Fatalf("the chart of %s has %d points", a.typeID, len(times))
	}
	for at := range points {
		points[at] /= chartStep.Seconds() * 1e9
	}
	for at := times[0]; at <= times[len(times)-1]; at += chartStep.Milliseconds() {
		v, edge := points[at], at == times[0] || at == times[len(times)-1]
		if v > 1.1 || v < 0.9 && !edge {
			t.Errorf("%s at %s: %.2f, want 1; all points are %v", a.typeID, time.UnixMilli(at).UTC(), v, points)
		}
	}
}

// perSecond is how many of the type's unit are a second.
func (a agreement) perSecond(t *testing.T) int64 {
	t.Helper()
	per, ok := map[string]int64{"nanoseconds": 1e9, "microseconds": 1e6, "milliseconds": 1e3, "seconds": 1}[a.typ.SampleUnit]
	if !ok {
		t.Fatalf("%s is shown as time", a.typeID)
	}
	return per
}

func sum[K comparable](values map[K]float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}

// placeName matches the name of a place in a binary whose function is not known.
var placeName = regexp.MustCompile(`\+0x[0-9a-f]+$`)

// sameFunctions compares the functions' own values with those of the table.
func (a agreement) sameFunctions(t *testing.T, what string, got, table map[string]float64, total float64) {
	t.Helper()
	// pprof leaves it to its reader how to name a place without a function.
	named := func(in map[string]float64) map[string]float64 {
		out := map[string]float64{}
		for name, v := range in {
			if placeName.MatchString(name) {
				name = ""
			}
			out[name] += v
		}
		return out
	}
	got, wrong := named(got), 0
	for name, v := range named(table) {
		if math.Abs(v-got[name]) > exactly*total+1 {
			if wrong++; wrong <= 3 {
				t.Errorf("%s: %.100s has itself %.2f, in the table %.2f of %.2f", what, name, got[name], v, total)
			}
		}
	}
}

// panel asks with the query of a panel as the built-in page sends it.
func (a agreement) panel(t *testing.T, queryType string) data.Frames {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"from": strconv.FormatInt(a.from.UnixMilli(), 10), "to": strconv.FormatInt(a.to.UnixMilli(), 10),
		"queries": []any{map[string]any{
			"refId": "A", "version": 1, "queryType": queryType, "profileTypeId": a.typeID, "labelSelector": a.selector,
			"groupBy": []string{}, "intervalMs": chartStep.Milliseconds(), "maxDataPoints": 1000, "maxNodes": 100_000,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(a.address+"/api/ds/query", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer backend.QueryDataResponse
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("%s of %s: %s: %v: %.300s", queryType, a.typeID, resp.Status, err, raw)
	}
	if err := answer.Responses["A"].Error; err != nil {
		t.Fatalf("%s of %s: %v", queryType, a.typeID, err)
	}
	return answer.Responses["A"].Frames
}

// panelChart returns the points by time in ms, and their unit.
func (a agreement) panelChart(t *testing.T) (points map[int64]float64, unit string) {
	t.Helper()
	points = map[int64]float64{}
	for _, frame := range a.panel(t, "metrics") {
		if len(frame.Fields) < 2 {
			t.Fatalf("the chart of %s has %d fields", a.typeID, len(frame.Fields))
		}
		unit = frame.Fields[1].Config.Unit
		for i := range frame.Rows() {
			at, ok := frame.ConcreteAt(0, i)
			v, err := frame.FloatAt(1, i)
			if !ok || err != nil || math.IsNaN(v) {
				t.Fatalf("row %d of the chart of %s: %v", i, a.typeID, err)
			}
			if at.(time.Time).After(a.from) { // the first step ends there
				points[at.(time.Time).UnixMilli()] += v
			}
		}
	}
	return points, unit
}

// panelFlamegraph returns the root's value, and the functions' own values.
func (a agreement) panelFlamegraph(t *testing.T) (root float64, self map[string]float64) {
	t.Helper()
	frames := a.panel(t, "profile")
	if len(frames) != 1 || frames[0].Rows() == 0 {
		t.Fatalf("the flame graph of %s has no rows", a.typeID)
	}
	frame, self := frames[0], map[string]float64{}
	label, _ := frame.FieldByName("label")
	value, valueAt := frame.FieldByName("value")
	_, selfAt := frame.FieldByName("self")
	if label == nil || label.Type() != data.FieldTypeEnum || value == nil || selfAt < 0 {
		t.Fatalf("the flame graph of %s lacks a column", a.typeID)
	}
	for i := range frame.Rows() {
		own, err := frame.FloatAt(selfAt, i)
		if err != nil {
			t.Fatal(err)
		}
		name := label.Config.TypeConfig.Enum.Text[label.At(i).(data.EnumItemIndex)]
		if i == 0 {
			if root, err = frame.FloatAt(valueAt, 0); err != nil {
				t.Fatal(err)
			}
			name = "" // of stacktraces without a frame
		}
		if own != 0 {
			self[name] += own
		}
	}
	return root, self
}

// apiChart is SelectSeries with a step: by time in ms. With chartStep it has all
// points that panelChart has.
func (a agreement) apiChart(t *testing.T, step time.Duration) map[int64]float64 {
	t.Helper()
	req := &querierv1.SelectSeriesRequest{
		ProfileTypeID: a.typeID, LabelSelector: a.selector, Step: step.Seconds(),
		// An end beyond the last point, so that one point is a range too.
		Start: a.from.Add(step).UnixMilli(), End: a.to.UnixMilli() + 1,
	}
	if a.state() {
		req.Aggregation = typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE.Enum()
	}
	resp, err := a.client.SelectSeries(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	points := map[int64]float64{}
	for _, s := range resp.Msg.Series {
		for _, p := range s.Points {
			points[p.Timestamp] += p.Value
		}
	}
	return points
}

// pprof is SelectMergeProfile: the functions' own values.
func (a agreement) pprof(t *testing.T) map[string]float64 {
	t.Helper()
	resp, err := a.client.SelectMergeProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeProfileRequest{
		ProfileTypeID: a.typeID, LabelSelector: a.selector, Start: a.from.UnixMilli(), End: a.to.UnixMilli() - 1,
	}))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := resp.Msg.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return ownValues(t, raw)
}

// ownValues reads a profile with pprof's own reader.
func ownValues(t *testing.T, raw []byte) map[string]float64 {
	t.Helper()
	p, err := pprof.ParseData(raw)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range p.Sample {
		name := ""
		if len(s.Location) > 0 && len(s.Location[0].Line) > 0 {
			name = s.Location[0].Line[0].Function.Name
		}
		out[name] += float64(s.Value[0])
	}
	return out
}

// render asks /render in a format.
func (a agreement) render(t *testing.T, format string) []byte {
	t.Helper()
	query := url.Values{
		"query": {a.typeID + a.selector}, "format": {format},
		"from": {strconv.FormatInt(a.from.UnixMilli(), 10)}, "until": {strconv.FormatInt(a.to.UnixMilli()-1, 10)},
	}
	if format != "pprof" { // which is always whole
		query.Set("max-nodes", "100000")
	}
	resp, err := http.Get(a.address + "/render?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/render of %s as %s: %s: %.300s %v", a.typeID, format, resp.Status, body, err)
	}
	return body
}

func (a agreement) renderedPprof(t *testing.T) map[string]float64 {
	t.Helper()
	return ownValues(t, a.render(t, "pprof"))
}

// renderedFolded returns the own values of the last frames. Those of stacktraces
// without a frame stand under the root's name.
func (a agreement) renderedFolded(t *testing.T) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(string(a.render(t, "collapsed"))) {
		line = strings.TrimSuffix(line, "\n")
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if at < 0 || err != nil {
			t.Fatalf("collapsed stacktrace %q: %v", line, err)
		}
		name := line[strings.LastIndexByte(line[:at], ';')+1 : at]
		if line[:at] == "total" {
			name = ""
		}
		out[name] += v
	}
	return out
}

func (a agreement) renderedJSON(t *testing.T) float64 {
	t.Helper()
	var answer struct {
		Flamebearer struct{ NumTicks int64 }
	}
	if err := json.Unmarshal(a.render(t, "json"), &answer); err != nil {
		t.Fatal(err)
	}
	return float64(answer.Flamebearer.NumTicks)
}

// diff compares the profile with itself. It returns the totals of both sides, and
// in how many calls they are not the same.
func (a agreement) diff(t *testing.T) (left, right float64, differing int) {
	t.Helper()
	side := func() *querierv1.SelectMergeStacktracesRequest {
		nodes := int64(100_000)
		return &querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: a.typeID, LabelSelector: a.selector, Start: a.from.UnixMilli(), End: a.to.UnixMilli() - 1, MaxNodes: &nodes,
		}
	}
	resp, err := a.client.Diff(t.Context(), connect.NewRequest(&querierv1.DiffRequest{Left: side(), Right: side()}))
	if err != nil {
		t.Fatal(err)
	}
	f := resp.Msg.GetFlamegraph()
	for _, level := range f.GetLevels() {
		// Offset, total and own value of the left, the same of the right, name.
		for node := range slices.Chunk(level.Values, 7) {
			if node[1] != node[4] || node[2] != node[5] {
				differing++
			}
		}
	}
	return float64(f.GetLeftTicks()), float64(f.GetRightTicks()), differing
}
