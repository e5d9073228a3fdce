package query_test

import (
	"testing"
	"time"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
)

func at(hms string) int64 {
	t, err := time.Parse(time.RFC3339, "2026-11-23T"+hms+"Z")
	if err != nil {
		panic(err)
	}
	return t.UnixMilli()
}

// points makes a series from times and values.
func points(service string, tv ...any) *typesv1.Series {
	s := &typesv1.Series{}
	if service != "" {
		s.Labels = []*typesv1.LabelPair{{Name: "service_name", Value: service}}
	}
	for i := 0; i < len(tv); i += 2 {
		s.Points = append(s.Points, &typesv1.Point{Timestamp: at(tv[i].(string)), Value: tv[i+1].(float64)})
	}
	return s
}

// line is a frame's points as text of time and value.
func line(f *data.Frame) map[string]float64 {
	out := make(map[string]float64)
	for i := range f.Rows() {
		out[f.Fields[0].At(i).(time.Time).UTC().Format(time.TimeOnly)] = f.Fields[1].At(i).(float64)
	}
	return out
}

func TestSeriesAskWholeSteps(t *testing.T) {
	for _, c := range []struct {
		name       string
		model      map[string]any
		ago        time.Duration
		step       float64
		start, end string
	}{
		// It is 12:00:07. The step that ends at 12:00:00 is 7 s old: its
		// profiles may still be on their way.
		{"minimum step", nil, 5 * time.Minute, 15, "11:55:00", "11:59:45"},
		{"a longer step", map[string]any{"step": "1m"}, 5 * time.Minute, 60, "11:55:00", "11:59:00"},
		{"a multiple of the minimum", map[string]any{"step": "20s"}, 5 * time.Minute, 30, "11:55:00", "11:59:30"},
		{"no more points than a panel can take", nil, 90 * 24 * time.Hour, 720, "12:00:00", "11:48:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := &querier{}
			model := map[string]any{"queryType": "metrics", "profileTypeId": cpu}
			for k, v := range c.model {
				model[k] = v
			}
			require.NoError(t, ask(t, runner(t, q), c.ago, model).Error)
			require.Len(t, q.selects, 1)
			got := q.selects[0]
			require.InDelta(t, c.step, got.Step, 1e-9)
			require.Equal(t, c.start, time.UnixMilli(got.Start+int64(c.step*1000)).UTC().Format(time.TimeOnly))
			require.Equal(t, c.end, time.UnixMilli(got.End).UTC().Format(time.TimeOnly))
			require.Zero(t, got.Start%int64(c.step*1000))
			require.Zero(t, got.End%int64(c.step*1000))
		})
	}
}

// Servers refuse series of more than 11,000 points.
func TestPointsOfLongRanges(t *testing.T) {
	for _, ago := range []time.Duration{10_999 * time.Second, 11_000 * time.Second, 11_001 * time.Second, 30 * 24 * time.Hour} {
		q := &querier{}
		require.NoError(t, ask(t, runner(t, q), ago, map[string]any{"queryType": "annotations", "profileTypeId": cpu}).Error)
		got := q.selects[0]
		require.LessOrEqual(t, float64(got.End-got.Start)/1000/got.Step+1, 11_000.)
	}
}

func TestRangeBeforeTheFirstWholeStep(t *testing.T) {
	q := &querier{}
	resp := ask(t, runner(t, q), 5*time.Second, map[string]any{"queryType": "metrics", "profileTypeId": cpu})
	require.NoError(t, resp.Error)
	require.Empty(t, q.selects)
	require.Contains(t, resp.Frames[0].Meta.Notices[0].Text, "No step of 15s is complete")
}

func TestSeriesAreRates(t *testing.T) {
	for typ, want := range map[string]struct {
		value   float64
		unit    string
		average bool
	}{
		cpu:                                    {0.5, "cores", false},
		"memory:alloc_space:bytes:space:bytes": {5e8, "binBps", false},
		"memory:inuse_space:bytes:space:bytes": {7.5e9, "bytes", true},
		"goroutine:goroutine:count:goroutine:count": {7.5e9, "short", true},
	} {
		t.Run(typ, func(t *testing.T) {
			q := &querier{series: func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
				return []*typesv1.Series{points("order", "11:58:00", 7.5e9)}
			}}
			resp := ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "metrics", "profileTypeId": typ, "groupBy": []string{"service_name", ""}, "limit": 5})
			require.NoError(t, resp.Error)
			require.Len(t, resp.Frames, 1)
			require.Equal(t, map[string]float64{"11:58:00": want.value}, line(resp.Frames[0]))
			require.Equal(t, want.unit, resp.Frames[0].Fields[1].Config.Unit)
			require.Equal(t, data.Labels{"service_name": "order"}, resp.Frames[0].Fields[1].Labels)
			require.Equal(t, []string{"service_name"}, q.selects[0].GroupBy)
			require.Equal(t, int64(5), q.selects[0].GetLimit())
			require.Equal(t, want.average, q.selects[0].GetAggregation() == typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE)
		})
	}
}

// A program that was not sampled in a step used no CPU then, if anything was
// sampled at all; else nobody knows.
func TestGaps(t *testing.T) {
	idle := points("order", "11:58:00", 15e9, "11:59:15", 15e9)
	q := &querier{series: func(r *querierv1.SelectSeriesRequest) []*typesv1.Series {
		if r.LabelSelector == "{}" {
			return []*typesv1.Series{points("", "11:57:45", 1e9, "11:58:00", 1e9, "11:58:15", 1e9, "11:59:00", 1e9, "11:59:15", 1e9)}
		}
		return []*typesv1.Series{idle}
	}}
	resp := ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "metrics", "profileTypeId": cpu, "labelSelector": `{service_name="order"}`})
	require.NoError(t, resp.Error)
	require.Equal(t, map[string]float64{"11:58:00": 1, "11:58:15": 0, "11:59:00": 0, "11:59:15": 1}, line(resp.Frames[0]),
		"nothing is known of 11:58:30 and 11:58:45, and nothing is claimed before the first and after the last point")
	require.Len(t, q.selects, 2)

	// Another series of the same answer shows it as well, without a question.
	q.selects = nil
	q.series = func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
		return []*typesv1.Series{
			points("order", "11:58:00", 15e9, "11:58:30", 15e9),
			points("search", "11:58:00", 15e9, "11:58:15", 15e9, "11:58:30", 15e9),
		}
	}
	resp = ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "metrics", "profileTypeId": cpu, "labelSelector": `{node="a"}`, "groupBy": []string{"service_name"}})
	require.NoError(t, resp.Error)
	require.Equal(t, map[string]float64{"11:58:00": 1, "11:58:15": 0, "11:58:30": 1}, line(resp.Frames[0]))
	require.Len(t, q.selects, 1)

	// Memory in use is unknown, not zero, in a step without a profile.
	q.series = func(*querierv1.SelectSeriesRequest) []*typesv1.Series { return []*typesv1.Series{idle} }
	resp = ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "metrics", "profileTypeId": "memory:inuse_space:bytes:space:bytes"})
	require.Equal(t, 2, resp.Frames[0].Rows())
}

// An alert rule averages over its window. A program that ran in one step of it used no CPU
// in the others.
func TestAlertsSeeWhenAProgramDidNotRun(t *testing.T) {
	q := &querier{series: func(r *querierv1.SelectSeriesRequest) []*typesv1.Series {
		if r.LabelSelector == "{}" {
			return []*typesv1.Series{points("", "11:58:30", 1e9, "11:58:45", 1e9, "11:59:00", 1e9, "11:59:30", 1e9, "11:59:45", 1e9)}
		}
		return []*typesv1.Series{points("apt", "11:58:45", 15e9)}
	}}
	window := backend.DataQuery{
		JSON:      []byte(`{"queryType":"metrics","profileTypeId":"` + cpu + `","labelSelector":"{service_name=\"apt\"}"}`),
		TimeRange: backend.TimeRange{From: now.Add(-2 * time.Minute), To: now},
	}
	resp := runner(t, q).Run(t.Context(), window, true)
	require.NoError(t, resp.Error)
	require.Equal(t, map[string]float64{"11:58:30": 0, "11:58:45": 1, "11:59:00": 0, "11:59:30": 0, "11:59:45": 0}, line(resp.Frames[0]),
		"nothing is known of 11:58:00, 11:58:15 and 11:59:15")

	resp = runner(t, q).Run(t.Context(), window, false)
	require.Equal(t, map[string]float64{"11:58:45": 1}, line(resp.Frames[0]))

	// One that has no profiles in the window has no series: the rule's "no data" applies.
	q.series = nil
	resp = runner(t, q).Run(t.Context(), window, true)
	require.NoError(t, resp.Error)
	require.Zero(t, resp.Frames[0].Rows())
}

// The API has no series of spans, and a chart must not be taken for one.
func TestSeriesSayThatTheyAreOfAllSpans(t *testing.T) {
	resp := ask(t, runner(t, &querier{}), 5*time.Minute, map[string]any{"queryType": "metrics", "profileTypeId": cpu, "spanSelector": []string{"9a517183f26a089d"}})
	require.NoError(t, resp.Error)
	require.Contains(t, resp.Frames[0].Meta.Notices[0].Text, "The series has all samples: the span selector applies only to the flame graph.")
}
