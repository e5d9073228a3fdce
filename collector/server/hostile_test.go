package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// Without limits of ranges and points, times at the ends of what fits into an int64,
// and steps that are no numbers, are answered or refused as a mistake.
func TestHostileTimes(t *testing.T) {
	l := defaults
	l.MaxPoints, l.MaxQueryRange = 0, 0
	address, _ := start(t, l)
	pushTypes(t, address, "cart", cpu, "memory:inuse_space:bytes:space:bytes")
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	ctx := t.Context()
	times := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, time.Now().UnixMilli(), math.MaxInt64 / 10_000_000, time.Now().UnixNano(), math.MaxInt64 - 1, math.MaxInt64}
	steps := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 5e-324, 0.001, 15, math.MaxInt64, math.MaxFloat64}
	ranges := func(call func(start, end int64) error, name string) {
		for _, start := range times {
			for _, end := range times {
				err := call(start, end)
				if err == nil {
					continue
				}
				require.Contains(t, []connect.Code{connect.CodeInvalidArgument}, connect.CodeOf(err), "%s from %d to %d: %s", name, start, end, err)
			}
		}
	}
	stepped := func(call func(start, end int64, step float64) error, name string) {
		for _, step := range steps {
			ranges(func(start, end int64) error { return call(start, end, step) }, fmt.Sprint(name, " with step ", step))
		}
	}
	for _, typ := range []string{cpu, "memory:inuse_space:bytes:space:bytes"} {
		stepped(func(start, end int64, step float64) error {
			_, err := q.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{
				ProfileTypeID: typ, LabelSelector: "{}", Start: start, End: end, Step: step, ExemplarType: typesv1.ExemplarType_EXEMPLAR_TYPE_INDIVIDUAL,
			}))
			return err
		}, "SelectSeries")
		stepped(func(start, end int64, step float64) error {
			_, err := q.SelectHeatmap(ctx, connect.NewRequest(&querierv1.SelectHeatmapRequest{
				ProfileTypeID: typ, LabelSelector: "{}", Start: start, End: end, Step: step, QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL,
			}))
			return err
		}, "SelectHeatmap")
		ranges(func(start, end int64) error {
			_, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: typ, LabelSelector: "{}", Start: start, End: end}))
			return err
		}, "SelectMergeStacktraces")
		ranges(func(start, end int64) error {
			resp, err := q.SelectMergeProfile(ctx, connect.NewRequest(&querierv1.SelectMergeProfileRequest{ProfileTypeID: typ, LabelSelector: "{}", Start: start, End: end}))
			if err == nil {
				require.Equal(t, end*1e6, resp.Msg.TimeNanos)
				require.GreaterOrEqual(t, resp.Msg.DurationNanos, int64(0))
			}
			return err
		}, "SelectMergeProfile")
	}
	ranges(func(start, end int64) error {
		_, err := q.SelectMergeSpanProfile(ctx, connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: start, End: end, SpanSelector: []string{"9a517183f26a089d"}}))
		return err
	}, "SelectMergeSpanProfile")
	ranges(func(start, end int64) error {
		side := &querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: start, End: end}
		_, err := q.Diff(ctx, connect.NewRequest(&querierv1.DiffRequest{Left: side, Right: side}))
		return err
	}, "Diff")
	ranges(func(start, end int64) error {
		_, err := q.Series(ctx, connect.NewRequest(&querierv1.SeriesRequest{Start: start, End: end}))
		return err
	}, "Series")
	ranges(func(start, end int64) error {
		_, err := q.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{Start: start, End: end}))
		return err
	}, "LabelNames")
	ranges(func(start, end int64) error {
		_, err := q.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{Name: "service_name", Start: start, End: end}))
		return err
	}, "LabelValues")
	ranges(func(start, end int64) error {
		_, err := q.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{Start: start, End: end}))
		return err
	}, "ProfileTypes")
	ranges(func(start, end int64) error {
		_, err := q.AnalyzeQuery(ctx, connect.NewRequest(&querierv1.AnalyzeQueryRequest{Query: "{}", Start: start, End: end}))
		return err
	}, "AnalyzeQuery")

	texts := []string{"now", "now-9999999y", "now+9999999y", "now-9999999M/y", "0", "-1", "1e400", "NaN", fmt.Sprint(int64(math.MaxInt64)), fmt.Sprint(int64(math.MinInt64)), "99999999999999", "16780101", "2262-01-01", "now" + strings.Repeat("-9999999y", 300)}
	for _, from := range texts {
		for _, until := range texts {
			v := url.Values{"query": {cpu + "{}"}, "from": {from}, "until": {until}, "groupBy": {"service_name"}}
			resp, err := http.Get(address + "/render?" + v.Encode())
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, resp.StatusCode, "from %s until %s: %s", from, until, body)
		}
	}
}

// The number of points of an endless range is one more than an int64 holds. It is a
// mistake of the request, which names the field.
func TestEndlessSeriesAreRefused(t *testing.T) {
	l := defaults
	l.MaxPoints, l.MaxQueryRange = 0, 0
	address, _ := start(t, l)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	for end, want := range map[int64]string{
		math.MaxInt64:              "start/end: 9223372036854775807 is past the last time that can be shown",
		time.Now().UnixNano():      "is it in µs or ns?",
		math.MaxInt64 / 10_000_000: "points a series, more than 1048576",
	} {
		_, err := q.SelectSeries(t.Context(), connect.NewRequest(&querierv1.SelectSeriesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: -1, End: end, Step: 0.001}))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
		require.ErrorContains(t, err, want)
	}
}

// A broken store lets a test see what becomes of a panic.
type broken struct{ *store.DB }

func (broken) Tree(context.Context, store.Selection, []string) (*profile.Tree, error) {
	panic("secret of a customer")
}

func (broken) Values(context.Context, store.ValuesRequest) ([]store.Values, error) {
	return []store.Values{{Values: []store.Value{{Time: 1, Value: 1}}}}, fmt.Errorf("read: %w", store.ErrInternal)
}

// A lockedLog is a log that is read while it may be written.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestPanicsAreErrorsOfTheirRequest(t *testing.T) {
	reg := prometheus.NewRegistry()
	log := &lockedLog{}
	srv := server.New(server.Options{Registerer: reg, Logger: slog.New(slog.NewTextHandler(log, nil))})
	srv.Handle("/broken", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret of a customer") }))
	srv.Open(broken{})
	address := serve(t, srv)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)

	_, err := q.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to}))
	require.Equal(t, connect.CodeInternal, connect.CodeOf(err))
	require.ErrorContains(t, err, "internal error")
	require.NotContains(t, err.Error(), "secret")
	_, err = q.SelectHeatmap(t.Context(), connect.NewRequest(&querierv1.SelectHeatmapRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to, Step: 15, QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL}))
	require.Equal(t, connect.CodeInternal, connect.CodeOf(err))

	resp, err := http.Get(address + "/render?" + url.Values{"query": {cpu + "{}"}, "format": {"collapsed"}}.Encode())
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	require.NotContains(t, string(body), "secret")

	if resp, err := http.Post(address+"/broken", "text/plain", strings.NewReader("x")); err == nil {
		_ = resp.Body.Close()
		require.Fail(t, "the connection did not end")
	}
	// The connection ends before its panic is counted and logged.
	require.Eventually(t, func() bool { return strings.Count(log.String(), "secret of a customer") == 3 }, time.Minute, time.Millisecond, "%s", log)
	require.GreaterOrEqual(t, strings.Count(log.String(), "stack="), 3)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP flameline_server_panics_total Requests that ended in a panic, which is a bug; the log has the stack.
# TYPE flameline_server_panics_total counter
flameline_server_panics_total 3
`), "flameline_server_panics_total"))
}
