package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/grafana/pyroscope/api/gen/proto/go/capabilities/v1/capabilitiesv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1/debuginfov1alpha1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/settings/v1/settingsv1connect"

	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

// Queries and other requests that are not pushes share a memory budget of their own
// until they are decoded. Each may have up to maxQuestionBytes.
const (
	questionMemory   = 8 << 20
	maxQuestionBytes = 4 << 20
)

// Open starts to serve the API from db. The caller must close db after the last request.
func (s *Server) Open(db Store) {
	o := s.options
	queries := newQueryLimiter(o.Limits.MaxConcurrentQueries)
	options := []connect.HandlerOption{
		connect.WithInterceptors(s.metrics.interceptor(o.Logger), queries.interceptor()),
		connect.WithRecover(s.metrics.recovered(o.Logger)),
		compression(),
		connect.WithCodec(vtCodec{}),
		connect.WithCompressMinBytes(1024),
		connect.WithReadMaxBytes(int(o.Limits.MaxRequestBytes)),
	}
	names := []string{
		pushv1connect.PusherServiceName, querierv1connect.QuerierServiceName,
		settingsv1connect.SettingsServiceName, capabilitiesv1connect.FeatureFlagsServiceName,
		debuginfov1alpha1connect.DebuginfoServiceName, flamelinev1connect.QueryServiceName, flamelinev1connect.CaptureServiceName,
	}
	mux := http.NewServeMux()
	push := &pusher{store: db, limits: o.Limits, metrics: s.metrics, memory: newPushMemory(o.Limits.MaxPushBytes, "limits.max_push_bytes"), notes: newNoteLog(o.Logger, s.metrics), now: time.Now}
	path, pushes := pushv1connect.NewPusherServiceHandler(push, options...)
	mux.Handle(path, admitted(pushes, push.memory, o.Limits.MaxRequestBytes, keyRequestBytes, o.Limits.checkPush, s.metrics.refused.Inc))
	mux.Handle(ingestPath, push.ingestHandler(o.Logger))
	mux.Handle(otlpProcedure, admitted(push.otlpHandler(options...), push.memory, o.Limits.MaxRequestBytes, keyRequestBytes, nil, s.metrics.refused.Inc))
	mux.Handle(otlpPath, push.otlpHTTPHandler(o.Logger))
	q := &querier{store: db, limits: o.Limits}
	questions := slices.Clone(options)
	for _, c := range jsonCodecs {
		questions = append(questions, connect.WithCodec(c))
	}
	asked := newPushMemory(questionMemory, "the memory for requests other than pushes")
	handle := func(path string, h http.Handler) {
		most, limit := int64(maxQuestionBytes), "the limit of requests other than pushes"
		if l := o.Limits.MaxRequestBytes; l > 0 && l <= most {
			most, limit = l, keyRequestBytes
		}
		large := admitted(h, asked, most, limit, nil, func() {})
		mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isSmall(r) {
				h.ServeHTTP(w, r)
				return
			}
			large.ServeHTTP(w, r)
		}))
	}
	path, queryHandler := querierv1connect.NewQuerierServiceHandler(q, questions...)
	handle(path, holding(queryHandler))
	path, queryHandler = flamelinev1connect.NewQueryServiceHandler(q, questions...)
	handle(path, holding(queryHandler))
	handle(flamelinev1connect.NewCaptureServiceHandler(capturer{&s.captures}, questions...))
	r := &renderer{querier: q, now: time.Now}
	for _, prefix := range []string{"", "/pyroscope"} {
		mux.Handle("GET "+prefix+"/render", holding(s.downloads("Render", queries, r.render)))
		mux.Handle("GET "+prefix+"/render-diff", holding(s.downloads("RenderDiff", queries, r.renderDiff)))
	}
	handle(settingsv1connect.NewSettingsServiceHandler(&settings{store: db, now: time.Now}, options...))
	handle(capabilitiesv1connect.NewFeatureFlagsServiceHandler(features{}, options...))
	files := &debugFiles{uploads: s.uploads, log: o.Logger}
	handle(debuginfov1alpha1connect.NewDebuginfoServiceHandler(files, options...))
	mux.HandleFunc(DebugUploadPath, files.upload)
	for _, a := range absent {
		handle(a.handler(options...))
	}
	small := connect.WithReadMaxBytes(64 << 10)
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(append(names, otlpService)...), small))
	reflector := grpcreflect.NewStaticReflector(names...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, small))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, small))
	mux.Handle("POST "+BackupPath, s.backups(db))
	s.api.Store(mux)
	s.setOpen(db)
}

// OpenAgent makes an agent ready, which has no store: its API answers with an error that
// names the server, url, to which the agent sends its profiles.
func (s *Server) OpenAgent(url string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("this agent stores no profiles; query %s, which it sends them to", url)))
	})
	s.api.Store(mux)
	s.setOpen(nil)
}

// patterns are the paths that Open serves.
func patterns() []string {
	names := []string{
		pushv1connect.PusherServiceName, querierv1connect.QuerierServiceName, settingsv1connect.SettingsServiceName,
		capabilitiesv1connect.FeatureFlagsServiceName, debuginfov1alpha1connect.DebuginfoServiceName, flamelinev1connect.QueryServiceName,
		flamelinev1connect.CaptureServiceName, grpchealth.HealthV1ServiceName,
		grpcreflect.ReflectV1ServiceName, grpcreflect.ReflectV1AlphaServiceName,
	}
	for _, a := range absent {
		names = append(names, a.name)
	}
	out := []string{BackupPath, ingestPath, otlpProcedure, otlpPath, "/render", "/render-diff", "/pyroscope/render", "/pyroscope/render-diff"}
	for _, name := range names {
		out = append(out, "/"+name+"/")
	}
	return out
}

// serveAPI passes a request to the API, or refuses it while the store is not open.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	api := s.api.Load()
	if api == nil {
		_, reason := s.Ready()
		refuse(w, r, connect.NewError(connect.CodeUnavailable, errors.New(reason)))
		return
	}
	// The handlers enforce the limit too, but Connect's error would not name it.
	if most := s.options.Limits.MaxRequestBytes; most > 0 && r.ContentLength > most && !strings.HasPrefix(r.URL.Path, DebugUploadPath) {
		refuse(w, r, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("the request's body of %d bytes is larger than %d (limits.max_request_bytes)", r.ContentLength, most)))
		return
	}
	skipCompressionForLoopback(r)
	api.ServeHTTP(w, r)
}

// refuse answers in the protocol that the client speaks.
func refuse(w http.ResponseWriter, r *http.Request, err *connect.Error) { refuseStatus(w, r, 0, err) }

// refuseStatus is refuse with an HTTP status for clients that speak neither Connect nor
// gRPC. Status 0 means the one that follows from the error's code.
func refuseStatus(w http.ResponseWriter, r *http.Request, status int, err error) {
	if ew := connect.NewErrorWriter(); ew.IsSupported(r) {
		_ = ew.Write(w, r, err)
		return
	}
	if status == 0 && connect.CodeOf(err) == connect.CodeResourceExhausted {
		status = http.StatusRequestEntityTooLarge
	}
	writeError(w, status, err)
}
