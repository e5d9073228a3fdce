// Package plugin is the Grafana data source: its settings, and one file per handler of
// Grafana's plugin protocol.
//
// Queries are left to package query, calls to a server to package client. The
// collector's built-in page runs the same handlers without Grafana.
package plugin

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/httpclient"
	"github.com/grafana/grafana-plugin-sdk-go/backend/instancemgmt"
	"github.com/grafana/grafana-plugin-sdk-go/backend/resource/httpadapter"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/query"
)

// ID is the plugin's ID in plugin.json.
const ID = "flameline-profiles-datasource"

// A Datasource serves one configured data source. It is safe for concurrent use.
type Datasource struct {
	backend.CallResourceHandler // the resources, see Resources

	client *client.Client
	runner *query.Runner
	shared sharedQueries
	link   func(context.Context, query.Drilldown) string
	idle   func() // closes unused connections
}

var (
	_ backend.QueryDataHandler      = (*Datasource)(nil)
	_ backend.CheckHealthHandler    = (*Datasource)(nil)
	_ backend.CallResourceHandler   = (*Datasource)(nil)
	_ instancemgmt.InstanceDisposer = (*Datasource)(nil)
)

// NewInstance returns a data source for its settings in Grafana. The SDK calls it when a
// data source is first used and after each change of its settings.
func NewInstance(ctx context.Context, s backend.DataSourceInstanceSettings) (instancemgmt.Instance, error) {
	settings, err := ParseSettings(s)
	if err != nil {
		return nil, err
	}
	options, err := s.HTTPClientOptions(ctx)
	if err != nil {
		return nil, backend.DownstreamError(fmt.Errorf("HTTP settings: %w", err))
	}
	options.ForwardHTTPHeaders = true // the user's OAuth token and cookies, where the settings allow it
	httpClient, err := httpclient.New(options)
	if err != nil {
		return nil, backend.DownstreamError(fmt.Errorf("HTTP settings: %w", err))
	}
	return New(Options{HTTP: httpClient, UID: s.UID, Settings: settings, Link: exploreLink, DrilldownURL: drilldownURL(s.UID)}), nil
}

// Options configure a data source outside Grafana.
type Options struct {
	HTTP     *http.Client
	Settings Settings
	// UID is the data source's in Grafana, which links to Explore name; "" for no links.
	UID string
	// Link returns the address to which a drilldown leads.
	Link func(context.Context, query.Drilldown) string
	// DrilldownURL is that of query.Runner.
	DrilldownURL string
	// Connect are further options of the API client.
	Connect []connect.ClientOption
}

// New returns a data source.
func New(o Options) *Datasource {
	c := client.New(o.HTTP, o.Settings.URL, o.Connect...)
	d := &Datasource{
		client: c,
		runner: &query.Runner{
			Client: c, MinStep: o.Settings.MinStep, DefaultType: o.Settings.DefaultType,
			LabelMapping: o.Settings.LabelMapping, Price: o.Settings.Price, Links: o.links(), DrilldownURL: o.DrilldownURL,
		},
		link: o.Link,
		idle: o.HTTP.CloseIdleConnections,
	}
	d.CallResourceHandler = httpadapter.New(d.Resources())
	return d
}

// Dispose closes an instance whose settings have changed.
func (d *Datasource) Dispose() { d.idle() }
