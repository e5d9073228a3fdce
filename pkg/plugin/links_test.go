package plugin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
	"github.com/flameline/flameline/pkg/plugin"
)

// functionServer has one function, and one series of CPU time.
type functionServer struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	flamelinev1connect.UnimplementedQueryServiceHandler
}

func (functionServer) Functions(context.Context, *connect.Request[flamelinev1.FunctionsRequest]) (*connect.Response[flamelinev1.FunctionsResponse], error) {
	v := &flamelinev1.Value{Value: 36e11, Samples: 3600} // one core for an hour
	return connect.NewResponse(&flamelinev1.FunctionsResponse{
		Functions: []*flamelinev1.Function{
			{Name: "encode", Own: v, Total: v, File: "/srv/a b&c/ü#$x.go", Line: 12},
			{Name: "a<T>::operator&", Own: v, Total: v, File: "main.rs"},
			{Name: "memcpy", Own: v, Total: v},
		}, Total: v, Count: 3, HasSamples: true,
	}), nil
}

func (functionServer) Diff(context.Context, *connect.Request[querierv1.DiffRequest]) (*connect.Response[querierv1.DiffResponse], error) {
	return connect.NewResponse(&querierv1.DiffResponse{}), nil
}

func (functionServer) LabelNames(context.Context, *connect.Request[typesv1.LabelNamesRequest]) (*connect.Response[typesv1.LabelNamesResponse], error) {
	return connect.NewResponse(&typesv1.LabelNamesResponse{}), nil
}

func (functionServer) SelectSeries(_ context.Context, r *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	return connect.NewResponse(&querierv1.SelectSeriesResponse{Series: []*typesv1.Series{{
		Labels: []*typesv1.LabelPair{{Name: "pod", Value: "order-1"}, {Name: "comm", Value: "java"}},
		Points: []*typesv1.Point{{Timestamp: r.Msg.End, Value: 1e9}},
	}}}), nil
}

// linksOf returns the links of the field of a query's first frame, through the settings
// that Grafana would send.
func linksOf(t *testing.T, settings, queryType, selector string, field int) []data.DataLink {
	t.Helper()
	return frameOf(t, settings, queryType, selector).Fields[field].Config.Links
}

func frameOf(t *testing.T, settings, queryType, selector string) *data.Frame {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(functionServer{}))
	mux.Handle(flamelinev1connect.NewQueryServiceHandler(functionServer{}))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	ds := instance(t, backend.DataSourceInstanceSettings{UID: "flame", URL: srv.URL, JSONData: json.RawMessage(settings)})
	model, err := json.Marshal(map[string]any{"queryType": queryType, "profileTypeId": cpu, "labelSelector": selector, "sort": "total"})
	require.NoError(t, err)
	to := time.Now()
	resp, err := ds.QueryData(t.Context(), &backend.QueryDataRequest{Queries: []backend.DataQuery{
		{RefID: "A", TimeRange: backend.TimeRange{From: to.Add(-time.Hour), To: to}, JSON: model},
	}})
	require.NoError(t, err)
	a := resp.Responses["A"]
	require.NoError(t, a.Error)
	return a.Frames[0]
}

// Where a template names files, each row has a link of its own, or none.
func TestSourceLinks(t *testing.T) {
	const selector = `{service_name="order&co", version="2/$x"}`
	for _, c := range []struct {
		name, template string
		want           []string
	}{
		{
			"file and line", "https://git/{{service_name}}/blob/{{version}}/{{ file }}#L{{line}}",
			[]string{"https://git/order&co/blob/2%2F%24x/srv/a%20b&c/%C3%BC%23%24x.go#L12", "https://git/order&co/blob/2%2F%24x/main.rs#L1", ""},
		},
		{
			"in the query", "https://git/open?v={{version}}&f={{file}}&l={{line}}&s={{service_name}}&n={{function}}#{{function}}",
			[]string{
				"https://git/open?v=2%2F%24x&f=srv/a%20b%26c/%C3%BC%23%24x.go&l=12&s=order%26co&n=encode#encode",
				"https://git/open?v=2%2F%24x&f=main.rs&l=1&s=order%26co&n=a%3CT%3E%3A%3Aoperator%26#a%3CT%3E::operator&", "",
			},
		},
		{"a label that the query lacks", "https://git/{{node}}/{{file}}", nil},
		{"no file", "https://git/search?q={{function}}", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings, err := json.Marshal(map[string]string{"sourceTemplate": c.template})
			require.NoError(t, err)
			for _, queryType := range []string{"functions", "explain"} {
				f := frameOf(t, string(settings), queryType, selector)
				source, _ := f.FieldByName("Source")
				urls, _ := f.FieldByName("SourceURL")
				if c.want == nil {
					require.Nil(t, source, queryType)
					require.Nil(t, urls, queryType)
					continue
				}
				require.Equal(t, "${__data.fields.SourceURL:raw}", source.Config.Links[0].URL)
				require.True(t, source.Config.Links[0].TargetBlank)
				require.Equal(t, true, urls.Config.Custom["hidden"])
				for i, text := range []string{"ü#$x.go:12", "main.rs", ""} {
					require.Equal(t, text, source.At(i), queryType)
					require.Equal(t, c.want[i], urls.At(i), queryType)
				}
				if queryType == "functions" {
					require.Len(t, f.Fields[0].Config.Links, 1, "the function's name leads to the series alone")
				}
			}
		})
	}
}

func TestSourceFiles(t *testing.T) {
	for file, want := range map[string]bool{
		"": false, "vmlinux": false, "nf_tables": false, "[bpf]": false, "<string>": false,
		"<frozen importlib._bootstrap>": false, "node:internal/timers": false,
		"order.go": true, "/srv/shop/main.py": true, "/usr/bin/manage": true, "file:///srv/app.mjs": true, "Search.java": true,
	} {
		require.Equal(t, want, plugin.IsSource(file), file)
	}
}

func TestFunctionLinks(t *testing.T) {
	const selector = `{service_name="order", version="2/$x", pod=~"a.*"}`
	for _, c := range []struct{ name, template, source string }{
		{"no template", "", ""},
		{"function", "https://git/search?q={{function}}", "https://git/search?q=${__value.raw:percentencode}"},
		{"labels", "https://git/{{service_name}}/{{ version }}?q={{function}}", "https://git/order/2%2F%24x?q=${__value.raw:percentencode}"},
		{"a label with several values", "https://git/{{pod}}", ""},
		{"a label that the query lacks", "https://git/{{node}}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings, err := json.Marshal(map[string]string{"sourceTemplate": c.template})
			require.NoError(t, err)
			links := linksOf(t, string(settings), "functions", selector, 0)
			raw, err := json.Marshal(links[0].Internal)
			require.NoError(t, err)
			require.JSONEq(t, `{"datasourceUid": "flame", "datasourceName": "Flameline", "query": {
				"refId": "A", "datasource": {"type": "flameline-profiles-datasource", "uid": "flame"}, "version": 1,
				"queryType": "functionSeries", "profileTypeId": "`+cpu+`", "labelSelector": "{service_name=\"order\", version=\"2/$x\", pod=~\"a.*\"}",
				"groupBy": [], "functions": ["${__value.raw}"], "sort": "total"
			}}`, string(raw))
			if c.source == "" {
				require.Len(t, links, 1)
				return
			}
			require.Len(t, links, 2)
			require.Equal(t, c.source, links[1].URL)
			require.True(t, links[1].TargetBlank)
		})
	}
}

func TestSeriesLinks(t *testing.T) {
	for _, c := range []struct{ name, settings, selector, expr string }{
		{
			"pod", `{"prometheusUid":"prom"}`, `{service_name="order", exe!="x"}`,
			`sum(rate(container_cpu_usage_seconds_total{job="order",pod="order-1"}[$__rate_interval]))`,
		},
		{
			"mapped labels", `{"prometheusUid":"prom","labelMapping":[{"metrics":"app","profiles":"service_name"},{"metrics":"task","profiles":"pod"}]}`,
			`{service_name=~"order|cart"}`, `sum(rate(process_cpu_seconds_total{app=~"order|cart",task="order-1"}[$__rate_interval]))`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			links := linksOf(t, c.settings, "metrics", c.selector, 1)
			require.Len(t, links, 1)
			require.Equal(t, "prom", links[0].Internal.DatasourceUID)
			raw, err := json.Marshal(links[0].Internal.Query)
			require.NoError(t, err)
			var q struct{ Expr string }
			require.NoError(t, json.Unmarshal(raw, &q))
			require.Equal(t, c.expr, q.Expr)
		})
	}
	require.Empty(t, linksOf(t, `{}`, "metrics", "{}", 1), "no Prometheus data source")
}
