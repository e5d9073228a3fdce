package query_test

import (
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
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
