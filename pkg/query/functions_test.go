package query_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

func sampled(v, samples int64) *flamelinev1.Value {
	return &flamelinev1.Value{Value: v, Samples: samples}
}

func TestFunctions(t *testing.T) {
	q := &querier{functions: &flamelinev1.FunctionsResponse{
		Functions: []*flamelinev1.Function{{Name: "encode", Own: sampled(18e9, 1800), Total: sampled(36e9, 3600)}},
		Total:     sampled(72e9, 7200), Count: 12, HasSamples: true,
	}}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{
		"queryType": "functions", "profileTypeId": cpu, "labelSelector": `{service_name="order"}`, "unit": "cores", "limit": 1, "sort": "total",
	})
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 1)
	f := resp.Frames[0]
	require.Equal(t, []string{"Function", "Own", "Own share", "Total", "Total share", "Own samples"}, fields(f))
	require.InDeltaSlice(t, []float64{0.005}, column(t, f, "Own"), 1e-12)
	require.InDeltaSlice(t, []float64{0.5}, column(t, f, "Total share"), 1e-12)
	require.Equal(t, []string{"These are the 1 largest of 12 functions."}, noticeTexts(f))
	require.Len(t, q.functionRequests, 1)
	asked := q.functionRequests[0]
	require.Nil(t, asked.Baseline)
	require.EqualValues(t, 1, asked.Limit)
	require.Equal(t, flamelinev1.Order_ORDER_TOTAL, asked.Order)
	require.Equal(t, now.UnixMilli(), asked.Selection.End)
	require.Equal(t, now.Add(-time.Hour).UnixMilli(), asked.Selection.Start)
	require.Equal(t, `{service_name="order"}`, asked.Selection.LabelSelector)
}

// A month costs the average cores times the price, whatever the table's unit.
func TestFunctionsCost(t *testing.T) {
	for _, c := range []struct {
		name  string
		model map[string]any
		want  map[string]float64
	}{
		{"time", nil, map[string]float64{"Cost per month": 0.005 * 2 * 730}},
		{"cores", map[string]any{"unit": "cores"}, map[string]float64{"Cost per month": 0.005 * 2 * 730}},
		{
			"change from twice the time", map[string]any{"baseline": map[string]any{"kind": "range", "from": now.Add(-4 * time.Hour).UnixMilli(), "to": now.Add(-2 * time.Hour).UnixMilli()}},
			map[string]float64{"Cost per month": 0.005 * 2 * 730, "Cost change per month": (0.005 - 0.0025) * 2 * 730},
		},
		{"memory", map[string]any{"profileTypeId": "memory:alloc_space:bytes:space:bytes"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := &querier{functions: &flamelinev1.FunctionsResponse{
				Functions: []*flamelinev1.Function{{Name: "encode", Own: sampled(18e9, 1800), BaselineOwn: sampled(18e9, 1800)}},
				Total:     sampled(72e9, 7200), BaselineTotal: sampled(72e9, 7200), Count: 1,
			}}
			model := map[string]any{"queryType": "functions", "profileTypeId": cpu, "labelSelector": "{}"}
			maps.Copy(model, c.model)
			r := runner(t, q)
			r.Price = query.Price{CoreHour: 2, Currency: "€"}
			resp := ask(t, r, time.Hour, model)
			require.NoError(t, resp.Error)
			f := resp.Frames[0]
			for _, name := range []string{"Cost per month", "Cost change per month"} {
				want, shown := c.want[name]
				field, _ := f.FieldByName(name)
				require.Equal(t, shown, field != nil, name)
				if shown {
					require.InDeltaSlice(t, []float64{want}, column(t, f, name), 1e-9, name)
					require.Equal(t, "currency:€", field.Config.Unit)
				}
			}
		})
	}
}

// A baseline that is twice as long counts half.
func TestFunctionsWithBaseline(t *testing.T) {
	q := &querier{functions: &flamelinev1.FunctionsResponse{
		Functions: []*flamelinev1.Function{{
			Name: "encode", Own: sampled(18e9, 1800), Total: sampled(36e9, 3600), BaselineOwn: sampled(20e9, 2000), BaselineTotal: sampled(72e9, 7200),
		}},
		Total: sampled(72e9, 7200), BaselineTotal: sampled(72e9, 7200), Count: 1, HasSamples: true,
	}}
	model := times(2*time.Hour, cpu)
	model["queryType"] = "functions"
	resp := ask(t, runner(t, q), time.Hour, model)
	require.NoError(t, resp.Error)
	f := resp.Frames[0]
	require.InDeltaSlice(t, []float64{10e9}, column(t, f, "Own in baseline"), 1)
	require.InDeltaSlice(t, []float64{8e9}, column(t, f, "Own change"), 1)
	require.InDeltaSlice(t, []float64{0}, column(t, f, "Total change"), 1)
	require.Greater(t, column(t, f, "Own change ±")[0], 0.)
	asked := q.functionRequests[0]
	require.Equal(t, flamelinev1.Order_ORDER_OWN_CHANGE, asked.Order)
	require.EqualValues(t, 100, asked.Limit)
	require.EqualValues(t, 2*time.Hour/time.Millisecond, asked.Baseline.End-asked.Baseline.Start)
	require.Len(t, noticeTexts(f), 1, "the baseline is scaled")
}

// A Pyroscope server is asked for a flame graph, and the result says so.
func TestFunctionsOfPyroscope(t *testing.T) {
	b := profile.NewBuilder(0)
	main := b.Child(0, b.Name("main"))
	walk := b.Child(main, b.Name("walk"))
	b.Add(b.Child(walk, b.Name("walk")), 5e9) // calls itself
	b.Add(b.Child(main, b.Name("other")), 2e9)
	q := &querier{tree: b.Tree()}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "functions", "profileTypeId": cpu, "labelSelector": "{}"})
	require.NoError(t, resp.Error)
	f := resp.Frames[0]
	require.Equal(t, []string{"Function", "Own", "Own share", "Total", "Total share"}, fields(f))
	require.Equal(t, []any{"walk", "main"}, []any{f.Fields[0].At(0), f.Fields[0].At(1)}, "other is Pyroscope's rest")
	require.Equal(t, 2, f.Rows())
	require.InDeltaSlice(t, []float64{5e9, 0}, column(t, f, "Own"), 0)
	require.InDeltaSlice(t, []float64{5e9, 7e9}, column(t, f, "Total"), 0)
	require.Contains(t, noticeTexts(f)[0], "no query for functions")
	require.NotContains(t, noticeTexts(f)[0], "files")
	linked := runner(t, q)
	linked.Links.Source = func(_ *query.Model, s query.Source) string { return s.File }
	resp = ask(t, linked, time.Hour, map[string]any{"queryType": "functions", "profileTypeId": cpu, "labelSelector": "{}"})
	require.Equal(t, fields(f), fields(resp.Frames[0]))
	require.Contains(t, noticeTexts(resp.Frames[0])[0], "does not say in which files functions are")

	q = &querier{
		diff:   profile.Diff(stacks(map[string]int64{"old": 6, "same": 2}), stacks(map[string]int64{"new": 4, "same": 2})),
		header: http.Header{profile.HeaderRest: {"functions"}},
	}
	resp = ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "functions", "profileTypeId": cpu, "labelSelector": "{}", "baseline": map[string]any{"kind": "previous"}})
	require.NoError(t, resp.Error)
	f = resp.Frames[0]
	require.Equal(t, []any{"old", "new"}, []any{f.Fields[0].At(0), f.Fields[0].At(1)})
	require.InDeltaSlice(t, []float64{-6, 4, 0, 0}, column(t, f, "Own change"), 0)
}

func TestFunctionsRefused(t *testing.T) {
	q := &querier{functions: &flamelinev1.FunctionsResponse{}, err: connect.NewError(connect.CodeResourceExhausted, nil)}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "functions", "profileTypeId": cpu})
	require.Error(t, resp.Error, "a busy server is not asked for a flame graph instead")
	require.Empty(t, q.profiles)
	resp = ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "functions", "profileTypeId": cpu, "sort": "name"})
	require.ErrorContains(t, resp.Error, "sort")
	resp = ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "functions", "profileTypeId": cpu, "baseline": map[string]any{"kind": "same"}})
	require.ErrorContains(t, resp.Error, "baseline")
	resp = runner(t, q).Run(t.Context(), backend.DataQuery{
		JSON: []byte(`{"queryType":"functions","profileTypeId":"` + cpu + `"}`), TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now},
	}, true)
	require.ErrorContains(t, resp.Error, "alert rule")
}

func TestFunctionSeries(t *testing.T) {
	at := func(ago time.Duration) int64 { return now.Add(-ago).Truncate(15 * time.Second).UnixMilli() }
	q := &querier{functionSeries: &flamelinev1.FunctionSeriesResponse{Series: []*flamelinev1.Series{
		{Function: "encode", Points: []*flamelinev1.Point{{Time: at(2 * time.Minute), Value: 15e9}, {Time: at(time.Minute), Value: 7.5e9}}},
		{Function: "parse", Labels: []*flamelinev1.Label{{Name: "pod", Value: "a"}}, Points: []*flamelinev1.Point{{Time: at(time.Minute), Value: 3e9}}},
	}}}
	model := map[string]any{
		"queryType": "functionSeries", "profileTypeId": cpu, "labelSelector": `{service_name="order"}`, "step": "15s",
		"functions": []string{"encode", "", "parse"}, "groupBy": []string{"pod"}, "limit": 5, "sort": "total",
	}
	resp := ask(t, runner(t, q), time.Hour, model)
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 2)
	first := resp.Frames[0].Fields[1]
	require.Equal(t, "encode", first.Labels["function"])
	require.Equal(t, "encode", first.Config.DisplayNameFromDS)
	require.Equal(t, "cores", first.Config.Unit)
	require.Equal(t, 1., first.At(0))
	require.Equal(t, "a", resp.Frames[1].Fields[1].Labels["pod"])
	asked := q.functionSeriesRequests[0]
	require.Equal(t, []string{"encode", "parse"}, asked.Functions)
	require.Equal(t, []string{"pod"}, asked.GroupBy)
	require.EqualValues(t, 5, asked.Top)
	require.False(t, asked.Own)
	require.EqualValues(t, 15, asked.Step)

	// An alert rule gets the same series, with zeros in all of its window.
	q.series = func(r *querierv1.SelectSeriesRequest) []*typesv1.Series {
		s := &typesv1.Series{}
		for t := r.Start; t <= r.End; t += 15_000 {
			s.Points = append(s.Points, &typesv1.Point{Timestamp: t, Value: 1})
		}
		return []*typesv1.Series{s}
	}
	raw, err := json.Marshal(model)
	require.NoError(t, err)
	resp = runner(t, q).Run(t.Context(), backend.DataQuery{JSON: raw, TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now}}, true)
	require.NoError(t, resp.Error)
	require.Equal(t, 240, resp.Frames[0].Rows())

	resp = ask(t, runner(t, &querier{}), time.Hour, model)
	require.ErrorContains(t, resp.Error, "needs a Flameline server")
}
