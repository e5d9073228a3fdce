package server_test

import (
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/flameline/flameline/collector/server/conformance"
)

const cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// h2c is a client of HTTP/2 without TLS, as gRPC needs it.
func h2c() *http.Client {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: t}
}

// Every method answers over every protocol, with and without compression.
func TestEveryMethodOverEveryProtocol(t *testing.T) {
	ctx := t.Context()
	base := time.Now().Add(-20 * time.Minute).Truncate(time.Minute).UnixMilli()
	end := base + conformance.Count*conformance.Step
	for name, p := range map[string]struct {
		http    *http.Client
		options []connect.ClientOption
	}{
		"Connect":             {http.DefaultClient, nil},
		"Connect, JSON":       {http.DefaultClient, []connect.ClientOption{connect.WithProtoJSON()}},
		"Connect, compressed": {http.DefaultClient, []connect.ClientOption{connect.WithSendGzip()}},
		"Connect over HTTP/2": {h2c(), nil},
		"gRPC":                {h2c(), []connect.ClientOption{connect.WithGRPC()}},
		"gRPC, compressed":    {h2c(), []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
		"gRPC-web":            {http.DefaultClient, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := start(t, defaults)
			push := pushv1connect.NewPusherServiceClient(p.http, url, p.options...)
			for _, req := range conformance.Corpus(base) {
				_, err := push.Push(ctx, connect.NewRequest(req))
				require.NoError(t, err)
			}
			q := querierv1connect.NewQuerierServiceClient(p.http, url, p.options...)
			merge := &querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: base, End: end}

			types, err := q.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{}))
			require.NoError(t, err)
			require.Len(t, types.Msg.ProfileTypes, 10)
			names, err := q.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{}))
			require.NoError(t, err)
			require.Contains(t, names.Msg.Names, "service_name")
			values, err := q.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{Name: "service_name"}))
			require.NoError(t, err)
			require.Equal(t, []string{"bare", "cart", "ledger", "städte", "unknown_service"}, values.Msg.Names)
			sets, err := q.Series(ctx, connect.NewRequest(&querierv1.SeriesRequest{LabelNames: []string{"pod"}, Matchers: []string{`{pod=~".+"}`}}))
			require.NoError(t, err)
			require.Len(t, sets.Msg.LabelsSet, 2)
			flame, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(merge))
			require.NoError(t, err)
			require.EqualValues(t, 4_339_000_000-16_000_000, flame.Msg.Flamegraph.Total)
			span, err := q.SelectMergeSpanProfile(ctx, connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{ProfileTypeID: cpu, Start: base, End: end}))
			require.NoError(t, err)
			require.Equal(t, flame.Msg.Flamegraph.Total, span.Msg.Flamegraph.Total)
			pp, err := q.SelectMergeProfile(ctx, connect.NewRequest(&querierv1.SelectMergeProfileRequest{ProfileTypeID: cpu, Start: base, End: end}))
			require.NoError(t, err)
			var sum int64
			for _, s := range pp.Msg.Sample {
				sum += s.Value[0]
			}
			require.Equal(t, flame.Msg.Flamegraph.Total, sum)
			series, err := q.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{ProfileTypeID: cpu, Start: base, End: end, Step: 15}))
			require.NoError(t, err)
			require.Len(t, series.Msg.Series, 1)
			require.Len(t, series.Msg.Series[0].Points, conformance.Count)
			diff, err := q.Diff(ctx, connect.NewRequest(&querierv1.DiffRequest{Left: merge, Right: merge}))
			require.NoError(t, err)
			require.Equal(t, diff.Msg.Flamegraph.LeftTicks, diff.Msg.Flamegraph.RightTicks)
			stats, err := q.GetProfileStats(ctx, connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
			require.NoError(t, err)
			require.Equal(t, base+1, stats.Msg.OldestProfileTime)
			require.Equal(t, base+(conformance.Count-1)*conformance.Step+5001, stats.Msg.NewestProfileTime)
			analysis, err := q.AnalyzeQuery(ctx, connect.NewRequest(&querierv1.AnalyzeQueryRequest{Query: `{pod="cart-1"}`, Start: base, End: end}))
			require.NoError(t, err)
			require.EqualValues(t, 6, analysis.Msg.QueryImpact.TotalQueriedSeries)
			heatmap, err := q.SelectHeatmap(ctx, connect.NewRequest(&querierv1.SelectHeatmapRequest{
				ProfileTypeID: cpu, Start: base, End: end, Step: 15, QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL,
			}))
			require.NoError(t, err)
			require.Len(t, heatmap.Msg.Series, 1)
			require.Len(t, heatmap.Msg.Series[0].Slots, conformance.Count)

			_, err = q.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: "cpu", Start: base, End: end}))
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
			require.ErrorContains(t, err, "profile_typeID: ")
		})
	}
}

// Clients of Google's own gRPC find the health service and the reflection.
func TestHealthAndReflection(t *testing.T) {
	url, _ := start(t, defaults)
	conn, err := grpc.NewClient(url[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	h, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: querierv1connect.QuerierServiceName})
	require.NoError(t, err)
	require.EqualValues(t, grpchealth.StatusServing, h.Status)

	stream := grpcreflect.NewClient(h2c(), url, connect.WithGRPC()).NewStream(t.Context())
	services, err := stream.ListServices()
	require.NoError(t, err)
	require.Contains(t, services, protoreflect.FullName(querierv1connect.QuerierServiceName))
	_, err = stream.Close()
	require.NoError(t, err)
}
