// Command order is a load program: an order service with its own customers,
// whose CPU jumps every few minutes. Orders of the shop are checked with a
// regular expression that is compiled once; orders of partners bring their
// own, and validateOrder compiles it on every call. During a spike all orders
// come from partners.
//
// It serves POST /orders, Prometheus metrics on /metrics and Go profiles on
// /debug/pprof. It keeps nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:4051", "address to serve on")
	var t traffic
	flag.Float64Var(&t.rate, "rate", 250, "orders per second")
	flag.DurationVar(&t.spike.first, "spike.first", time.Minute, "time from the start to the first spike")
	flag.DurationVar(&t.spike.every, "spike.every", 3*time.Minute, "time from one spike's start to the next; 0: one spike that never ends")
	flag.DurationVar(&t.spike.length, "spike.length", time.Minute, "length of a spike")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, t); err != nil {
		slog.Error("order service stopped", "err", err)
		os.Exit(1)
	}
}

// run serves on listen and sends itself traffic until ctx is done.
func run(ctx context.Context, listen string, t traffic) error {
	// A service with customers would hold more data than this one, and so
	// collect garbage less often.
	debug.SetGCPercent(400)
	// One CPU is enough. With more, each order would wake several threads, and of
	// every wake-up the kernel counts some microseconds as CPU time of the thread in
	// which it did not run yet.
	runtime.GOMAXPROCS(1)

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	s := newServer(registry)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.handleOrder)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)

	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	slog.Info("order service listens", "address", l.Addr().String())

	t.run(ctx, "http://"+l.Addr().String()+"/orders")
	if err := server.Close(); err != nil {
		return fmt.Errorf("close server: %w", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
