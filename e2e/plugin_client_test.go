package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/grpcplugin"
	"github.com/grafana/grafana-plugin-sdk-go/config"
	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"github.com/flameline/flameline/pkg/plugin"
)

// grafanaURL is where the tests' Grafana says that it is served.
const grafanaURL = "https://example.org/grafana/"

// A dataSource is the plugin as Grafana runs it: a process of its own that
// speaks the plugin protocol, and the settings of one data source.
type dataSource struct {
	context     backend.PluginContext
	headers     map[string]string // that Grafana sends with queries
	changes     int               // of the settings
	data        grpcplugin.DataClient
	resource    grpcplugin.ResourceClient
	diagnostics grpcplugin.DiagnosticsClient
}

// startPlugin starts the plugin as Grafana does, for a data source with the
// server at url.
func startPlugin(t testing.TB, url, minStep string) *dataSource {
	t.Helper()
	client := goplugin.NewClient(&goplugin.ClientConfig{
		Cmd: exec.Command(pluginBinary(t)),
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion:  grpcplugin.ProtocolVersion,
			MagicCookieKey:   grpcplugin.MagicCookieKey,
			MagicCookieValue: grpcplugin.MagicCookieValue,
		},
		VersionedPlugins: map[int]goplugin.PluginSet{grpcplugin.ProtocolVersion: {
			"data":        &grpcplugin.DataGRPCPlugin{},
			"resource":    &grpcplugin.ResourceGRPCPlugin{},
			"diagnostics": &grpcplugin.DiagnosticsGRPCPlugin{},
		}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true, // as Grafana: the plugin has no environment to read
		Logger:           hclog.NewNullLogger(),
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		t.Fatalf("start the plugin: %v", err)
	}
	dispense := func(name string) any {
		part, err := rpc.Dispense(name)
		if err != nil {
			t.Fatalf("plugin's %s service: %v", name, err)
		}
		return part
	}
	options, err := json.Marshal(map[string]string{"minStep": minStep})
	if err != nil {
		t.Fatal(err)
	}
	return &dataSource{
		context: backend.PluginContext{
			OrgID:    1, //nolint:staticcheck // what Explore's URL holds
			PluginID: plugin.ID,
			DataSourceInstanceSettings: &backend.DataSourceInstanceSettings{
				ID: 1, UID: "flameline", Type: plugin.ID, Name: "Flameline", URL: url, JSONData: options, Updated: time.Unix(1, 0),
			},
			GrafanaConfig: config.NewGrafanaCfg(map[string]string{config.AppURL: grafanaURL}),
		},
		data:        dispense("data").(grpcplugin.DataClient),
		resource:    dispense("resource").(grpcplugin.ResourceClient),
		diagnostics: dispense("diagnostics").(grpcplugin.DiagnosticsClient),
	}
}

// with returns the data source as it is after its settings were changed to these.
func (d *dataSource) with(settings string) *dataSource {
	changed, instance := *d, *d.context.DataSourceInstanceSettings
	d.changes++
	instance.JSONData, instance.Updated = []byte(settings), instance.Updated.Add(time.Duration(d.changes)*time.Second)
	changed.context.DataSourceInstanceSettings = &instance
	return &changed
}

// pluginBinary returns the plugin that FLAMELINE_PLUGIN_BIN names, or builds it.
func pluginBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("FLAMELINE_PLUGIN_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "gpx_flameline")
	cmd := exec.Command("go", "build", "-o", path, "../pkg")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	return path
}

// A panelQuery is one query of a panel with its time range.
type panelQuery struct {
	refID    string
	from, to time.Time
	interval time.Duration
	model    map[string]any
}

// query asks the plugin for data, in the form in which Grafana asks.
func (d *dataSource) query(ctx context.Context, queries ...panelQuery) (*backend.QueryDataResponse, error) {
	req := &backend.QueryDataRequest{PluginContext: d.context, Headers: d.headers}
	for _, q := range queries {
		raw, err := json.Marshal(q.model)
		if err != nil {
			return nil, err
		}
		req.Queries = append(req.Queries, backend.DataQuery{
			RefID: q.refID, TimeRange: backend.TimeRange{From: q.from, To: q.to}, Interval: q.interval, MaxDataPoints: 1000, JSON: raw,
		})
	}
	resp, err := d.data.QueryData(ctx, backend.ToProto().QueryDataRequest(req))
	if err != nil {
		return nil, err
	}
	return backend.FromProto().QueryDataResponse(resp)
}

// get calls a resource; the path has its parameters.
func (d *dataSource) get(t *testing.T, path, query string) *backend.CallResourceResponse {
	t.Helper()
	stream, err := d.resource.CallResource(t.Context(), backend.ToProto().CallResourceRequest(&backend.CallResourceRequest{
		PluginContext: d.context, Method: "GET", Path: path,
		URL: "/api/datasources/uid/flameline/resources/" + path + "?" + query,
	}))
	if err != nil {
		t.Fatal(err)
	}
	var resp *backend.CallResourceResponse
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return resp
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := backend.FromProto().CallResourceResponse(part); resp == nil {
			resp = got
		} else {
			resp.Body = append(resp.Body, got.Body...)
		}
	}
}

func (d *dataSource) health(t *testing.T) *pluginv2.CheckHealthResponse {
	t.Helper()
	resp, err := d.diagnostics.CheckHealth(t.Context(), &pluginv2.CheckHealthRequest{PluginContext: backend.ToProto().PluginContext(d.context)})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
