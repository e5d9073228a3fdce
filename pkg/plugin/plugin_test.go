package plugin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/config"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/plugin"
	"github.com/flameline/flameline/pkg/query"
)

const cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// querier is a server with one CPU profile of the service order.
type querier struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	types  []string
	newest int64
	graphs bool     // whether it has flame graphs
	values []string // of every label
	asked  *typesv1.LabelValuesRequest
}

func (q *querier) ProfileTypes(context.Context, *connect.Request[querierv1.ProfileTypesRequest]) (*connect.Response[querierv1.ProfileTypesResponse], error) {
	resp := &querierv1.ProfileTypesResponse{}
	for _, id := range q.types {
		resp.ProfileTypes = append(resp.ProfileTypes, &typesv1.ProfileType{ID: id})
	}
	return connect.NewResponse(resp), nil
}

func (q *querier) LabelNames(context.Context, *connect.Request[typesv1.LabelNamesRequest]) (*connect.Response[typesv1.LabelNamesResponse], error) {
	return connect.NewResponse(&typesv1.LabelNamesResponse{Names: []string{"__unit__", "node", "service_name"}}), nil
}

func (q *querier) LabelValues(_ context.Context, r *connect.Request[typesv1.LabelValuesRequest]) (*connect.Response[typesv1.LabelValuesResponse], error) {
	q.asked = r.Msg
	if q.values != nil {
		return connect.NewResponse(&typesv1.LabelValuesResponse{Names: q.values}), nil
	}
	if r.Msg.Name != "service_name" {
		return connect.NewResponse(&typesv1.LabelValuesResponse{}), nil
	}
	return connect.NewResponse(&typesv1.LabelValuesResponse{Names: []string{"order"}}), nil
}

func (q *querier) GetProfileStats(context.Context, *connect.Request[typesv1.GetProfileStatsRequest]) (*connect.Response[typesv1.GetProfileStatsResponse], error) {
	return connect.NewResponse(&typesv1.GetProfileStatsResponse{DataIngested: q.newest != 0, NewestProfileTime: q.newest}), nil
}

// start makes a data source of a server with that status page, through the
// settings that Grafana would send.
func start(t *testing.T, q *querier, status string) (*plugin.Datasource, backend.PluginContext) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(q))
	if status != "" {
		mux.HandleFunc("/api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(status))
		})
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "ada" || password != "secret" || r.Header.Get("X-Scope-OrgID") != "team-a" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	settings := backend.DataSourceInstanceSettings{
		UID: "flame", Name: "Profiles", URL: srv.URL + "/", BasicAuthEnabled: true, BasicAuthUser: "ada",
		JSONData:                json.RawMessage(`{"minStep":"5s","httpHeaderName1":"X-Scope-OrgID"}`),
		DecryptedSecureJSONData: map[string]string{"basicAuthPassword": "secret", "httpHeaderValue1": "team-a"},
	}
	return instance(t, settings), backend.PluginContext{
		OrgID:    3, //nolint:staticcheck // Explore's URL has no namespace in its place
		PluginID: plugin.ID, DataSourceInstanceSettings: &settings,
	}
}

func instance(t *testing.T, settings backend.DataSourceInstanceSettings) *plugin.Datasource {
	t.Helper()
	ds, err := plugin.NewInstance(t.Context(), settings)
	require.NoError(t, err)
	return ds.(*plugin.Datasource)
}

// get calls a resource as Grafana does.
func get(t *testing.T, ds *plugin.Datasource, pc backend.PluginContext, resource string) *backend.CallResourceResponse {
	t.Helper()
	u, err := url.Parse(resource)
	require.NoError(t, err)
	var got *backend.CallResourceResponse
	err = ds.CallResource(t.Context(), &backend.CallResourceRequest{PluginContext: pc, Path: u.Path, Method: http.MethodGet, URL: resource},
		backend.CallResourceResponseSenderFunc(func(r *backend.CallResourceResponse) error { got = r; return nil }))
	require.NoError(t, err)
	return got
}

func TestSettings(t *testing.T) {
	s, err := plugin.ParseSettings(backend.DataSourceInstanceSettings{URL: " http://localhost:4040/ "})
	require.NoError(t, err)
	require.Equal(t, plugin.Settings{URL: "http://localhost:4040", MinStep: 15 * time.Second, Price: query.Price{Currency: "$"}}, s)

	s, err = plugin.ParseSettings(backend.DataSourceInstanceSettings{URL: "https://a/b", JSONData: json.RawMessage(`{"minStep":"1m"}`)})
	require.NoError(t, err)
	require.Equal(t, time.Minute, s.MinStep)

	s, err = plugin.ParseSettings(backend.DataSourceInstanceSettings{URL: "https://a", JSONData: json.RawMessage(`{
		"defaultProfileType":"` + cpu + `","prometheusUid":"prom","corePrice":0.04,"currency":"€",
		"labelMapping":[{"metrics":"app","profiles":"service_name"},{"metrics":"","profiles":""}],
		"sourceTemplate":"https://git.example.com/{{service_name}}/search?q={{ function }}"}`)})
	require.NoError(t, err)
	require.Equal(t, cpu, s.DefaultType.String())
	require.Equal(t, "prom", s.PrometheusUID)
	require.Equal(t, query.Price{CoreHour: 0.04, Currency: "€"}, s.Price)
	require.Equal(t, []query.LabelMapping{{Metrics: "app", Profiles: "service_name"}}, s.LabelMapping)

	jsonData := func(s string) backend.DataSourceInstanceSettings {
		return backend.DataSourceInstanceSettings{URL: "http://a", JSONData: json.RawMessage(s)}
	}
	for want, s := range map[string]backend.DataSourceInstanceSettings{
		"URL: the data source has no address":          {},
		`URL: "localhost:4040" is not of the form`:     {URL: "localhost:4040"},
		`minStep: "soon" is not a duration`:            {URL: "http://a", JSONData: json.RawMessage(`{"minStep":"soon"}`)},
		"minStep: want string, not number":             jsonData(`{"minStep":5}`),
		"jsonData: ":                                   jsonData(`[`),
		"defaultProfileType: ":                         jsonData(`{"defaultProfileType":"cpu"}`),
		"corePrice: -1 is not the price":               jsonData(`{"corePrice":-1}`),
		"corePrice: want float64, not string":          jsonData(`{"corePrice":"0.05"}`),
		"currency: it has 9 characters":                jsonData(`{"currency":"thousands"}`),
		`currency: "a:b" is not a symbol`:              jsonData(`{"currency":"a:b"}`),
		"labelMapping[1].profiles: is missing":         jsonData(`{"labelMapping":[{"metrics":"a","profiles":"b"},{"metrics":"c"}]}`),
		"labelMapping[0].metrics: is missing":          jsonData(`{"labelMapping":[{"profiles":"b"}]}`),
		"sourceTemplate: a placeholder is empty":       jsonData(`{"sourceTemplate":"https://a/{{ }}"}`),
		`sourceTemplate: "javascript:alert(1)"`:        jsonData(`{"sourceTemplate":"javascript:alert(1)"}`),
		`sourceTemplate: "https://a/${x}"`:             jsonData(`{"sourceTemplate":"https://a/${x}"}`),
		`sourceTemplate: "https://a/{{b"`:              jsonData(`{"sourceTemplate":"https://a/{{b"}`),
		`URL: parse "http://a b":`:                     {URL: "http://a b"},
		`URL: "ftp://host" is not of the form http://`: {URL: "ftp://host"},
	} {
		_, err := plugin.NewInstance(t.Context(), s)
		require.ErrorContains(t, err, want)
		require.True(t, backend.IsDownstreamError(err), "settings are the user's")
	}
}

func TestResources(t *testing.T) {
	q := &querier{types: []string{cpu, "odd"}}
	ds, pc := start(t, q, "")
	for resource, want := range map[string]string{
		"profileTypes?start=1&end=2":  `[{"id":"` + cpu + `","label":"process_cpu - cpu"}]`,
		"labelNames":                  `["node","service_name"]`,
		`labelNames?query={node="a"}`: `["node","service_name"]`,
		`labelValues?label=service_name&query={node="a"}&start=1000`: `["order"]`,
		"labelValues?label=node":                                     `[]`,
	} {
		r := get(t, ds, pc, resource)
		require.Equal(t, http.StatusOK, r.Status, "%s: %s", resource, r.Body)
		require.JSONEq(t, want, string(r.Body))
		require.Equal(t, []string{"application/json; charset=utf-8"}, r.Headers["Content-Type"])
	}
	get(t, ds, pc, `labelValues?label=pod&query={node="a"}&start=1000&end=2000`)
	require.Equal(t, []string{`{node="a"}`}, q.asked.Matchers)
	require.Equal(t, int64(1000), q.asked.Start)
	require.Equal(t, int64(2000), q.asked.End)

	for resource, want := range map[string]string{
		"labelValues":                 `{"message":"label: is missing; it is the label whose values to list"}`,
		"labelNames?start=noon":       `{"message":"start: \"noon\" is not a time in Unix milliseconds"}`,
		"profileTypes?start=2&end=1":  `{"message":"end: 1 is before start, 2"}`,
		"labelNames?query={":          "",
		"labelValues?label=a&query=}": "",
	} {
		r := get(t, ds, pc, resource)
		require.Equal(t, http.StatusBadRequest, r.Status, resource)
		if want != "" {
			require.JSONEq(t, want, string(r.Body))
		}
	}
	require.Equal(t, http.StatusNotFound, get(t, ds, pc, "secrets").Status)
}

// A list for completion is bounded in number and bytes, says what it leaves out,
// and has the values that hold a text.
func TestCompletionsAreBounded(t *testing.T) {
	pods := make([]string, 100_000)
	for i := range pods {
		pods[i] = fmt.Sprintf("pod-%06d", i)
	}
	long := make([]string, 3000)
	for i := range long {
		long[i] = fmt.Sprintf("%04d", i) + strings.Repeat("ä", 500)
	}
	for _, c := range []struct {
		values       []string
		params       string
		first        string
		number, more int
	}{
		{pods, "limit=10000", "pod-000000", 10_000, 90_000},
		{pods, "limit=999999999", "pod-000000", 10_000, 90_000},
		{pods, "limit=10000&search=99999", "pod-099999", 1, 0},
		{pods, "limit=10000&search=POD-0999", "pod-099900", 100, 0},
		{pods, "limit=7&search=1", "pod-000001", 7, 40_951 - 7},
		{pods, "limit=10&search=none", "", 0, 0},
		{[]string{"b-a", "ab", "c", "A"}, "limit=10&search=a", "ab", 3, 0},
		{long, "limit=10000", long[0], 1 << 20 / 1007, 3000 - 1<<20/1007},
		{[]string{}, "limit=10000", "", 0, 0},
	} {
		ds, pc := start(t, &querier{values: c.values}, "")
		r := get(t, ds, pc, "labelValues?label=pod&"+c.params)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		require.Less(t, len(r.Body), 2<<20)
		var got struct {
			Values []string
			More   int
		}
		require.NoError(t, json.Unmarshal(r.Body, &got))
		require.Len(t, got.Values, c.number, c.params)
		require.NotNil(t, got.Values)
		require.Equal(t, c.more, got.More, c.params)
		if c.first != "" {
			require.Equal(t, c.first, got.Values[0])
		}
	}
	ds, pc := start(t, &querier{}, "")
	for _, limit := range []string{"", "0", "-1", "x", "1e3"} {
		require.Equal(t, http.StatusBadRequest, get(t, ds, pc, "labelValues?label=pod&limit="+limit).Status, limit)
	}
	require.Equal(t, http.StatusBadRequest, get(t, ds, pc, "labelValues?limit=5").Status, "no label")
}

func TestRefusedCredentialsAreNotTheUsersSession(t *testing.T) {
	_, pc := start(t, &querier{}, "")
	s := *pc.DataSourceInstanceSettings
	s.DecryptedSecureJSONData = nil
	ds := instance(t, s)
	r := get(t, ds, pc, "labelNames")
	require.Equal(t, http.StatusBadGateway, r.Status)
	require.Contains(t, string(r.Body), "does not accept the data source's credentials")

	h, err := ds.CheckHealth(t.Context(), &backend.CheckHealthRequest{})
	require.NoError(t, err)
	require.Equal(t, backend.HealthStatusError, h.Status)
	require.Contains(t, h.Message, "does not accept the data source's credentials")
}

func TestDrilldownLeadsToExplore(t *testing.T) {
	ds, pc := start(t, &querier{types: []string{cpu}}, "")
	ctx := config.WithGrafanaConfig(t.Context(), config.NewGrafanaCfg(map[string]string{config.AppURL: "https://example.org/grafana/"}))
	resource := "/api/datasources/uid/flame/resources/drilldown?alertname=Hot&service_name=order&severity=page&from=now-3h&to=now-2h"
	var got *backend.CallResourceResponse
	err := ds.CallResource(ctx, &backend.CallResourceRequest{PluginContext: pc, Path: "drilldown", Method: http.MethodGet, URL: resource},
		backend.CallResourceResponseSenderFunc(func(r *backend.CallResourceResponse) error { got = r; return nil }))
	require.NoError(t, err)
	require.Equal(t, http.StatusFound, got.Status)
	require.Equal(t, []string{"severity"}, got.Headers["X-Flameline-Left-Out"])
	u, err := url.Parse(got.Headers["Location"][0])
	require.NoError(t, err)
	require.Empty(t, u.Host, "the browser stays where it is")
	require.Equal(t, "/grafana/explore", u.Path)
	require.Equal(t, "1", u.Query().Get("schemaVersion"))
	require.Equal(t, "3", u.Query().Get("orgId"))
	require.JSONEq(t, `{"flameline": {
		"datasource": "flame",
		"queries": [{
			"refId": "A", "datasource": {"type": "flameline-profiles-datasource", "uid": "flame"},
			"version": 1, "queryType": "both", "profileTypeId": "`+cpu+`", "labelSelector": "{service_name=\"order\"}", "groupBy": [],
			"notice": "From the alert Hot: left out severity (profiles have no such label)."
		}],
		"range": {"from": "now-3h", "to": "now-2h"}
	}}`, u.Query().Get("panes"))
}

func TestHealth(t *testing.T) {
	old := time.Now().Add(-26 * time.Hour).UnixMilli()
	for _, c := range []struct {
		name    string
		querier querier
		status  string
		want    string
		details string
	}{
		{
			"all is well", querier{types: []string{"memory:alloc_space:bytes:space:bytes", cpu}},
			`{"service":"flameline","version":"0.1.0","ebpf":{"state":"on","frequency":19}}`,
			"Connected to Flameline 0.1.0, 2 profile types: memory:alloc_space, process_cpu:cpu.",
			`{"server":"Flameline","version":"0.1.0","profileTypes":["memory:alloc_space:bytes:space:bytes","` + cpu + `"],"ebpf":{"state":"on","frequency":19},"problems":[]}`,
		},
		{
			"no eBPF, no profiles", querier{},
			`{"service":"flameline","version":"0.1.0","ebpf":{"state":"off","reason":"needs root or CAP_BPF."}}`,
			"Connected to Flameline 0.1.0. Note: eBPF sampling is off: needs root or CAP_BPF. Note: there are no profiles yet; they come from eBPF sampling, scraping or a push.",
			"",
		},
		{
			"the unwinder stopped", querier{types: []string{cpu}},
			`{"service":"flameline","version":"0.1.0","ready":false,"notReady":"sampling has stopped by itself: x","ebpf":{"state":"failed","reason":"the unwinder has stopped; the service's log says why"}}`,
			"Connected to Flameline 0.1.0, 1 profile type: process_cpu:cpu. Note: eBPF sampling has stopped by itself, so profiles of the server's machine are missing: the unwinder has stopped; the service's log says why.",
			"",
		},
		{"another server", querier{types: []string{cpu}}, "", "Connected to Pyroscope-compatible server, 1 profile type: process_cpu:cpu.", ""},
		{"silent sources", querier{newest: old}, "", "Connected to Pyroscope-compatible server. Note: there are no profiles of the last hour; the newest is of " +
			time.UnixMilli(old).UTC().Format(time.RFC3339) + " (1d2h ago).", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds, _ := start(t, &c.querier, c.status)
			h, err := ds.CheckHealth(t.Context(), &backend.CheckHealthRequest{})
			require.NoError(t, err)
			require.Equal(t, backend.HealthStatusOk, h.Status)
			require.Equal(t, c.want, h.Message)
			if c.details != "" {
				require.JSONEq(t, c.details, string(h.JSONDetails))
			}
		})
	}
}

func TestHealthOfAnUnreachableServer(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	h, err := instance(t, backend.DataSourceInstanceSettings{URL: srv.URL}).CheckHealth(t.Context(), &backend.CheckHealthRequest{})
	require.NoError(t, err)
	require.Equal(t, backend.HealthStatusError, h.Status)
	require.Contains(t, h.Message, "cannot reach "+srv.URL)
	require.Contains(t, h.Message, "refused")
}

func TestHealthOfSomeWebsite(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) }))
	defer srv.Close()
	h, err := instance(t, backend.DataSourceInstanceSettings{URL: srv.URL}).CheckHealth(t.Context(), &backend.CheckHealthRequest{})
	require.NoError(t, err)
	require.Equal(t, backend.HealthStatusError, h.Status)
}

// Each query of a request has its own answer.
func TestQueriesFailAlone(t *testing.T) {
	ds, pc := start(t, &querier{}, "")
	tr := backend.TimeRange{From: time.Now().Add(-time.Hour), To: time.Now()}
	resp, err := ds.QueryData(t.Context(), &backend.QueryDataRequest{PluginContext: pc, Queries: []backend.DataQuery{
		{RefID: "A", TimeRange: tr, JSON: json.RawMessage(`{"queryType":"profile","profileTypeId":"` + cpu + `","labelSelector":"{"}`)},
		{RefID: "B", TimeRange: tr, JSON: json.RawMessage(`{"queryType":"profile","profileTypeId":"` + cpu + `"}`)},
	}})
	require.NoError(t, err)
	require.Len(t, resp.Responses, 2)
	require.Equal(t, backend.StatusBadRequest, resp.Responses["A"].Status)
	require.Equal(t, backend.StatusNotImplemented, resp.Responses["B"].Status, "that server has no flame graphs")
	require.Equal(t, backend.ErrorSourceDownstream, resp.Responses["B"].ErrorSource)
}
