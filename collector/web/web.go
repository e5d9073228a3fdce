// Package web serves the collector's built-in page and the part of Grafana's HTTP API
// that the page needs: queries, resources, health and the drilldown, all answered by the
// handlers of the Grafana plugin.
//
// It does not use the store. The plugin's handlers call the server's API as in Grafana,
// but within the process.
package web

import (
	"context"
	"embed"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzhttp"

	"github.com/flameline/flameline/pkg/plugin"
	"github.com/flameline/flameline/pkg/query"
)

//go:embed all:dist
var dist embed.FS

// Options configure the page.
type Options struct {
	// API serves the query API, such as /querier.v1.QuerierService/SelectSeries, and
	// /api/v1/status. It must not require credentials: whoever may see the page may see
	// the profiles.
	API http.Handler
	// MinStep is the least step of the page's charts; 0 for the plugin's
	// default.
	MinStep time.Duration
	// Files are the built page; nil for those in the binary.
	Files fs.FS
}

// Handler serves the page below /, compressed where the client takes that.
func Handler(o Options) http.Handler {
	if o.MinStep == 0 {
		o.MinStep = plugin.DefaultMinStep
	}
	if o.Files == nil {
		o.Files, _ = fs.Sub(dist, "dist") // cannot fail: the name is a constant
	}
	source := plugin.New(plugin.Options{
		HTTP:     &http.Client{Transport: inProcess{o.API}},
		Settings: plugin.Settings{URL: "http://flameline", MinStep: o.MinStep},
		Link:     pageLink,
		Connect:  []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)},
	})
	resources := source.Resources()
	mux := http.NewServeMux()
	mux.Handle("POST /api/ds/query", queryHandler(source))
	mux.Handle("GET /api/health", healthHandler(source))
	mux.Handle("GET /api/resources/", http.StripPrefix("/api/resources", resources))
	mux.Handle("GET /drilldown", resources)
	mux.Handle("GET /", staticHandler(o.Files))
	return gzhttp.GzipHandler(mux) // the page is 4 MB of scripts, which may go over a slow ssh tunnel
}

// pageLink returns the address of the page with a drilldown's query.
func pageLink(_ context.Context, d query.Drilldown) string {
	values := url.Values{
		"from": {d.From}, "to": {d.To},
		"profileTypeId": {d.ProfileTypeID}, "labelSelector": {d.LabelSelector},
	}
	if d.Notice != "" {
		values.Set("notice", d.Notice)
	}
	return "/?" + values.Encode()
}
