// Package server answers HTTP for the collector service: Pyroscope's push and query API
// over Connect, gRPC and gRPC-web, its /render and /render-diff, which give files by
// URL, and Prometheus' usual endpoints /metrics, /-/healthy and /ready.
//
// Decoding profiles is left to collector/ingest, storing and merging them to
// collector/store, and the page to collector/web. Handlers here check a request, call
// the store and encode the answer.
package server

import (
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/promslog"

	"github.com/flameline/flameline/collector/debuginfo"
)

// Options configure a Server. The zero value serves with the default limits.
type Options struct {
	Logger *slog.Logger
	// Registerer receives the server's own metrics; Gatherer is served at /metrics. Both
	// may be nil.
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
	// Version is what /api/v1/status reports.
	Version string
	Limits  Limits
	// AllowedOrigins are the origins of web pages that may send requests, see
	// CheckOrigin. The built-in page is always allowed.
	AllowedOrigins []string
}

// A Server is an http.Handler. It answers /ready, /metrics and /api/v1/status at once,
// and the API after Open. It is safe for concurrent use.
type Server struct {
	Health

	options Options
	base    *http.ServeMux
	handler http.Handler // base behind the check of origins
	api     atomic.Pointer[http.ServeMux]
	metrics *metrics
	uploads *debuginfo.Uploads // nil: none are taken
	// captures is nil until SetCaptures.
	captures atomic.Pointer[Captures]
}

// New returns a server without a store.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = promslog.NewNopLogger()
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	s := &Server{options: o, base: http.NewServeMux(), metrics: newMetrics(o.Registerer)}
	s.Health.init(o.Version)
	s.base.HandleFunc("GET /ready", s.serveReady)
	s.base.HandleFunc("GET /-/ready", s.serveReady)
	s.base.HandleFunc("GET /-/healthy", serveHealthy)
	s.base.HandleFunc("GET /api/v1/status", s.serveStatus)
	if o.Gatherer != nil {
		s.base.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	}
	for _, p := range patterns() {
		s.base.HandleFunc(p, s.serveAPI)
	}
	s.handler = s.protectOrigins(timed(s.base), o.AllowedOrigins)
	return s
}

// Handle adds a handler, such as that of the built-in page, for paths that the server
// itself does not answer. It may be called while requests are served.
func (s *Server) Handle(pattern string, h http.Handler) { s.base.Handle(pattern, h) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.metrics.aborted(s.options.Logger, r)
	s.handler.ServeHTTP(w, r)
}
