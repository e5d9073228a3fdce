package plugin_test

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flameline/flameline/pkg/plugin"
)

func (q *querier) SelectMergeStacktraces(context.Context, *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	if !q.graphs {
		return nil, connect.NewError(connect.CodeUnimplemented, nil)
	}
	return connect.NewResponse(&querierv1.SelectMergeStacktracesResponse{Flamegraph: &querierv1.FlameGraph{
		Names: []string{"total", "main", "parse"}, Total: 7, MaxSelf: 5,
		Levels: []*querierv1.Level{{Values: []int64{0, 7, 0, 0}}, {Values: []int64{0, 7, 2, 1}}, {Values: []int64{0, 5, 5, 2}}},
	}}), nil
}

func (q *querier) SelectSeries(context.Context, *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	return connect.NewResponse(&querierv1.SelectSeriesResponse{Series: []*typesv1.Series{{
		Labels: []*typesv1.LabelPair{{Name: "service_name", Value: "order"}}, Points: []*typesv1.Point{{Timestamp: q.newest, Value: 1e9}},
	}}}), nil
}

// What Grafana decodes from the plugin's gRPC service are the data source's own frames.
func TestFramesOverGRPC(t *testing.T) {
	plugin.EncodeFrames()
	now := time.Now().Truncate(15 * time.Second)
	ds, pc := start(t, &querier{graphs: true, newest: now.Add(-time.Minute).UnixMilli()}, "")
	opts, err := backend.GRPCServeOpts(backend.ServeOpts{QueryDataHandler: ds})
	require.NoError(t, err)
	server := grpc.NewServer()
	pluginv2.RegisterDataServer(server, opts.DataServer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })

	tr := backend.TimeRange{From: now.Add(-time.Hour), To: now}
	req := &backend.QueryDataRequest{PluginContext: pc, Queries: []backend.DataQuery{
		{RefID: "A", TimeRange: tr, JSON: json.RawMessage(`{"queryType":"both","profileTypeId":"` + cpu + `"}`)},
		{RefID: "B", TimeRange: tr, JSON: json.RawMessage(`{"queryType":"both","profileTypeId":"` + cpu + `","maxNodes":5}`)},
		{RefID: "C", TimeRange: tr, JSON: json.RawMessage(`{"queryType":"profile","profileTypeId":"` + cpu + `","labelSelector":"{"}`)},
	}}
	want, err := ds.QueryData(t.Context(), req)
	require.NoError(t, err)
	for _, format := range []backend.DataFrameFormat{backend.DataFrameFormat_ARROW, backend.DataFrameFormat_JSON} {
		req.Format = format
		got, err := pluginv2.NewDataClient(conn).QueryData(t.Context(), backend.ToProto().QueryDataRequest(req))
		require.NoError(t, err)
		decoded, err := backend.FromProto().QueryDataResponse(got)
		require.NoError(t, err)
		require.ErrorContains(t, decoded.Responses["C"].Error, "labelSelector")
		require.Equal(t, backend.StatusBadRequest, decoded.Responses["C"].Status)
		for _, refID := range []string{"A", "B"} {
			require.Len(t, decoded.Responses[refID].Frames, 2, "a flame graph and a series")
			require.Equal(t, data.VisType(data.VisTypeFlameGraph), decoded.Responses[refID].Frames[0].Meta.PreferredVisualization)
			for i, f := range decoded.Responses[refID].Frames {
				require.Equal(t, refID, f.RefID)
				want.Responses[refID].Frames[i].RefID = refID
				a, err := json.Marshal(want.Responses[refID].Frames[i])
				require.NoError(t, err)
				b, err := json.Marshal(f)
				require.NoError(t, err)
				require.JSONEq(t, string(a), string(b))
			}
		}
	}
}
