package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/forward"
	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/collector/web"
	"github.com/flameline/flameline/pkg/profile"
)

// noLimit is the store's value for a time limit that is switched off.
const noLimit = 100 * 365 * 24 * time.Hour

// serveCommand is `flameline serve` and its flags.
type serveCommand struct {
	settings
	configFile string
}

func newServeCommand(app *kingpin.Application) *serveCommand {
	s := &serveCommand{settings: settings{clause: app.Command("serve", "Run the service.")}}
	s.clause.Flag("config.file", "YAML configuration file; the flags below take precedence.").StringVar(&s.configFile)
	d := config.Default()
	s.flag("web.listen-address", "Address to listen on.", d.Web.ListenAddress,
		func(c *config.Config, v string) error { c.Web.ListenAddress = v; return nil })
	s.flag("web.config.file", "Web configuration file of Prometheus' exporter-toolkit: TLS, basic auth.", "FILE",
		func(c *config.Config, v string) error { c.Web.ConfigFile = v; return nil })
	s.flag("storage.path", "Directory of the store.", d.Storage.Path,
		func(c *config.Config, v string) error { c.Storage.Path = v; return nil })
	s.flag("storage.retention", "How long profiles are kept; 0 means without end.", d.Storage.Retention.String(),
		func(c *config.Config, v string) error { return c.Storage.Retention.Set(v) })
	s.flag("ebpf.enabled", "Sample every process: auto (where permitted), true (exit where not permitted), false.", string(d.EBPF.Enabled),
		func(c *config.Config, v string) error { return c.EBPF.Enabled.Set(v) })
	s.flag("ebpf.frequency", "Samples per second and CPU.", strconv.Itoa(d.EBPF.Frequency),
		func(c *config.Config, v string) (err error) { c.EBPF.Frequency, err = strconv.Atoi(v); return err })
	s.flag("log.level", "Least severity that is logged: debug, info, warn, error.", d.Log.Level,
		func(c *config.Config, v string) error { c.Log.Level = v; return promslog.NewLevel().Set(v) })
	s.flag("log.format", "Form of log messages: logfmt, json.", d.Log.Format,
		func(c *config.Config, v string) error { c.Log.Format = v; return promslog.NewFormat().Set(v) })
	return s
}

// config reads the file, if there is one, and applies the flags to it.
func (s *serveCommand) config() (*config.Config, error) {
	c := config.Default()
	if s.configFile != "" {
		var err error
		if c, err = config.Load(s.configFile); err != nil {
			return nil, err
		}
	}
	return c, s.apply(c)
}

// run runs the service until ctx ends.
func (s *serveCommand) run(ctx context.Context, stderr io.Writer) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	log := &promslog.Config{Writer: stderr, Level: promslog.NewLevel(), Format: promslog.NewFormat()}
	if err := errors.Join(log.Level.Set(c.Log.Level), log.Format.Set(c.Log.Format)); err != nil {
		return err
	}
	logger := promslog.New(log)
	logger.Info("starting", "version", version.Info())

	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("flameline"),
	)
	srv := server.New(server.Options{
		Logger:     logger.With("component", "server"),
		Registerer: reg,
		Gatherer:   reg,
		Version:    version.Version,
		Limits:     serverLimits(c),

		AllowedOrigins: c.Web.AllowedOrigins,
	})
	srv.Handle("/", web.Handler(web.Options{API: srv}))
	if err := checkWeb(c.Web); err != nil {
		return err
	}
	listening, err := listen(ctx, c.Web, srv, logger)
	if err != nil {
		return err
	}
	err = serveStore(ctx, c, srv, listening, logger, reg)
	return errors.Join(err, listening.stop())
}

// serveStore opens the store, or an agent's connection to its server, runs the sources,
// and returns at shutdown.
func serveStore(ctx context.Context, c *config.Config, srv *server.Server, listening *listening, logger *slog.Logger, reg prometheus.Registerer) (err error) {
	kept, err := openSymbols(c, logger, reg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	srv.KeepDebugFiles(kept.uploads)
	to, failed, closeStore, err := openStore(c, srv, kept, logger, reg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()

	stopScraping, err := startScraping(ctx, c, srv, to, kept, logger, reg)
	if err != nil {
		return err
	}
	targets, stopLabels, err := startLabels(ctx, c, logger, reg)
	if err != nil {
		return errors.Join(err, stopScraping())
	}
	defer stopLabels()
	stopJava, err := startJava(ctx, c, sampledTo(to), targets, logger, reg)
	if err != nil {
		return errors.Join(err, stopScraping())
	}
	sampler := newSampler(c.EBPF, sampledTo(to), targets, &srv.Health, kept, logger, reg)
	if err := sampler.run(ctx); err != nil {
		stopJava()
		return errors.Join(err, sampler.Close(), stopScraping())
	}
	stopCaptures, err := startCaptures(ctx, c, srv, sampledTo(to), targets, sampler, logger, reg)
	if err != nil {
		stopJava()
		return errors.Join(err, sampler.Close(), stopScraping())
	}
	logger.Info("ready", "address", listening.address, "ebpf", srv.Status().EBPF.State)
	defer time.AfterFunc(startTime, func() {
		if err := dropStartPages(); err != nil {
			logger.Debug("code that only the start needed stays in memory", "err", err)
		}
	}).Stop()
	select {
	case <-ctx.Done():
	case err = <-listening.failed:
	case err = <-sampler.failed:
	case <-failed: // only a restart helps; closeStore returns the reason
	}
	// Shut down in the order of the data: the sources first, so that their last profiles
	// are stored, then open requests, then the store.
	logger.Info("stopping")
	srv.SetStopping()
	stopJava()
	stopCaptures()
	return errors.Join(err, sampler.Close(), stopScraping(), listening.stop())
}

// startTime is when the first profiles have been stored, with the symbols of programs that
// ran before.
const startTime = 20 * time.Second

// An appender stores the profiles of the sources, and returns once they are safe.
type appender interface {
	Append(ctx context.Context, ps []profile.Profile) error
}

// A queue is an appender that can also store profiles without waiting, which an agent's
// is.
type queue interface {
	appender
	Queue(ctx context.Context, ps []profile.Profile) error
}

// sampledTo returns the appender for sampled profiles, which does not wait if that is
// possible.
func sampledTo(to appender) appender {
	if q, ok := to.(queue); ok {
		return queued{q}
	}
	return to
}

// queued is an appender that queues profiles without waiting.
type queued struct{ queue }

func (q queued) Append(ctx context.Context, ps []profile.Profile) error { return q.Queue(ctx, ps) }

// flushTimeout bounds how long an agent's queued profiles may delay the shutdown.
const flushTimeout = 10 * time.Second

// openStore opens the store and connects the server to it. For an agent it creates the
// connection to its server instead. failed is closed if the store can no longer be
// written.
func openStore(c *config.Config, srv *server.Server, kept *keptSymbols, logger *slog.Logger, reg prometheus.Registerer) (to appender, failed <-chan struct{}, closeStore func() error, err error) {
	if c.Push.URL != "" {
		client, err := promconfig.NewClientFromConfig(c.Push.HTTPClientConfig, "push")
		if err != nil {
			return nil, nil, nil, fmt.Errorf("push: %w", err)
		}
		f, err := forward.New(forward.Options{
			URL: c.Push.URL, Client: client, Logger: logger.With("component", "forward"), Registerer: reg,
			MaxQueueBytes: int64(c.Push.MaxQueueBytes), MaxQueueProfiles: c.Push.MaxQueueProfiles,
		})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("push.url: %w", err)
		}
		srv.OpenAgent(c.Push.URL)
		return f, nil, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
			defer cancel()
			if err := f.Close(ctx); err != nil {
				logger.Error("stopped with profiles that the server has not accepted", "err", err)
			}
			return nil
		}, nil
	}
	limitMemory(c)
	db, err := store.Open(c.Storage.Path, store.Options{
		Logger:                  logger.With("component", "store"),
		Registerer:              reg,
		CacheBytes:              int64(c.Storage.CacheBytes),
		QueryBytes:              cmp.Or(int64(c.Limits.MaxQueryBytes), math.MaxInt64),
		MaxBytes:                int64(c.Storage.MaxBytes),
		Retention:               time.Duration(c.Storage.Retention),
		RetentionRaw:            time.Duration(c.Storage.RetentionRaw),
		RetentionSlot:           time.Duration(c.Storage.Retention5m),
		RetentionHour:           time.Duration(c.Storage.Retention1h),
		MaxFuture:               cmp.Or(time.Duration(c.Limits.MaxFuture), noLimit),
		MaxAge:                  time.Duration(c.Limits.MaxAge),
		MaxSeriesPerServiceHour: c.Limits.MaxSeriesPerServiceHour,
		Names:                   kept,
		// 0 means none in the file, but the default in the store.
		MinFreeBytes: cmp.Or(int64(c.Storage.MinFreeBytes), -1),
	})
	if err != nil {
		return nil, nil, nil, err
	}
	srv.Open(db)
	return db, db.Failed(), db.Close, nil
}

// otherBytes is the memory, in bytes, of everything but the store's cache and the
// queries.
const otherBytes = 32 << 20

// limitMemory sets the garbage collector's memory limit to the sum of the configured
// limits, unless the environment sets it. It makes collections more frequent than by
// default, which is cheap: most memory is arrays of numbers, which need no marking.
func limitMemory(c *config.Config) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(70)
	}
	if os.Getenv("GOMEMLIMIT") == "" && c.Limits.MaxQueryBytes > 0 {
		debug.SetMemoryLimit(cmp.Or(int64(c.Storage.CacheBytes), store.DefaultCacheBytes) + int64(c.Limits.MaxQueryBytes) + otherBytes)
	}
}

// serverLimits converts the file's limits to those of the server, which does not know
// the file.
func serverLimits(c *config.Config) server.Limits {
	l := c.Limits
	maxAge, maxAgeKey := c.MaxAge()
	return server.Limits{
		Ingest:               ingestLimits(c),
		MaxSeriesPerPush:     l.MaxSeriesPerPush,
		MaxFuture:            time.Duration(l.MaxFuture),
		MaxAge:               time.Duration(maxAge),
		MaxAgeKey:            maxAgeKey,
		MaxRequestBytes:      int64(l.MaxRequestBytes),
		MaxPushBytes:         int64(l.MaxPushBytes),
		MaxQueryRange:        time.Duration(l.MaxQueryRange),
		MaxConcurrentQueries: l.MaxConcurrentQueries,
		MaxNodes:             l.MaxNodes,
		DefaultNodes:         l.DefaultNodes,
		MaxPoints:            l.MaxPoints,
	}
}

func ingestLimits(c *config.Config) ingest.Limits {
	l := c.Limits
	return ingest.Limits{
		SampleTimes:        c.Storage.SampleTimes,
		MaxProfileBytes:    int64(l.MaxProfileBytes),
		MaxSamples:         l.MaxSamples,
		MaxSymbols:         l.MaxSymbols,
		MaxStackDepth:      l.MaxStackDepth,
		MaxSymbolBytes:     l.MaxSymbolBytes,
		MaxLabels:          l.MaxLabels,
		MaxLabelNameBytes:  l.MaxLabelNameBytes,
		MaxLabelValueBytes: l.MaxLabelValueBytes,
	}
}
