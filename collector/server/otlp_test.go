package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // registers it
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/server"
)

const otlpURL = "/v1development/profiles"

// export is a request of OpenTelemetry's own library: two CPU samples of main at
// 20 Hz and a time, of a service.
func export(t testing.TB, service string, at time.Time) pprofileotlp.ExportRequest {
	t.Helper()
	ps := pprofile.NewProfiles()
	d := ps.Dictionary()
	d.StringTable().FromRaw([]string{"", "samples", "count", "cpu", "nanoseconds", "main"})
	for range 2 {
		d.FunctionTable().AppendEmpty()
		d.LocationTable().AppendEmpty()
		d.StackTable().AppendEmpty()
	}
	d.MappingTable().AppendEmpty()
	d.FunctionTable().At(1).SetNameStrindex(5)
	d.LocationTable().At(1).Lines().AppendEmpty().SetFunctionIndex(1)
	d.StackTable().At(1).LocationIndices().Append(1)
	r := ps.ResourceProfiles().AppendEmpty()
	require.NoError(t, r.Resource().Attributes().FromRaw(map[string]any{"service.name": service}))
	p := r.ScopeProfiles().AppendEmpty().Profiles().AppendEmpty()
	p.SetTime(pcommon.NewTimestampFromTime(at))
	p.SampleType().SetTypeStrindex(1)
	p.SampleType().SetUnitStrindex(2)
	p.PeriodType().SetTypeStrindex(3)
	p.PeriodType().SetUnitStrindex(4)
	p.SetPeriod(50e6)
	s := p.Samples().AppendEmpty()
	s.SetStackIndex(1)
	s.TimestampsUnixNano().Append(uint64(at.UnixNano())+1, uint64(at.UnixNano())+2)
	return pprofileotlp.NewExportRequestFromProfiles(ps)
}

// cpuOf is the CPU time that is stored of a service.
func cpuOf(t testing.TB, url, service string) int64 {
	t.Helper()
	now := time.Now()
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	resp, err := q.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="` + service + `"}`,
		Start: now.Add(-time.Hour).UnixMilli(), End: now.Add(time.Minute).UnixMilli(),
	}))
	require.NoError(t, err)
	if resp.Msg.Flamegraph.GetTotal() > 0 {
		require.Equal(t, []string{"total", "main"}, resp.Msg.Flamegraph.Names)
	}
	return resp.Msg.Flamegraph.GetTotal()
}

func dial(t testing.TB, url string) pprofileotlp.GRPCClient {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return pprofileotlp.NewGRPCClient(conn)
}

// exportHTTP sends a body and returns the answer's status, type and text.
func exportHTTP(t testing.TB, url string, body []byte, headers ...string) (int, string, []byte) {
	t.Helper()
	code, header, text := post(t, url+otlpURL, body, headers...)
	return code, header.Get("Content-Type"), text
}

// Exports arrive over gRPC and over HTTP, in every encoding.
func TestOTLPTransports(t *testing.T) {
	url, _ := start(t, defaults)
	at := time.Now().Add(-time.Minute)
	client := dial(t, url)
	_, err := client.Export(t.Context(), export(t, "grpc", at))
	require.NoError(t, err)
	_, err = client.Export(t.Context(), export(t, "grpc-gzip", at), grpc.UseCompressor("gzip"))
	require.NoError(t, err)

	encode := func(service string, json bool) []byte {
		b, err := export(t, service, at).MarshalProto()
		if json {
			b, err = export(t, service, at).MarshalJSON()
		}
		require.NoError(t, err)
		return b
	}
	for _, c := range []struct {
		service, contentType, coding, answerType, answer string
	}{
		{"http", "application/x-protobuf", "", "application/x-protobuf", ""},
		{"http-gzip", "application/x-protobuf", "gzip", "application/x-protobuf", ""},
		{"http-json", "application/json", "", "application/json", "{}"},
		{"http-json-gzip", "application/json; charset=utf-8", "gzip", "application/json", "{}"},
	} {
		body := encode(c.service, strings.Contains(c.contentType, "json"))
		if c.coding != "" {
			body = packed(t, body)
		}
		code, contentType, answer := exportHTTP(t, url, body, "Content-Type", c.contentType, "Content-Encoding", c.coding)
		require.Equal(t, http.StatusOK, code, "%s: %s", c.service, answer)
		assert.Equal(t, c.answerType, contentType)
		assert.Equal(t, c.answer, string(answer))
	}
	for _, service := range []string{"grpc", "grpc-gzip", "http", "http-gzip", "http-json", "http-json-gzip"} {
		assert.Equal(t, int64(100e6), cpuOf(t, url, service), service)
	}
	// A profile without a time is of now.
	_, err = client.Export(t.Context(), export(t, "undated", time.Unix(0, 0)))
	require.NoError(t, err)
	assert.Equal(t, int64(100e6), cpuOf(t, url, "undated"))
	// An empty request is valid.
	_, err = client.Export(t.Context(), pprofileotlp.NewExportRequest())
	require.NoError(t, err)
}

// What is wrong is named, in the form that the protocol asks for, and nothing of
// the request is stored.
func TestOTLPMistakes(t *testing.T) {
	l := defaults
	l.MaxAge, l.MaxRequestBytes = 24*time.Hour, 1<<20
	l.Ingest = ingest.Limits{MaxStackDepth: 8, MaxLabelValueBytes: 16}
	url, _ := start(t, l)
	now := time.Now()
	client := dial(t, url)
	for name, c := range map[string]struct {
		change func(pprofile.Profiles, pprofile.Profile)
		want   string
	}{
		"type": {func(_ pprofile.Profiles, p pprofile.Profile) { p.SampleType().SetTypeStrindex(0) },
			"resource_profiles[0].scope_profiles[0].profiles[0].sample_type: is missing"},
		"string": {func(_ pprofile.Profiles, p pprofile.Profile) { p.SampleType().SetUnitStrindex(99) },
			"profiles[0].sample_type: 99 is outside dictionary.string_table of"},
		"no values": {func(_ pprofile.Profiles, p pprofile.Profile) { p.Samples().At(0).TimestampsUnixNano().FromRaw(nil) },
			"samples[0].values: is empty, and so is timestamps_unix_nano"},
		"negative": {func(_ pprofile.Profiles, p pprofile.Profile) { p.Samples().At(0).Values().Append(-1) }, "samples[0].values[0]: -1 is negative"},
		"stack":    {func(_ pprofile.Profiles, p pprofile.Profile) { p.Samples().At(0).SetStackIndex(7) }, "samples[0].stack_index: 7 is outside dictionary.stack_table of 2"},
		"link":     {func(_ pprofile.Profiles, p pprofile.Profile) { p.Samples().At(0).SetLinkIndex(1) }, "link_index: 1 is outside dictionary.link_table of 0"},
		"attribute": {func(_ pprofile.Profiles, p pprofile.Profile) { p.Samples().At(0).AttributeIndices().Append(4) },
			"attribute_indices[0]: 4 is outside dictionary.attribute_table of 0"},
		"function": {func(ps pprofile.Profiles, _ pprofile.Profile) {
			ps.Dictionary().LocationTable().At(1).Lines().At(0).SetFunctionIndex(5)
		}, "dictionary.location_table[1].lines[0].function_index: 5 is outside function_table of 2"},
		"mapping": {func(ps pprofile.Profiles, _ pprofile.Profile) {
			ps.Dictionary().LocationTable().At(1).SetMappingIndex(-1)
		},
			"dictionary.location_table[1].mapping_index: -1 is outside mapping_table of 1"},
		"depth": {func(ps pprofile.Profiles, _ pprofile.Profile) {
			ps.Dictionary().StackTable().At(1).LocationIndices().Append(make([]int32, 8)...)
		}, "dictionary.stack_table[1].location_indices: 9 locations are more than 8 (limits.max_stack_depth)"},
		"label": {func(ps pprofile.Profiles, _ pprofile.Profile) {
			ps.ResourceProfiles().At(0).Resource().Attributes().PutStr("zone", strings.Repeat("x", 17))
		}, "limits.max_label_value_bytes"},
		"age": {func(_ pprofile.Profiles, p pprofile.Profile) {
			p.SetTime(pcommon.NewTimestampFromTime(now.Add(-48 * time.Hour)))
		}, "time_unix_nano: "},
		"future": {func(_ pprofile.Profiles, p pprofile.Profile) {
			p.SetTime(pcommon.NewTimestampFromTime(now.Add(time.Hour)))
		}, "(limits.max_future)"},
		"overflow": {func(_ pprofile.Profiles, p pprofile.Profile) {
			p.SetPeriod(1 << 62)
			p.Samples().At(0).Values().Append(4)
		}, "is too large"},
	} {
		t.Run(name, func(t *testing.T) {
			req := export(t, "mistaken", now)
			c.change(req.Profiles(), req.Profiles().ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0))
			_, err := client.Export(t.Context(), req)
			assert.Equal(t, codes.InvalidArgument, grpcstatus.Code(err))
			require.ErrorContains(t, err, c.want)

			body, err := req.MarshalProto()
			require.NoError(t, err)
			code, contentType, answer := exportHTTP(t, url, body, "Content-Type", "application/x-protobuf")
			assert.Equal(t, http.StatusBadRequest, code)
			assert.Equal(t, "application/x-protobuf", contentType)
			var s status.Status
			require.NoError(t, proto.Unmarshal(answer, &s))
			assert.Equal(t, int32(codes.InvalidArgument), s.Code)
			assert.Contains(t, s.Message, c.want)
		})
	}
	assert.Zero(t, cpuOf(t, url, "mistaken"))

	code, contentType, answer := exportHTTP(t, url, []byte(`{"resourceProfiles":[}`), "Content-Type", "application/json")
	assert.Equal(t, http.StatusBadRequest, code)
	assert.Equal(t, "application/json", contentType)
	var s status.Status
	require.NoError(t, protojson.Unmarshal(answer, &s))
	assert.Equal(t, int32(codes.InvalidArgument), s.Code)
	assert.Contains(t, s.Message, "decode JSON: ")

	code, _, answer = exportHTTP(t, url, []byte{0x0a, 0x7f}, "Content-Type", "application/x-protobuf")
	assert.Equal(t, http.StatusBadRequest, code)
	assert.Contains(t, string(answer), "resource_profiles[0]: unexpected EOF, at byte 0")
	code, _, answer = exportHTTP(t, url, nil, "Content-Type", "text/plain")
	assert.Equal(t, http.StatusUnsupportedMediaType, code, "%s", answer)
	code, _, answer = exportHTTP(t, url, packed(t, make([]byte, 1<<21)), "Content-Type", "application/json", "Content-Encoding", "gzip")
	assert.Equal(t, http.StatusBadRequest, code)
	assert.Contains(t, string(answer), "limits.max_request_bytes")
	resp, err := http.Get(url + otlpURL)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
}

// Requests before the store is open are refused with unavailable, so that clients try again.
func TestOTLPBeforeOpen(t *testing.T) {
	url := serve(t, server.New(server.Options{}))
	_, err := dial(t, url).Export(t.Context(), export(t, "early", time.Now()))
	assert.Equal(t, codes.Unavailable, grpcstatus.Code(err))
	code, _, _ := exportHTTP(t, url, nil, "Content-Type", "application/x-protobuf")
	assert.Equal(t, http.StatusServiceUnavailable, code)
}

// The spans that samples are linked to can be asked for.
func TestOTLPSpans(t *testing.T) {
	url, _ := start(t, defaults)
	at := time.Now().Add(-time.Minute)
	req := export(t, "traced", at)
	d := req.Profiles().Dictionary()
	d.LinkTable().AppendEmpty()
	link := d.LinkTable().AppendEmpty()
	link.SetSpanID(pcommon.SpanID{0xab, 7: 1})
	link.SetTraceID(pcommon.TraceID{1, 15: 2})
	samples := req.Profiles().ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0).Samples()
	s := samples.AppendEmpty()
	s.SetStackIndex(1)
	s.SetLinkIndex(1)
	s.TimestampsUnixNano().Append(uint64(at.UnixNano()) + 3)
	_, err := dial(t, url).Export(t.Context(), req)
	require.NoError(t, err)
	require.EqualValues(t, 150e6, cpuOf(t, url, "traced"))
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	for _, r := range []*querierv1.SelectMergeStacktracesRequest{
		{SpanSelector: []string{"ab00000000000001"}}, {TraceIdSelector: []string{"01000000000000000000000000000002"}},
	} {
		r.ProfileTypeID, r.LabelSelector, r.Start, r.End = cpu, "{}", at.Add(-time.Minute).UnixMilli(), at.Add(time.Minute).UnixMilli()
		resp, err := q.SelectMergeStacktraces(t.Context(), connect.NewRequest(r))
		require.NoError(t, err)
		require.EqualValues(t, 50e6, resp.Msg.Flamegraph.GetTotal())
	}
}
