package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

// metrics count requests, pushed profiles and failures.
type metrics struct {
	duration *prometheus.HistogramVec
	profiles prometheus.Counter
	bytes    prometheus.Counter
	refused  prometheus.Counter
	notes    *prometheus.CounterVec
	guarded  *prometheus.CounterVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flameline_server_request_duration_seconds",
			Help:    "Time to answer a call of the API, by method and Connect code.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}, []string{"method", "code"}),
		profiles: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_server_pushed_profiles_total",
			Help: "Profiles pushed and acknowledged.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_server_pushed_bytes_total",
			Help: "Size of the acknowledged profiles after decompression.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_server_refused_pushes_total",
			Help: "Pushes that were refused or failed.",
		}),
		notes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_server_push_notes_total",
			Help: "Parts of accepted pushes that were left out (skipped) or changed (corrected), by kind.",
		}, []string{"action", "kind"}),
		guarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_server_guarded_requests_total",
			Help: "Requests refused because a web page of another origin made them (origin), or because they name another host (host).",
		}, []string{"reason"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_server_requests_in_flight",
			Help: "Calls of the API that are being answered.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_server_panics_total",
			Help: "Requests that ended in a panic, which is a bug; the log has the stack.",
		}),
	}
	reg.MustRegister(m.duration, m.profiles, m.bytes, m.refused, m.notes, m.guarded, m.inFlight, m.panics)
	return m
}

// interceptor measures every call over Connect.
func (m *metrics) interceptor(logger *slog.Logger) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (resp connect.AnyResponse, err error) {
			err = m.measure(logger, req.Spec().Procedure, func() error {
				resp, err = next(ctx, req)
				return err
			})
			return resp, err
		}
	}
}

// measure measures a call, and logs its error if the server is at fault.
func (m *metrics) measure(logger *slog.Logger, procedure string, call func() error) error {
	start := time.Now()
	m.inFlight.Inc()
	defer m.inFlight.Dec()
	err := call()
	c := "ok"
	if err != nil {
		c = connect.CodeOf(err).String()
		switch connect.CodeOf(err) {
		case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
			logger.Error("a call of the API failed", "procedure", procedure, "err", err)
		}
	}
	method := procedure[strings.LastIndexByte(procedure, '/')+1:]
	m.duration.WithLabelValues(method, c).Observe(time.Since(start).Seconds())
	return err
}

// recovered counts and logs a handler's panic, with its stack, and turns it into an
// error of that call.
func (m *metrics) recovered(logger *slog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
		m.panics.Inc()
		logger.Error("a handler panicked", "procedure", spec.Procedure, "panic", p, "stack", string(debug.Stack()))
		return connect.NewError(connect.CodeInternal, store.ErrInternal)
	}
}

// aborted is deferred around every request. It counts and logs a panic that nothing else
// recovered, such as one while an answer is encoded, and makes the HTTP server close the
// connection, so that the client sees an incomplete answer.
func (m *metrics) aborted(logger *slog.Logger, r *http.Request) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler: // a handler closes the connection on purpose
		panic(p)
	default:
		m.panics.Inc()
		logger.Error("answering a request panicked", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		panic(http.ErrAbortHandler)
	}
}

// queueTimeout is how long a query without a deadline waits for its turn.
const queueTimeout = 15 * time.Second

// A queryLimiter is a semaphore that bounds the queries that run at once; others wait
// for their turn. One of capacity 0 has no bound.
type queryLimiter chan struct{}

func newQueryLimiter(n int) queryLimiter { return make(queryLimiter, n) }

// interceptor makes queries over Connect wait for their turn. Pushes do not wait.
func (l queryLimiter) interceptor() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			switch service, _, _ := strings.Cut(strings.TrimPrefix(req.Spec().Procedure, "/"), "/"); service {
			case querierv1connect.QuerierServiceName, flamelinev1connect.QueryServiceName:
			default:
				return next(ctx, req)
			}
			release, err := l.acquire(ctx)
			if err != nil {
				return nil, err
			}
			defer release()
			return next(ctx, req)
		}
	}
}

// acquire waits for the query's turn. The caller must call release when the query ends.
func (l queryLimiter) acquire(ctx context.Context) (release func(), err error) {
	n := cap(l)
	if n == 0 {
		return func() {}, nil
	}
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	default:
	}
	wait, deadline := store.Patience(ctx, queueTimeout)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, code(ctx.Err())
	case <-timeout.C:
		until := ""
		if !deadline.IsZero() {
			until = ", and the deadline of the request is at " + deadline.UTC().Format("15:04:05.000 UTC")
		}
		return nil, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d queries are running, and this one waited %s for its turn (limits.max_concurrent_queries)%s; try again later", n, wait.Round(time.Millisecond), until))
	}
}
