package server_test

import (
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server/conformance"
)

// The service ledger's profiles have 6, 11 and 16 ms of CPU time in turn.
func TestHeatmap(t *testing.T) {
	url, _ := start(t, defaults)
	base := time.Now().Add(-20 * time.Minute).Truncate(time.Minute).UnixMilli()
	require.NoError(t, conformance.Push(t.Context(), url, base))
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	limit := int64(1)
	req := &querierv1.SelectHeatmapRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="ledger"}`, Start: base, End: base + 8*conformance.Step, Step: 30,
		QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL, GroupBy: []string{"zone"}, Limit: &limit,
	}
	resp, err := q.SelectHeatmap(t.Context(), connect.NewRequest(req))
	require.NoError(t, err)
	require.Len(t, resp.Msg.Series, 1)
	require.Equal(t, "eu-1", resp.Msg.Series[0].Labels[0].Value)
	var slots [][4]int64 // time after base in s, counts of the first, the middle and the last row
	for _, s := range resp.Msg.Series[0].Slots {
		require.Len(t, s.YMin, 20)
		require.InDelta(t, 6e6, s.YMin[0], 0)
		require.InDelta(t, 11e6, s.YMin[10], 0)
		slots = append(slots, [4]int64{(s.Timestamp - base) / 1000, int64(s.Counts[0]), int64(s.Counts[10]), int64(s.Counts[19])})
	}
	require.Equal(t, [][4]int64{{30, 1, 1, 0}, {60, 1, 0, 1}, {90, 0, 1, 1}, {120, 1, 1, 0}}, slots)

	req.LabelSelector = "{}"
	resp, err = q.SelectHeatmap(t.Context(), connect.NewRequest(req))
	require.NoError(t, err)
	require.Len(t, resp.Msg.Series, 1)
	require.Empty(t, resp.Msg.Series[0].Labels, "the series with the most profiles is the one without a zone")
}
