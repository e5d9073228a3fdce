package query_test

import (
	"encoding/json"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/query"
)

// cells are the values of a heat map by row and column; -1 for what was not measured.
func cells(f *data.Frame) (rows map[string][]float64, order []string) {
	rows = map[string][]float64{}
	for _, field := range f.Fields[1:] {
		name := field.Config.DisplayNameFromDS
		order = append(order, name)
		for i := range field.Len() {
			v := -1.
			if p := field.At(i).(*float64); p != nil {
				v = *p
			}
			rows[name] = append(rows[name], v)
		}
	}
	return rows, order
}

func TestHeatmapByLabel(t *testing.T) {
	q := &querier{series: func(r *querierv1.SelectSeriesRequest) []*typesv1.Series {
		if r.LabelSelector == "{}" {
			return []*typesv1.Series{points("", "11:58:15", 9e9, "11:59:00", 9e9)}
		}
		return []*typesv1.Series{
			points("order", "11:58:00", 15e9, "11:59:15", 30e9),
			points("cart", "11:58:00", 7.5e9, "11:58:45", 1.5e9),
			points("third", "11:58:00", 1.),
		}
	}}
	r := runner(t, q)
	r.DrilldownURL = "/api/datasources/uid/f/resources/drilldown"
	resp := ask(t, r, 5*time.Minute, map[string]any{
		"queryType": "heatmap", "profileTypeId": cpu, "labelSelector": `{region=~"eu|us"}`, "step": "15s", "limit": 2,
	})
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 1)
	f := resp.Frames[0]
	require.Equal(t, data.FrameType("heatmap-rows"), f.Meta.Type)
	require.Equal(t, "heatmap", f.Meta.PreferredVisualizationPluginID)
	rows, order := cells(f)
	require.Equal(t, []string{"cart", "order"}, order, "the largest is at the top")
	// 58:00, 58:15 (others measured, so is this), 58:30 (nobody), 58:45, 59:00, 59:15
	require.Equal(t, map[string][]float64{"order": {1, 0, -1, 0, 0, 2}, "cart": {0.5, 0, -1, 0.1, 0, 0}}, rows)
	require.Equal(t, "cores", f.Fields[1].Config.Unit)
	require.Equal(t, at("11:58:00"), f.Fields[0].At(0).(time.Time).UnixMilli())
	require.Equal(t, []string{"These are the 2 largest rows by service_name; set a limit to see more."}, noticeTexts(f))
	require.Equal(t, []string{"service_name"}, q.selects[0].GroupBy)
	require.EqualValues(t, 3, q.selects[0].GetLimit())

	link := f.Fields[2].Config.Links[0]
	require.True(t, link.TargetBlank)
	path, params, _ := strings.Cut(strings.Replace(link.URL, "${__value.time}", "1795435200000", 1), "?")
	require.Equal(t, r.DrilldownURL, path)
	values, err := url.ParseQuery(params)
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"around": {"1795435200000"}, "step": {"15s"}, "profileTypeId": {cpu}, "labelSelector": {`{region=~"eu|us",service_name="order"}`},
	}, values)
	found, err := r.Drilldown(t.Context(), values)
	require.NoError(t, err)
	require.Equal(t, query.Drilldown{From: "1795435185000", To: "1795435200000", ProfileTypeID: cpu, LabelSelector: values.Get("labelSelector")}, found)
}

// The limit that asks whether there are more rows does not overflow.
func TestHeatmapOfAllRows(t *testing.T) {
	q := &querier{series: func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
		return []*typesv1.Series{points("a", "11:58:00", 1.)}
	}}
	resp := ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "heatmap", "profileTypeId": cpu, "limit": int64(math.MaxInt64)})
	require.NoError(t, resp.Error)
	require.EqualValues(t, math.MaxInt64, q.selects[0].GetLimit())
}

func TestHeatmapWithoutProfiles(t *testing.T) {
	resp := ask(t, runner(t, &querier{}), 5*time.Minute, map[string]any{"queryType": "heatmap", "profileTypeId": cpu})
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames[0].Fields, 2, "the panel needs a row")
	require.Contains(t, noticeTexts(resp.Frames[0])[0], "No samples")
}

func TestHeatmapByOffset(t *testing.T) {
	column := func(hms string, values ...int64) *flamelinev1.OffsetColumn {
		return &flamelinev1.OffsetColumn{Time: at(hms), Values: values}
	}
	q := &querier{offsets: &flamelinev1.OffsetsResponse{
		Columns: []*flamelinev1.OffsetColumn{column("11:59:10", 2e9, 0, 0, 0, 1e9), column("11:59:20", 0, 4e9, 0, 0, 0)}, Timed: 9, Untimed: 3,
	}}
	model := map[string]any{"queryType": "heatmap", "heatmap": "offset", "rows": 5, "profileTypeId": cpu, "labelSelector": `{service_name="order"}`, "step": "5s"}
	resp := ask(t, runner(t, q), 5*time.Minute, model)
	require.NoError(t, resp.Error)
	rows, order := cells(resp.Frames[0])
	require.Equal(t, []string{"0.00 s", "0.20 s", "0.40 s", "0.60 s", "0.80 s"}, order)
	// 2 s of CPU time in a fifth of 5 seconds are 2 cores.
	require.Equal(t, []float64{2, -1, 0}, rows["0.00 s"])
	require.Equal(t, []float64{0, -1, 4}, rows["0.20 s"])
	require.Equal(t, []string{
		"3 of 12 profiles have no times of single samples and are not shown.",
		"A column is 5s: a cell is the average over the same part of all its seconds. Zoom in to see single seconds.",
	}, noticeTexts(resp.Frames[0]))
	asked := q.offsetsRequests[0]
	require.EqualValues(t, 5, asked.Step)
	require.EqualValues(t, 5, asked.Rows)
	require.Equal(t, at("11:55:05"), asked.Selection.Start)
	require.Equal(t, at("11:59:50"), asked.Selection.End, "profiles of the last 15 s may be on their way")

	q.offsets = &flamelinev1.OffsetsResponse{Untimed: 3}
	require.ErrorContains(t, ask(t, runner(t, q), time.Hour, model).Error, "no times of single samples")
	q.offsets.Columns = []*flamelinev1.OffsetColumn{column("11:59:10", 1)}
	q.offsets.Timed = 1
	require.ErrorContains(t, ask(t, runner(t, q), time.Hour, model).Error, "1 values, want 5")
	require.ErrorContains(t, ask(t, runner(t, &querier{}), time.Hour, model).Error, "needs a Flameline server")
}

func TestHeatmapRefused(t *testing.T) {
	for want, change := range map[string]map[string]any{
		"heatmap": {"heatmap": "cpu"},
		"rows":    {"heatmap": "offset", "rows": 30},
		"instant": {"heatmap": "offset", "profileTypeId": "memory:inuse_space:bytes:space:bytes"},
	} {
		model := map[string]any{"queryType": "heatmap", "profileTypeId": cpu}
		for k, v := range change {
			model[k] = v
		}
		require.ErrorContains(t, ask(t, runner(t, &querier{}), time.Hour, model).Error, want)
	}
	raw, err := json.Marshal(map[string]any{"queryType": "heatmap", "profileTypeId": cpu})
	require.NoError(t, err)
	resp := runner(t, &querier{}).Run(t.Context(), backend.DataQuery{JSON: raw, TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now}}, true)
	require.ErrorContains(t, resp.Error, "an alert rule needs metrics or functionSeries")
}
