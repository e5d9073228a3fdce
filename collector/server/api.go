package server

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
)

// Open serves the API from db from now on. The caller closes db after the last
// request.
func (s *Server) Open(db Store) {
	o := s.options
	options := []connect.HandlerOption{
		connect.WithInterceptors(s.metrics.interceptor(o.Logger), newGate(o.Limits.MaxConcurrentQueries)),
		connect.WithRecover(recovered(o.Logger)),
		compression(),
		connect.WithCompressMinBytes(1024),
		connect.WithReadMaxBytes(int(o.Limits.MaxRequestBytes)),
	}
	names := []string{pushv1connect.PusherServiceName, querierv1connect.QuerierServiceName}
	mux := http.NewServeMux()
	mux.Handle(pushv1connect.NewPusherServiceHandler(&pusher{store: db, limits: o.Limits, metrics: s.metrics, now: time.Now}, options...))
	mux.Handle(querierv1connect.NewQuerierServiceHandler(&querier{store: db, limits: o.Limits}, options...))
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(names...)))
	reflector := grpcreflect.NewStaticReflector(names...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector))
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
	out := []string{BackupPath}
	for _, name := range []string{
		pushv1connect.PusherServiceName, querierv1connect.QuerierServiceName, grpchealth.HealthV1ServiceName,
		grpcreflect.ReflectV1ServiceName, grpcreflect.ReflectV1AlphaServiceName,
	} {
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
	// Connect bounds what it reads as well, but cannot name the limit.
	if most := s.options.Limits.MaxRequestBytes; most > 0 && r.ContentLength > most {
		refuse(w, r, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("the request's body of %d bytes is larger than %d (limits.max_request_bytes)", r.ContentLength, most)))
		return
	}
	api.ServeHTTP(w, r)
}

// refuse answers in the protocol that the client speaks.
func refuse(w http.ResponseWriter, r *http.Request, err *connect.Error) {
	if ew := connect.NewErrorWriter(); ew.IsSupported(r) {
		_ = ew.Write(w, r, err)
		return
	}
	http.Error(w, err.Message(), http.StatusServiceUnavailable)
}
