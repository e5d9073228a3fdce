package main

import (
	"context"
	"errors"
	"log/slog"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/forward"
	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/scrape"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/pkg/profile"
)

// scrapedSymbolBytes bounds the symbol tables of scraped processes on this machine.
const scrapedSymbolBytes = 16 << 20

// startScraping pulls profiles from the configured targets until stop is called, and
// serves the list of targets. stop returns when the last profile is stored.
func startScraping(ctx context.Context, c *config.Config, srv *server.Server, to scrape.Appender, kept *keptSymbols, logger *slog.Logger, reg prometheus.Registerer) (stop func() error, err error) {
	if len(c.ScrapeConfigs) == 0 {
		handleTargets(srv, &scrape.Manager{})
		return func() error { return nil }, nil
	}
	limits := ingestLimits(c)
	var later func(context.Context, []profile.Profile) error
	if q, ok := to.(queue); ok {
		later = q.Queue
	}
	// The sampler's may be absent, or end before the last scrape. The metrics are the
	// sampler's.
	symbols := kept.symbolizer(symbolize.Options{Logger: logger.With("component", "symbolize"), CacheBytes: scrapedSymbolBytes, NoLines: true})
	m, err := scrape.New(scrape.Options{
		Appender: to,
		Queue:    later,
		Decode: func(body []byte) (*googlev1.Profile, error) {
			p, _, err := ingest.Pprof(body, limits)
			return p, err
		},
		Name: func(p *googlev1.Profile, name func(address uint64) string) {
			ingest.NameAddresses(p, name, limits)
		},
		Local: newLocalSymbols("/proc", symbols).lookup,
		Refused: func(err error) bool {
			return errors.Is(err, store.ErrInvalid) || errors.Is(err, forward.ErrRefused)
		},
		Logger:       logger.With("component", "scrape"),
		Registerer:   reg,
		MaxBodyBytes: int64(c.Limits.MaxRequestBytes),
		LabelLimits: scrape.LabelLimits{
			MaxLabels: c.Limits.MaxLabels, MaxLabelNameBytes: c.Limits.MaxLabelNameBytes, MaxLabelValueBytes: c.Limits.MaxLabelValueBytes,
		},
	})
	if err == nil {
		handleTargets(srv, m)
		err = m.ApplyConfig(c.ScrapeConfigs)
	}
	if err != nil {
		return nil, errors.Join(err, symbols.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	return func() error {
		cancel()
		return errors.Join(<-ended, symbols.Close())
	}, nil
}

func handleTargets(srv *server.Server, m *scrape.Manager) {
	srv.Handle("GET /targets", scrape.PageHandler(m))
	srv.Handle("GET /api/v1/targets", scrape.APIHandler(m))
}
