package query_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

func (q *querier) FlameGraph(_ context.Context, r *connect.Request[flamelinev1.FlameGraphRequest]) (*connect.Response[flamelinev1.FlameGraphResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flameGraphRequests = append(q.flameGraphRequests, r.Msg)
	return connect.NewResponse(q.flameGraph), q.err
}

func viewModel(view map[string]any, more ...any) map[string]any {
	m := map[string]any{"queryType": "profile", "profileTypeId": cpu, "labelSelector": `{service_name="order"}`, "view": view}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

// rows are a flame graph's rows as level, name, value and own value.
func rows(t *testing.T, f *data.Frame) (out [][]any) {
	t.Helper()
	level, value, self := column(t, f, "level"), column(t, f, "value"), column(t, f, "self")
	label, _ := f.FieldByName("label")
	for i := range level {
		out = append(out, []any{int(level[i]), label.Config.TypeConfig.Enum.Text[label.At(i).(data.EnumItemIndex)], value[i], self[i]})
	}
	return out
}

// The server is asked with all options, and its answer is drawn with the whole as the root.
func TestView(t *testing.T) {
	q := &querier{flameGraph: &flamelinev1.FlameGraphResponse{
		Names: []string{"total", "pod=a", "encode", "other"}, Parents: []int32{-1, 0, 1, 1}, Functions: []int32{0, 1, 2, 3},
		Own: []int64{60, 0, 25, 15}, Rest: 3, ExactFunctions: true, HasSamples: true,
	}}
	resp := ask(t, runner(t, q), time.Hour, viewModel(map[string]any{
		"groupBy": []string{"pod", ""}, "focus": "a", "ignore": "b", "hide": "file:c", "showFrom": "d", "fold": []string{"netty"},
		"function": "f", "collapseRecursion": true, "reverse": true, "maxDepth": 7,
	}, "unit", "samples", "maxNodes", 50, "spanSelector", []string{"0123456789abcdef"}))
	require.NoError(t, resp.Error)
	f := resp.Frames[0]
	require.Equal(t, [][]any{{0, "total", 100., 60.}, {1, "pod=a", 40., 0.}, {2, "encode", 25., 25.}, {2, "(not shown)", 15., 15.}}, rows(t, f))
	value, _ := f.FieldByName("value")
	require.Equal(t, "short", value.Config.Unit)
	require.Equal(t, []string{"Shown are 40 % of the total. The root has the whole, so shares are those of everything that is selected."}, noticeTexts(f))
	asked := q.flameGraphRequests[0]
	want := &flamelinev1.View{
		GroupBy: []string{"pod"}, Focus: "a", Ignore: "b", Hide: "file:c", ShowFrom: "d", Fold: []string{"netty"},
		Function: "f", CollapseRecursion: true, Reverse: true, MaxDepth: 7, Samples: true,
	}
	require.Equal(t, want.String(), asked.View.String())
	require.EqualValues(t, 50, asked.MaxNodes)
	require.Equal(t, []string{"0123456789abcdef"}, asked.SpanSelector)

	q.flameGraph.HasSamples, q.flameGraph.ExactFunctions = false, false
	resp = ask(t, runner(t, q), time.Hour, viewModel(nil, "unit", "samples"))
	require.NoError(t, resp.Error)
	require.Contains(t, noticeTexts(resp.Frames[0])[0], "do not say how many samples")
	require.Contains(t, noticeTexts(resp.Frames[0])[2], "left out calls")

	q.tree = stacks(map[string]int64{"encode": 3})
	require.NoError(t, ask(t, runner(t, q), time.Hour, viewModel(map[string]any{}, "unit", "percent")).Error)
	require.Len(t, q.flameGraphRequests, 2, "percent needs no other flame graph")
}

// The frame of a comparison is the same, but for its values, as without options.
func TestViewOfComparison(t *testing.T) {
	q := &querier{flameGraph: &flamelinev1.FlameGraphResponse{
		Names: []string{"total", "main", "encode"}, Parents: []int32{-1, 0, 1}, Functions: []int32{0, 1, 2},
		Own: []int64{5, 0, 15}, BaselineOwn: []int64{30, 10, 0},
	}}
	model := times(time.Hour, cpu)
	model["view"], model["unit"] = map[string]any{"focus": "main"}, "percent"
	resp := ask(t, runner(t, q), time.Hour, model)
	require.NoError(t, resp.Error)
	got, err := json.MarshalIndent(resp.Frames[0], "", "  ")
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/view.json")
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
	asked := q.flameGraphRequests[0]
	require.Equal(t, now.UnixMilli(), asked.Selection.End)
	require.Equal(t, now.Add(-48*time.Hour).UnixMilli(), asked.Baseline.Start)
}

func TestPercent(t *testing.T) {
	q := &querier{tree: stacks(map[string]int64{"encode": 3, "parse": 5}), functions: &flamelinev1.FunctionsResponse{
		Functions: []*flamelinev1.Function{{Name: "encode", Own: sampled(18e9, 0), Total: sampled(36e9, 0)}}, Total: sampled(72e9, 0), Count: 1,
	}}
	f := ask(t, runner(t, q), time.Hour, viewModel(nil, "unit", "percent")).Frames[0]
	value, _ := f.FieldByName("value")
	require.Equal(t, "percent", value.Config.Unit)
	require.Equal(t, [][]any{{0, "total", 100., 0.}, {1, "main", 100., 0.}, {2, "encode", 37.5, 37.5}, {2, "parse", 62.5, 62.5}}, rows(t, f))
	f = ask(t, runner(t, q), time.Hour, viewModel(nil, "unit", "percent", "queryType", "functions")).Frames[0]
	require.InDeltaSlice(t, []float64{25}, column(t, f, "Own"), 1e-9)
	require.InDeltaSlice(t, []float64{50}, column(t, f, "Total"), 1e-9)
}

// The flame graph of a Pyroscope server is changed here, and the result says so.
func TestViewOfPyroscope(t *testing.T) {
	q := &querier{tree: stacks(map[string]int64{"encode": 3, "parse": 5, "other": 2})}
	r := runner(t, q)
	f := ask(t, r, time.Hour, viewModel(map[string]any{"focus": "^encode$", "reverse": true})).Frames[0]
	require.Equal(t, [][]any{{0, "total", 10., 7.}, {1, "encode", 3., 0.}, {2, "main", 3., 3.}}, rows(t, f))
	require.Contains(t, noticeTexts(f)[0], "Shown are 30 %")
	require.Contains(t, noticeTexts(f)[1], "only the largest calls")

	q.diff = profile.Diff(stacks(map[string]int64{"old": 6, "same": 2}), stacks(map[string]int64{"new": 4, "same": 2}))
	model := viewModel(map[string]any{"hide": "main"}, "queryType", "comparison")
	f = ask(t, r, time.Hour, model).Frames[0]
	require.Equal(t, 4, f.Rows())
	require.InDeltaSlice(t, []float64{6, 4, 0, 2}, column(t, f, "valueRight"), 0)

	// Values of labels have a flame graph each; what they lack of the whole is not shown.
	q.tree = stacks(map[string]int64{"encode": 3})
	q.series = func(r *querierv1.SelectSeriesRequest) []*typesv1.Series {
		require.Equal(t, []string{"pod"}, r.GroupBy)
		return []*typesv1.Series{{Labels: []*typesv1.LabelPair{{Name: "pod", Value: "a"}}, Points: []*typesv1.Point{{Timestamp: r.End, Value: 3}}}}
	}
	q.profiles = nil
	f = ask(t, r, time.Hour, viewModel(map[string]any{"groupBy": []string{"pod"}})).Frames[0]
	require.Equal(t, [][]any{{0, "total", 3., 0.}, {1, "pod=a", 3., 0.}, {2, "main", 3., 0.}, {3, "encode", 3., 3.}}, rows(t, f))
	require.Equal(t, `{service_name="order",pod="a"}`, q.profiles[1].LabelSelector)

	f = ask(t, r, time.Hour, viewModel(nil, "unit", "samples")).Frames[0]
	value, _ := f.FieldByName("value")
	require.Equal(t, "short", value.Config.Unit)
	require.Equal(t, "process_cpu:samples:count:cpu:nanoseconds", q.profiles[len(q.profiles)-1].ProfileTypeID)

	resp := ask(t, r, time.Hour, viewModel(map[string]any{"showFrom": "file:x"}))
	require.ErrorContains(t, resp.Error, "view.showFrom: files and binaries")
}

func TestViewRefused(t *testing.T) {
	for want, model := range map[string]map[string]any{
		"view.focus: error parsing":      viewModel(map[string]any{"focus": "("}),
		"view.maxDepth: -1 is below 0":   viewModel(map[string]any{"maxDepth": -1}),
		"view.showFrom: the regular":     viewModel(map[string]any{"showFrom": "file:"}),
		"view.groupBy: 5 labels":         viewModel(map[string]any{"groupBy": []string{"a", "b", "c", "d", "e"}}),
		"view.fold: want []string":       viewModel(map[string]any{"fold": "netty"}),
		`unit: "hours" is not one of`:    viewModel(nil, "unit", "hours"),
		`view.fold: "nettle" is not one`: viewModel(map[string]any{"fold": []string{"nettle"}}),
	} {
		resp := ask(t, runner(t, &querier{}), time.Hour, model)
		require.ErrorContains(t, resp.Error, want)
	}
}

// A broken answer is an error.
func TestViewOfBrokenServer(t *testing.T) {
	for want, m := range map[string]*flamelinev1.FlameGraphResponse{
		"call 1: caller 1":    {Names: []string{"total"}, Parents: []int32{-1, 1}, Functions: []int32{0, 0}, Own: []int64{0, 1}},
		"call 0: name 3 of 1": {Names: []string{"total"}, Parents: []int32{-1}, Functions: []int32{3}, Own: []int64{0}},
		"negative value":      {Names: []string{"total"}, Parents: []int32{-1}, Functions: []int32{0}, Own: []int64{-1}},
		"2 and 0 own values":  {Names: []string{"total"}, Parents: []int32{-1}, Functions: []int32{0}, Own: []int64{0, 1}},
		"rest: name 9 of 1":   {Names: []string{"total"}, Rest: 9},
	} {
		resp := ask(t, runner(t, &querier{flameGraph: m}), time.Hour, viewModel(map[string]any{"reverse": true}))
		require.ErrorContains(t, resp.Error, want)
	}
}
