package query_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

const inuse = "memory:inuse_space:bytes:space:bytes"

// stacks is a tree of stacktraces below main.
func stacks(values map[string]int64) *profile.Tree {
	b := profile.NewBuilder(0)
	main := b.Child(0, b.Name("main"))
	for name, v := range values {
		b.Add(b.Child(main, b.Name(name)), v)
	}
	return b.Tree()
}

// times are the values of a query over the last hour, with a baseline of length.
func times(length time.Duration, typeID string) map[string]any {
	return map[string]any{
		"queryType": "comparison", "profileTypeId": typeID, "labelSelector": `{service_name="order"}`,
		"baseline": map[string]any{
			"kind": "range", "from": now.Add(-48 * time.Hour).UnixMilli(), "to": now.Add(length - 48*time.Hour).UnixMilli(),
		},
	}
}

// column returns the numbers of a field.
func column(t *testing.T, f *data.Frame, name string) []float64 {
	t.Helper()
	field, _ := f.FieldByName(name)
	require.NotNil(t, field, name)
	out := make([]float64, field.Len())
	for i := range out {
		var err error
		out[i], err = field.FloatAt(i)
		require.NoError(t, err)
	}
	return out
}

func fields(f *data.Frame) (names []string) {
	for _, field := range f.Fields {
		names = append(names, field.Name)
	}
	return names
}

func noticeTexts(f *data.Frame) (texts []string) {
	for _, n := range f.Meta.Notices {
		texts = append(texts, n.Text)
	}
	return texts
}

// One call asks for both sides, with the limit of nodes for each.
func TestComparisonAsksOnce(t *testing.T) {
	q := &querier{
		diff:   profile.Diff(stacks(map[string]int64{"old": 6}), stacks(map[string]int64{"new": 4})),
		header: http.Header{profile.HeaderRest: {"functions"}},
	}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{
		"queryType": "comparison", "profileTypeId": cpu, "labelSelector": `{service_name="order"}`, "maxNodes": 100,
		"baseline": map[string]any{"kind": "offset", "offset": "1d", "labelSelector": `{service_name="order",version="1"}`},
		"notice":   "mind the gap", "groupBy": []string{"pod"},
	})
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 1)
	require.Equal(t, []string{"mind the gap"}, noticeTexts(resp.Frames[0]))
	require.Empty(t, q.profiles)
	require.Empty(t, q.selects)
	require.Len(t, q.diffs, 1)
	require.Equal(t, "functions", q.asked[0].Get("Flameline-Rest"))
	left, right := q.diffs[0].Left, q.diffs[0].Right
	day := (24 * time.Hour).Milliseconds()
	require.Equal(t, now.Add(-time.Hour).UnixMilli(), right.Start)
	require.Equal(t, now.UnixMilli(), right.End)
	require.Equal(t, right.Start-day, left.Start)
	require.Equal(t, right.End-day, left.End)
	require.Equal(t, `{service_name="order"}`, right.LabelSelector)
	require.Equal(t, `{service_name="order",version="1"}`, left.LabelSelector)
	require.Equal(t, cpu, left.ProfileTypeID)
	require.Equal(t, cpu, right.ProfileTypeID)
	require.Equal(t, int64(100), left.GetMaxNodes())
	require.Equal(t, int64(100), right.GetMaxNodes())
}

// The frame as Grafana's flame graph receives it, written by hand: two hours of 4400 ns
// are compared with one hour of 3500 ns.
func TestComparisonFrame(t *testing.T) {
	q := &querier{
		diff:   profile.Diff(stacks(map[string]int64{"parse": 4000, "old": 400}), stacks(map[string]int64{"parse": 3000, "new": 500})),
		header: http.Header{profile.HeaderRest: {"functions"}},
	}
	resp := ask(t, runner(t, q), time.Hour, times(2*time.Hour, cpu))
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 1)
	got, err := json.Marshal(resp.Frames[0])
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/comparison.json")
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
}

// Values that add up over time are scaled if the sides are not equally long; averages are not.
func TestComparisonOfUnequalLengths(t *testing.T) {
	for name, c := range map[string]struct {
		typeID, unit string
		length       time.Duration
		left, right  float64 // of roots of 6000 and 1800
		fieldUnit    string
		notice       string
	}{
		"CPU time, twice as long": {cpu, "", 2 * time.Hour, 3000, 1800, "ns", "The baseline is 2h long and the time range 1h: all values of the baseline are multiplied by 0.5,"},
		"CPU time, half as long":  {cpu, "time", 30 * time.Minute, 12000, 1800, "ns", "The baseline is 30m long and the time range 1h: all values of the baseline are multiplied by 2,"},
		"CPU time, as long":       {cpu, "", time.Hour, 6000, 1800, "ns", ""},
		"a millisecond shorter":   {cpu, "", time.Hour - time.Millisecond, 6000, 1800, "ns", ""},
		"cores":                   {cpu, "cores", 2 * time.Hour, 6000 / 7200e9, 1800 / 3600e9, "cores", ""},
		"bytes allocated":         {"memory:alloc_space:bytes:space:bytes", "", 4 * time.Hour, 1500, 1800, "bytes", "multiplied by 0.25,"},
		"events":                  {"perf:page-faults:count:cpu:nanoseconds", "", 4 * time.Hour, 1500, 1800, "short", "multiplied by 0.25,"},
		"memory in use":           {inuse, "", 4 * time.Hour, 6000, 1800, "bytes", "inuse_space is a state, such as memory in use. Neither side is scaled, although the baseline is 4h long and the time range 1h."},
		"memory in use, as long":  {inuse, "", time.Hour, 6000, 1800, "bytes", ""},
		"memory in use, in cores": {inuse, "cores", 4 * time.Hour, 6000, 1800, "bytes", "inuse_space describes an instant"},
		"goroutines":              {"goroutines:goroutine:count:goroutine:count", "", 4 * time.Hour, 6000, 1800, "short", "goroutine is a state"},
	} {
		t.Run(name, func(t *testing.T) {
			q := &querier{
				diff:   profile.Diff(stacks(map[string]int64{"a": 2400, "b": 3600}), stacks(map[string]int64{"a": 1800})),
				header: http.Header{profile.HeaderRest: {"functions"}},
			}
			model := times(c.length, c.typeID)
			model["unit"] = c.unit
			resp := ask(t, runner(t, q), time.Hour, model)
			require.NoError(t, resp.Error)
			f := resp.Frames[0]
			require.Equal(t, []string{"level", "value", "self", "valueRight", "selfRight", "label"}, fields(f))
			left, right := c.left/6000, c.right/1800
			for name, want := range map[string][]float64{
				"value": {6000 * left, 6000 * left, 2400 * left, 3600 * left}, "self": {0, 0, 2400 * left, 3600 * left},
				"valueRight": {1800 * right, 1800 * right, 1800 * right, 0}, "selfRight": {0, 0, 1800 * right, 0},
			} {
				require.InDeltaSlice(t, want, column(t, f, name), 1e-9, name)
				field, _ := f.FieldByName(name)
				require.Equal(t, c.fieldUnit, field.Config.Unit)
			}
			if c.notice == "" {
				require.Empty(t, noticeTexts(f))
				return
			}
			require.Len(t, f.Meta.Notices, 1)
			require.Contains(t, f.Meta.Notices[0].Text, c.notice)
			require.Equal(t, data.NoticeSeverityInfo, f.Meta.Notices[0].Severity)
		})
	}
}

// Of a range that has not passed yet, the part up to now counts: today until noon against
// all of yesterday.
func TestComparisonOfADayThatIsNotOver(t *testing.T) {
	q := &querier{diff: profile.Diff(stacks(map[string]int64{"a": 2400}), stacks(map[string]int64{"a": 1200}))}
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := runner(t, q)
	r.Now = func() time.Time { return noon }
	resp := r.Run(t.Context(), backend.DataQuery{
		JSON:      comparison("{}", `{"kind":"offset","offset":"1d"}`),
		TimeRange: backend.TimeRange{From: noon.Add(-12 * time.Hour), To: noon.Add(12 * time.Hour)},
	}, false)
	require.NoError(t, resp.Error)
	require.InDelta(t, 1200, column(t, resp.Frames[0], "value")[0], 1e-9)
	require.Contains(t, noticeTexts(resp.Frames[0])[0], "The baseline is 1d long and the time range 12h:")

	// Nothing of a range in the future has passed: there is no length to scale to.
	resp = r.Run(t.Context(), backend.DataQuery{
		JSON:      comparison("{}", `{"kind":"offset","offset":"1d"}`),
		TimeRange: backend.TimeRange{From: noon.Add(time.Hour), To: noon.Add(2 * time.Hour)},
	}, false)
	require.NoError(t, resp.Error)
	require.InDelta(t, 2400, column(t, resp.Frames[0], "value")[0], 1e-9)
}

// With a side without samples, Grafana would show NaN % everywhere: the other side stands
// alone, and a notice says so.
func TestComparisonWithAnEmptySide(t *testing.T) {
	some := stacks(map[string]int64{"a": 2400})
	none := &profile.Tree{}
	alone := []string{"level", "value", "self", "label"}
	for name, c := range map[string]struct {
		diff     *profile.DiffTree
		unit     string
		rows     []float64
		severity data.NoticeSeverity
		notice   string
	}{
		"baseline": {
			profile.Diff(none, some), "", []float64{2400, 2400, 2400}, data.NoticeSeverityWarning,
			`There is nothing to compare: the baseline has no samples of ` + cpu + ` ({service_name="order"} between 2026-11-21T12:00:07Z and 2026-11-21T14:00:07Z). The flame graph is that of the time range of the query alone.`,
		},
		"time range": {
			profile.Diff(some, none), "", []float64{2400, 2400, 2400}, data.NoticeSeverityWarning,
			`There is nothing to compare: the time range of the query has no samples of ` + cpu + ` ({service_name="order"} between 2026-11-23T11:00:07Z and 2026-11-23T12:00:07Z). The flame graph is that of the baseline alone.`,
		},
		"time range, in cores": {
			profile.Diff(some, none), "cores", []float64{2400 / 7200e9, 2400 / 7200e9, 2400 / 7200e9}, data.NoticeSeverityWarning, "the baseline alone",
		},
		"both":             {profile.Diff(none, none), "", []float64{0}, data.NoticeSeverityInfo, `No samples of ` + cpu + `, neither for {service_name="order"} between 2026-11-21`},
		"no answer at all": {nil, "cores", []float64{0}, data.NoticeSeverityInfo, `No samples of`},
	} {
		t.Run(name, func(t *testing.T) {
			q := &querier{diff: c.diff}
			model := times(2*time.Hour, cpu)
			model["unit"] = c.unit
			resp := ask(t, runner(t, q), time.Hour, model)
			require.NoError(t, resp.Error)
			require.Len(t, resp.Frames, 1)
			f := resp.Frames[0]
			require.Equal(t, alone, fields(f))
			require.InDeltaSlice(t, c.rows, column(t, f, "value"), 1e-15)
			require.Equal(t, data.VisType(data.VisTypeFlameGraph), f.Meta.PreferredVisualization)
			require.Len(t, f.Meta.Notices, 1)
			require.Equal(t, c.severity, f.Meta.Notices[0].Severity)
			require.Contains(t, f.Meta.Notices[0].Text, c.notice)
			_, err := json.Marshal(f) // fails on NaN and infinities
			require.NoError(t, err)
		})
	}
}

// Whatever the profiles: compared with themselves, nothing has changed. Profiles that are
// twice as long, with twice the values, have not changed either.
func TestComparisonWithItself(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		once, twice := profile.NewBuilder(0), profile.NewBuilder(0)
		for range 1 + r.IntN(60) {
			at := int32(0)
			for range 1 + r.IntN(6) {
				name := fmt.Sprintf("f%d", r.IntN(9))
				at = once.Child(at, once.Name(name))
				require.Equal(t, at, twice.Child(once.Tree().Nodes[at].Parent, twice.Name(name)))
			}
			v := r.Int64N(1e12) + 1
			once.Add(at, v)
			twice.Add(at, 2*v)
		}
		tree := once.Tree()
		for _, c := range []struct {
			left   *profile.Tree
			length time.Duration
			typeID string
		}{{tree, time.Hour, cpu}, {twice.Tree(), 2 * time.Hour, cpu}, {tree, 2 * time.Hour, inuse}} {
			for _, unit := range []string{"time", "cores"} {
				q := &querier{diff: profile.Diff(c.left, tree)}
				model := times(c.length, c.typeID)
				model["unit"] = unit
				resp := ask(t, runner(t, q), time.Hour, model)
				require.NoError(t, resp.Error)
				f := resp.Frames[0]
				require.Equal(t, column(t, f, "valueRight"), column(t, f, "value"))
				require.Equal(t, column(t, f, "selfRight"), column(t, f, "self"))
				require.Greater(t, column(t, f, "value")[0], 0.0)
			}
		}
	}
}

// What a comparison cannot show is said.
func TestNoticesOfAComparison(t *testing.T) {
	b := profile.NewBuilder(0)
	for i := range 20 {
		b.Add(b.Child(0, b.Name(string(rune('a'+i)))), int64(40-i))
	}
	q := &querier{diff: profile.Diff(b.Tree(), b.Tree()).Truncate(4)} // of Pyroscope: no headers
	model := times(time.Hour, cpu)
	model["spanSelector"] = []string{"9a517183f26a089d"}
	resp := ask(t, runner(t, q), time.Hour, model)
	require.NoError(t, resp.Error)
	texts := noticeTexts(resp.Frames[0])
	require.Len(t, texts, 2)
	require.Contains(t, texts[0], "The comparison has all samples")
	require.Contains(t, texts[1], "(not shown)")
}

func TestRefusedComparison(t *testing.T) {
	q := &querier{err: connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("left.start: too long ago"))}
	resp := ask(t, runner(t, q), time.Hour, times(time.Hour, cpu))
	require.EqualError(t, resp.Error, "comparison: left.start: too long ago")
	require.Equal(t, backend.StatusTooManyRequests, resp.Status)
	require.Equal(t, backend.ErrorSourceDownstream, resp.ErrorSource)
}
