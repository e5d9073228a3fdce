package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what clients ask for and send.
type metrics struct {
	duration *prometheus.HistogramVec
	profiles prometheus.Counter
	bytes    prometheus.Counter
	refused  prometheus.Counter
	inFlight prometheus.Gauge
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
			Help: "Pushes that were not acknowledged.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_server_requests_in_flight",
			Help: "Calls of the API that are being answered.",
		}),
	}
	reg.MustRegister(m.duration, m.profiles, m.bytes, m.refused, m.inFlight)
	return m
}

// interceptor measures every call, and logs those that are this server's
// fault.
func (m *metrics) interceptor(logger *slog.Logger) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			start := time.Now()
			m.inFlight.Inc()
			defer m.inFlight.Dec()
			resp, err := next(ctx, req)
			method, c := req.Spec().Procedure, "ok"
			if err != nil {
				c = connect.CodeOf(err).String()
			}
			m.duration.WithLabelValues(method[strings.LastIndexByte(method, '/')+1:], c).Observe(time.Since(start).Seconds())
			switch connect.CodeOf(err) {
			case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
				if err != nil {
					logger.Error("a call of the API went wrong", "procedure", method, "err", err)
				}
			}
			return resp, err
		}
	}
}

// recovered turns a panic of a handler into an error of its call alone.
func recovered(logger *slog.Logger) func(context.Context, connect.Spec, http.Header, any) error {
	return func(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
		logger.Error("a handler panicked", "procedure", spec.Procedure, "panic", p, "stack", string(debug.Stack()))
		return connect.NewError(connect.CodeInternal, errors.New("internal error; the server's log has it"))
	}
}

// queueTimeout is how long a query waits for others to end.
const queueTimeout = 15 * time.Second

// newGate lets n queries run at once; the others wait for their turn. Pushes
// pass. 0 lets all pass.
func newGate(n int) connect.UnaryInterceptorFunc {
	slots := make(chan struct{}, n)
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if n == 0 || !strings.HasPrefix(req.Spec().Procedure, "/"+querierv1connect.QuerierServiceName+"/") {
				return next(ctx, req)
			}
			timeout := time.NewTimer(queueTimeout)
			defer timeout.Stop()
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil, code(ctx.Err())
			case <-timeout.C:
				return nil, connect.NewError(connect.CodeResourceExhausted,
					fmt.Errorf("%d queries are running and none ended within %s (limits.max_concurrent_queries)", n, queueTimeout))
			}
			defer func() { <-slots }()
			return next(ctx, req)
		}
	}
}
