package web_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/web"
)

const cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// api is a query API with one CPU profile of the service order. Asked for the
// service slow, it answers when the request has ended.
type api struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	started, ended chan error
}

func (a api) SelectMergeStacktraces(ctx context.Context, r *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	if strings.Contains(r.Msg.LabelSelector, "slow") {
		a.started <- nil
		<-ctx.Done()
		a.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	return connect.NewResponse(&querierv1.SelectMergeStacktracesResponse{Flamegraph: &querierv1.FlameGraph{
		Names: []string{"total", "größe"}, Total: 7, MaxSelf: 7,
		Levels: []*querierv1.Level{{Values: []int64{0, 7, 0, 0}}, {Values: []int64{0, 7, 7, 1}}},
	}}), nil
}

func (api) ProfileTypes(context.Context, *connect.Request[querierv1.ProfileTypesRequest]) (*connect.Response[querierv1.ProfileTypesResponse], error) {
	return connect.NewResponse(&querierv1.ProfileTypesResponse{ProfileTypes: []*typesv1.ProfileType{{ID: cpu}}}), nil
}

func (api) LabelNames(context.Context, *connect.Request[typesv1.LabelNamesRequest]) (*connect.Response[typesv1.LabelNamesResponse], error) {
	return connect.NewResponse(&typesv1.LabelNamesResponse{Names: []string{"service_name"}}), nil
}

func (api) LabelValues(context.Context, *connect.Request[typesv1.LabelValuesRequest]) (*connect.Response[typesv1.LabelValuesResponse], error) {
	return connect.NewResponse(&typesv1.LabelValuesResponse{Names: []string{"order"}}), nil
}

var built = fstest.MapFS{
	"index.html":                           {Data: []byte("<html>größe")},
	"assets/page.0a1b2c3d.js":              {Data: []byte("'größe'")},
	"public/build/img/icons/unicons/x.svg": {Data: []byte("<svg/>")},
	".gitkeep":                             {},
}

func start(t *testing.T, a api) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(a))
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"service":"flameline","version":"0.1.0","ebpf":{"state":"on"}}`))
	})
	mux.Handle("/", web.Handler(web.Options{API: mux, Files: built}))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func do(t *testing.T, method, address, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(raw)
}

// The answer is that of Grafana's /api/ds/query, written by hand.
func TestQuery(t *testing.T) {
	srv := start(t, api{})
	resp, body := do(t, http.MethodPost, srv.URL+"/api/ds/query",
		`{"from":"now-1h","to":"now","queries":[{"refId":"F","queryType":"profile","profileTypeId":"`+cpu+`","labelSelector":"{}"}]}`)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.Equal(t, "application/json; charset=utf-8", resp.Header.Get("Content-Type"))
	require.JSONEq(t, `{"results": {"F": {"status": 200, "frames": [{
		"schema": {
			"name": "response", "refId": "F",
			"meta": {"typeVersion": [0, 0], "preferredVisualisationType": "flamegraph",
				"custom": {"profileTypeId": "`+cpu+`"}, "executedQueryString": "`+cpu+`{}"},
			"fields": [
				{"name": "level", "type": "number", "typeInfo": {"frame": "int64"}},
				{"name": "value", "type": "number", "typeInfo": {"frame": "int64"}, "config": {"unit": "ns"}},
				{"name": "self", "type": "number", "typeInfo": {"frame": "int64"}, "config": {"unit": "ns"}},
				{"name": "label", "type": "enum", "typeInfo": {"frame": "enum"}, "config": {"type": {"enum": {"text": ["total", "größe"]}}}}
			]
		},
		"data": {"values": [[0, 1], [7, 7], [0, 7], [0, 1]]}
	}]}}}`, body)
}

func TestQueryThatFailsBesideOneThatDoesNot(t *testing.T) {
	resp, body := do(t, http.MethodPost, start(t, api{}).URL+"/api/ds/query",
		`{"from":"1763899200000","to":"1763902800000","queries":[
			{"refId":"A","queryType":"profile","profileTypeId":"`+cpu+`"},
			{"refId":"B","queryType":"profile","profileTypeId":"`+cpu+`","labelSelector":"{"}]}`)
	require.Equal(t, http.StatusMultiStatus, resp.StatusCode)
	var answer struct {
		Results map[string]struct {
			Status int
			Error  string
			Frames []any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Len(t, answer.Results["A"].Frames, 1)
	require.Equal(t, 200, answer.Results["A"].Status)
	require.Contains(t, answer.Results["B"].Error, "labelSelector: ")
	require.Equal(t, 400, answer.Results["B"].Status)
}

func TestBadQueryRequests(t *testing.T) {
	srv := start(t, api{})
	for body, want := range map[string]string{
		`{`:                                      "body: ",
		`{"from":"now-1h","to":"now"}`:           "queries: there are none",
		`{"from":"x","to":"now","queries":[{}]}`: "from: ",
		`{"from":"now-1h","to":"now","queries":[5]}`:                           "queries[0]: ",
		`{"from":"now-1h","to":"now","queries":[{"refId":"A"},{"refId":"A"}]}`: "queries[1].refId: ",
		`{"from":"` + strings.Repeat("x", 2<<20) + `"}`:                        "body: http: request body too large",
	} {
		resp, answer := do(t, http.MethodPost, srv.URL+"/api/ds/query", body)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, answer)
		require.Contains(t, answer, want)
	}
}

func TestQueryEndsWithItsRequest(t *testing.T) {
	a := api{started: make(chan error, 1), ended: make(chan error, 1)}
	srv := start(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/api/ds/query", strings.NewReader(
		`{"from":"now-1h","to":"now","queries":[{"refId":"A","queryType":"profile","profileTypeId":"`+cpu+`","labelSelector":"{service_name=\"slow\"}"}]}`))
	require.NoError(t, err)
	go func() {
		<-a.started
		cancel()
	}()
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, <-a.ended, context.Canceled)
}

func TestResourcesHealthAndDrilldown(t *testing.T) {
	srv := start(t, api{})
	resp, body := do(t, http.MethodGet, srv.URL+"/api/resources/labelValues?label=service_name", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.JSONEq(t, `["order"]`, body)

	_, body = do(t, http.MethodGet, srv.URL+"/api/health", "")
	require.JSONEq(t, `{"status":"OK","message":"Connected to Flameline 0.1.0, 1 profile type: process_cpu:cpu.","details":
		{"server":"Flameline","version":"0.1.0","profileTypes":["`+cpu+`"],"ebpf":{"state":"on"},"problems":[]}}`, body)

	for _, path := range []string{"/drilldown", "/api/resources/drilldown"} {
		resp, _ = do(t, http.MethodGet, srv.URL+path+"?service_name=order&team=a&from=now-3h&to=now", "")
		require.Equal(t, http.StatusFound, resp.StatusCode)
		u, err := url.Parse(resp.Header.Get("Location"))
		require.NoError(t, err)
		require.Equal(t, "/", u.Path)
		require.Equal(t, url.Values{
			"from": {"now-3h"}, "to": {"now"}, "profileTypeId": {cpu}, "labelSelector": {`{service_name="order"}`},
			"notice": {"From the alert's labels: left out team (profiles have no such label)."},
		}, u.Query())
	}
}

func TestStaticFiles(t *testing.T) {
	srv := start(t, api{})
	for path, want := range map[string]struct{ contentType, cache string }{
		"/":                                     {"text/html; charset=utf-8", "no-cache"},
		"/?from=now-1h":                         {"text/html; charset=utf-8", "no-cache"},
		"/assets/page.0a1b2c3d.js":              {"text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		"/public/build/img/icons/unicons/x.svg": {"image/svg+xml; charset=utf-8", "public, max-age=86400"},
	} {
		resp, body := do(t, http.MethodGet, srv.URL+path, "")
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Equal(t, want.contentType, resp.Header.Get("Content-Type"))
		require.Equal(t, want.cache, resp.Header.Get("Cache-Control"))
		require.NotEmpty(t, body)
	}
	for _, path := range []string{"/nothing", "/.gitkeep", "/assets/", "/assets"} {
		resp, _ := do(t, http.MethodGet, srv.URL+path, "")
		require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
	}
}

func TestPageThatWasNotBuilt(t *testing.T) {
	srv := httptest.NewServer(web.Handler(web.Options{API: http.NotFoundHandler(), Files: fstest.MapFS{".gitkeep": {}}}))
	defer srv.Close()
	resp, body := do(t, http.MethodGet, srv.URL+"/", "")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, body, "npm ci && npm run build:page && go build -o bin/flameline ./collector")
}

func TestAnswersAreCompressed(t *testing.T) {
	files := fstest.MapFS{"index.html": {Data: []byte(strings.Repeat("<p>page</p>", 500))}}
	h := web.Handler(web.Options{API: http.NotFoundHandler(), Files: files})
	for accept, want := range map[string]string{"gzip": "gzip", "": ""} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, want, w.Header().Get("Content-Encoding"))
	}
}
