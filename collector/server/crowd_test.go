package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
)

// Ten people open a dashboard of 30 panels at once. Every panel is answered, or refused
// with the name of a limit, before its deadline; and all memory is given back.
func TestADashboardOpenedByMany(t *testing.T) {
	const budget = 3 << 20
	reg := prometheus.NewRegistry()
	db, err := store.Open(t.TempDir(), store.Options{QueryBytes: budget, Registerer: reg})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	l := defaults
	l.MaxConcurrentQueries = 8
	srv := server.New(server.Options{Limits: l})
	srv.Open(db)
	address := serve(t, srv)
	for pod := range 10 {
		var b strings.Builder
		for i := range 300 {
			fmt.Fprintf(&b, "main;a%d;b%d;c%d 3\n", i%20, i%70, i*7919%997+pod)
		}
		status, _, answer := post(t, address+"/ingest?"+url.Values{
			"name": {fmt.Sprintf("cart.cpu{pod=%d}", pod)}, "from": {fmt.Sprint(time.Now().Add(-2 * time.Minute).Unix())}, "until": {fmt.Sprint(time.Now().Add(-time.Minute).Unix())},
		}.Encode(), []byte(b.String()))
		require.Equal(t, http.StatusOK, status, answer)
	}
	now := time.Now().UnixMilli()
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	nodes := int64(500)
	panels := []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 3_600_000, End: now, MaxNodes: &nodes}))
			return err
		},
		func(ctx context.Context) error {
			// 10 series of 3600 points take 1 MB of work and more than all with the answer.
			_, err := q.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 3_600_000, End: now, Step: 1, GroupBy: []string{"pod"}}))
			return err
		},
		func(ctx context.Context) error {
			_, err := q.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{
				ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 3_600_000, End: now, Step: 15, ExemplarType: typesv1.ExemplarType_EXEMPLAR_TYPE_INDIVIDUAL,
			}))
			return err
		},
		func(ctx context.Context) error {
			_, err := q.SelectHeatmap(ctx, connect.NewRequest(&querierv1.SelectHeatmapRequest{
				ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 3_600_000, End: now, Step: 15, QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL,
			}))
			return err
		},
		func(ctx context.Context) error {
			_, err := q.SelectMergeProfile(ctx, connect.NewRequest(&querierv1.SelectMergeProfileRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 3_600_000, End: now}))
			return err
		},
		func(ctx context.Context) error {
			_, err := q.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{Name: "pod", Start: now - 3_600_000, End: now}))
			return err
		},
		func(ctx context.Context) error {
			v := url.Values{"query": {cpu + "{}"}, "from": {"now-1h"}, "groupBy": {"pod"}}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/render?"+v.Encode(), nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusOK {
				err = connect.NewError(connect.CodeInternal, fmt.Errorf("%s: %s", resp.Status, body))
				if resp.StatusCode == http.StatusTooManyRequests {
					err = connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%s", body))
				}
			}
			return err
		},
	}
	var answered, refused atomic.Int64
	var g sync.WaitGroup
	for i := range 300 {
		g.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := panels[i%len(panels)](ctx)
			switch {
			case err == nil:
				answered.Add(1)
			case connect.CodeOf(err) == connect.CodeResourceExhausted && strings.Contains(err.Error(), "limits.max_"):
				refused.Add(1)
			default:
				t.Errorf("panel %d: %s", i%len(panels), err)
			}
		})
	}
	g.Wait()
	t.Logf("%d answered, %d refused", answered.Load(), refused.Load())
	require.Positive(t, answered.Load())
	gauges := func() map[string]float64 {
		families, err := reg.Gather()
		require.NoError(t, err)
		out := map[string]float64{}
		for _, f := range families {
			if v := f.GetMetric()[0].GetGauge(); v != nil {
				out[strings.TrimPrefix(f.GetName(), "flameline_store_")] = v.GetValue()
			}
		}
		return out
	}
	// A client may have its answer before the server is done with it.
	require.Eventually(t, func() bool { g := gauges(); return g["query_bytes"] == 0 && g["queries_waiting"] == 0 }, time.Minute, 10*time.Millisecond)
	require.Positive(t, gauges()["query_peak_bytes"])
	require.LessOrEqual(t, gauges()["query_peak_bytes"], float64(budget))
}
