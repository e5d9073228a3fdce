package query_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

const cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// now is the clock of these tests, no multiple of any step.
var now = time.Date(2026, 11, 23, 12, 0, 7, 0, time.UTC)

// querier answers from memory, and keeps what it was asked.
type querier struct {
	querierv1connect.UnimplementedQuerierServiceHandler

	tree   *profile.Tree
	diff   *profile.DiffTree // of a comparison
	header http.Header       // of flame graphs
	series func(*querierv1.SelectSeriesRequest) []*typesv1.Series
	rows   []labels.Labels // of the profiles, for names and values
	types  []string
	err    error
	other  bool // whether the server has no status page of Flameline

	// functions are the answer of a Flameline server; without, the server has no such call.
	functions *flamelinev1.FunctionsResponse

	functionSeries         *flamelinev1.FunctionSeriesResponse
	functionSeriesRequests []*flamelinev1.FunctionSeriesRequest

	offsets         *flamelinev1.OffsetsResponse
	offsetsRequests []*flamelinev1.OffsetsRequest

	flameGraph         *flamelinev1.FlameGraphResponse
	flameGraphRequests []*flamelinev1.FlameGraphRequest

	mu               sync.Mutex
	functionRequests []*flamelinev1.FunctionsRequest
	asked            []http.Header // for flame graphs
	profiles         []*querierv1.SelectMergeStacktracesRequest
	selects          []*querierv1.SelectSeriesRequest
	spans            []*querierv1.SelectMergeSpanProfileRequest
	diffs            []*querierv1.DiffRequest
}

func (q *querier) graph() *querierv1.FlameGraph {
	if q.tree == nil {
		return nil
	}
	f := q.tree.Flamegraph()
	g := &querierv1.FlameGraph{Names: f.Names, Total: f.Total, MaxSelf: f.MaxSelf}
	for _, l := range f.Levels {
		g.Levels = append(g.Levels, &querierv1.Level{Values: l})
	}
	return g
}

func (q *querier) SelectMergeStacktraces(_ context.Context, r *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.profiles, q.asked = append(q.profiles, r.Msg), append(q.asked, r.Header())
	resp := connect.NewResponse(&querierv1.SelectMergeStacktracesResponse{Flamegraph: q.graph()})
	maps.Copy(resp.Header(), q.header)
	return resp, q.err
}

func (q *querier) SelectMergeSpanProfile(_ context.Context, r *connect.Request[querierv1.SelectMergeSpanProfileRequest]) (*connect.Response[querierv1.SelectMergeSpanProfileResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spans, q.asked = append(q.spans, r.Msg), append(q.asked, r.Header())
	resp := connect.NewResponse(&querierv1.SelectMergeSpanProfileResponse{Flamegraph: q.graph()})
	maps.Copy(resp.Header(), q.header)
	return resp, q.err
}

func (q *querier) Diff(_ context.Context, r *connect.Request[querierv1.DiffRequest]) (*connect.Response[querierv1.DiffResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.diffs, q.asked = append(q.diffs, r.Msg), append(q.asked, r.Header())
	resp := connect.NewResponse(&querierv1.DiffResponse{})
	if q.diff != nil {
		f := q.diff.Flamegraph()
		g := &querierv1.FlameGraphDiff{Names: f.Names, Total: f.Total, MaxSelf: f.MaxSelf, LeftTicks: f.LeftTicks, RightTicks: f.RightTicks}
		for _, l := range f.Levels {
			g.Levels = append(g.Levels, &querierv1.Level{Values: l})
		}
		resp.Msg.Flamegraph = g
	}
	maps.Copy(resp.Header(), q.header)
	return resp, q.err
}

func (q *querier) SelectSeries(_ context.Context, r *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.selects = append(q.selects, r.Msg)
	resp := &querierv1.SelectSeriesResponse{}
	if q.series != nil {
		resp.Series = q.series(r.Msg)
	}
	return connect.NewResponse(resp), q.err
}

func (q *querier) ProfileTypes(context.Context, *connect.Request[querierv1.ProfileTypesRequest]) (*connect.Response[querierv1.ProfileTypesResponse], error) {
	resp := &querierv1.ProfileTypesResponse{}
	for _, id := range q.types {
		resp.ProfileTypes = append(resp.ProfileTypes, &typesv1.ProfileType{ID: id})
	}
	return connect.NewResponse(resp), q.err
}

func (q *querier) LabelNames(context.Context, *connect.Request[typesv1.LabelNamesRequest]) (*connect.Response[typesv1.LabelNamesResponse], error) {
	resp := &typesv1.LabelNamesResponse{Names: []string{"__profile_type__"}}
	for _, row := range q.rows {
		row.Range(func(l labels.Label) {
			if !slices.Contains(resp.Names, l.Name) {
				resp.Names = append(resp.Names, l.Name)
			}
		})
	}
	return connect.NewResponse(resp), q.err
}

func (q *querier) LabelValues(_ context.Context, r *connect.Request[typesv1.LabelValuesRequest]) (*connect.Response[typesv1.LabelValuesResponse], error) {
	ms, err := profile.ParseSelector(r.Msg.Matchers[0])
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	resp := &typesv1.LabelValuesResponse{}
	for _, row := range q.rows {
		match := !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(row.Get(m.Name)) })
		if v := row.Get(r.Msg.Name); match && v != "" {
			resp.Names = append(resp.Names, v)
		}
	}
	return connect.NewResponse(resp), q.err
}

func (q *querier) Functions(_ context.Context, r *connect.Request[flamelinev1.FunctionsRequest]) (*connect.Response[flamelinev1.FunctionsResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.functionRequests = append(q.functionRequests, r.Msg)
	return connect.NewResponse(q.functions), q.err
}

func (q *querier) FunctionSeries(_ context.Context, r *connect.Request[flamelinev1.FunctionSeriesRequest]) (*connect.Response[flamelinev1.FunctionSeriesResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.functionSeriesRequests = append(q.functionSeriesRequests, r.Msg)
	return connect.NewResponse(q.functionSeries), q.err
}

func (q *querier) Offsets(_ context.Context, r *connect.Request[flamelinev1.OffsetsRequest]) (*connect.Response[flamelinev1.OffsetsResponse], error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.offsetsRequests = append(q.offsetsRequests, r.Msg)
	return connect.NewResponse(q.offsets), q.err
}

func runner(t testing.TB, q *querier) *query.Runner {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(q))
	if q.functions != nil || q.functionSeries != nil || q.offsets != nil || q.flameGraph != nil {
		mux.Handle(flamelinev1connect.NewQueryServiceHandler(q))
	}
	if !q.other {
		mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"service":"flameline"}`))
		})
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &query.Runner{
		Client:  client.New(srv.Client(), srv.URL),
		MinStep: 15 * time.Second,
		Now:     func() time.Time { return now },
	}
}

// ask runs a query over [now-ago, now].
func ask(t *testing.T, r *query.Runner, ago time.Duration, model map[string]any) backend.DataResponse {
	t.Helper()
	raw, err := json.Marshal(model)
	require.NoError(t, err)
	return r.Run(t.Context(), backend.DataQuery{
		RefID: "A", JSON: raw, Interval: time.Second,
		TimeRange: backend.TimeRange{From: now.Add(-ago), To: now},
	}, false)
}
