package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/grafana/pyroscope/api/gen/proto/go/capabilities/v1/capabilitiesv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/settings/v1/settingsv1connect"
)

// Requests that are no pushes have a memory of their own until they are decoded, and are
// of no more than maxQuestionBytes.
const (
	questionMemory   = 8 << 20
	maxQuestionBytes = 4 << 20
)

// Open serves the API from db from now on. The caller closes db after the last
// request.
func (s *Server) Open(db Store) {
	o := s.options
	queries := newGate(o.Limits.MaxConcurrentQueries)
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
	}
	mux := http.NewServeMux()
	push := &pusher{store: db, limits: o.Limits, metrics: s.metrics, memory: newPushMemory(o.Limits.MaxPushBytes, "limits.max_push_bytes"), notes: newNoteLog(o.Logger, s.metrics), now: time.Now}
	path, pushes := pushv1connect.NewPusherServiceHandler(push, options...)
	mux.Handle(path, admitted(pushes, push.memory, o.Limits.MaxRequestBytes, keyRequestBytes, s.metrics.refused.Inc))
	mux.Handle(ingestPath, push.ingestHandler(o.Logger))
	mux.Handle(otlpProcedure, admitted(push.otlpHandler(options...), push.memory, o.Limits.MaxRequestBytes, keyRequestBytes, s.metrics.refused.Inc))
	mux.Handle(otlpPath, push.otlpHTTPHandler(o.Logger))
	q := &querier{store: db, limits: o.Limits}
	questions := slices.Clone(options)
	for _, c := range jsonCodecs {
		questions = append(questions, connect.WithCodec(c))
	}
	asked := newPushMemory(questionMemory, "requests that are no pushes")
	handle := func(path string, h http.Handler) {
		most, limit := int64(maxQuestionBytes), "what a request that is no push may have"
		if l := o.Limits.MaxRequestBytes; l > 0 && l <= most {
			most, limit = l, keyRequestBytes
		}
		mux.Handle(path, admitted(h, asked, most, limit, func() {}))
	}
	path, queryHandler := querierv1connect.NewQuerierServiceHandler(q, questions...)
	handle(path, holding(queryHandler))
	r := &renderer{querier: q, now: time.Now}
	for _, prefix := range []string{"", "/pyroscope"} {
		mux.Handle("GET "+prefix+"/render", holding(s.downloads("Render", queries, r.render)))
		mux.Handle("GET "+prefix+"/render-diff", holding(s.downloads("RenderDiff", queries, r.renderDiff)))
	}
	handle(settingsv1connect.NewSettingsServiceHandler(&settings{store: db, now: time.Now}, options...))
	handle(capabilitiesv1connect.NewFeatureFlagsServiceHandler(features{}, options...))
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

// OpenElsewhere tells clients that the profiles are on another server. The
// service counts as ready without a store of its own.
func (s *Server) OpenElsewhere(url string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("this agent keeps no profiles; ask %s, where it sends them", url)))
	})
	s.api.Store(mux)
	s.setOpen(nil)
}

// patterns are the paths that Open serves.
func patterns() []string {
	names := []string{
		pushv1connect.PusherServiceName, querierv1connect.QuerierServiceName, settingsv1connect.SettingsServiceName,
		capabilitiesv1connect.FeatureFlagsServiceName, grpchealth.HealthV1ServiceName,
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

// whenOpen hands a call on once the store is open, and refuses it until then.
func (s *Server) whenOpen(w http.ResponseWriter, r *http.Request) {
	api := s.api.Load()
	if api == nil {
		_, reason := s.Ready()
		refuse(w, r, connect.NewError(connect.CodeUnavailable, errors.New(reason)))
		return
	}
	// Handlers bound what they read as well, but Connect cannot name the limit.
	if most := s.options.Limits.MaxRequestBytes; most > 0 && r.ContentLength > most {
		refuse(w, r, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("the request's body of %d bytes is larger than %d (limits.max_request_bytes)", r.ContentLength, most)))
		return
	}
	plainNearby(r)
	api.ServeHTTP(w, r)
}

// refuse answers in the protocol that the client speaks.
func refuse(w http.ResponseWriter, r *http.Request, err *connect.Error) { refuseStatus(w, r, 0, err) }

// refuseStatus is refuse with a status of HTTP, if it is not 0, for clients of neither
// Connect nor gRPC.
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
