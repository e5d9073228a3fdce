package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
)

// Pauses before sampling is restarted after it stopped by itself. Each is twice as long
// as the one before; they begin anew after sampling has run for slowestRestart.
const (
	firstRestart   = 5 * time.Second
	slowestRestart = 5 * time.Minute
)

// A source samples until it is closed. Done is closed if it stops by itself because the
// unwinder failed.
type source interface {
	Done() <-chan struct{}
	Close() error
}

// A sampler keeps the eBPF source running. The zero value is switched off.
type sampler struct {
	start   func(context.Context) (source, error) // nil where sampling is off
	insist  bool                                  // ebpf.enabled is true
	health  func(server.EBPFStatus)
	hertz   int
	log     *slog.Logger
	up      prometheus.Gauge
	again   prometheus.Counter
	symbols *symbolize.Symbolizer // nil where sampling is off
	pause   time.Duration         // the first

	// failed receives once, if sampling stopped although ebpf.enabled is true. Only a
	// restart of the process helps then.
	failed chan error
	stop   context.CancelFunc
	done   sync.WaitGroup
	err    error // of closing; valid after done
}

// newSampler returns a sampler for the eBPF source. It does not start it.
func newSampler(c config.EBPF, to sample.Appender, targets *target.Resolver, health *server.Health, kept *keptSymbols, logger *slog.Logger, reg prometheus.Registerer) *sampler {
	s := &sampler{
		insist: c.Enabled == config.True,
		health: health.SetSampling,
		hertz:  c.Frequency,
		log:    logger,
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_sample_up", Help: "1 while the processes of this machine are sampled, else 0.",
		}),
		again: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_sample_stops_total", Help: "Number of times that sampling stopped by itself.",
		}),
		pause:  firstRestart,
		failed: make(chan error, 1),
		stop:   func() {},
	}
	if reg != nil {
		reg.MustRegister(s.up, s.again)
	}
	if c.Enabled == config.False {
		return s
	}
	symbols := kept.symbolizer(symbolize.Options{Logger: logger.With("component", "symbolize"), Registerer: reg})
	s.symbols = symbols
	own := &replacing{Registerer: reg}
	s.start = func(ctx context.Context) (source, error) {
		own.clear()
		started, err := sample.Start(ctx, sample.Options{
			Appender:    to,
			Symbolizer:  symbols,
			Targets:     rawTargets{targets},
			Finish:      targets.Finish,
			FrequencyHz: c.Frequency,
			Interval:    time.Duration(c.Interval),
			SampleTimes: c.SampleTimes,
			OffCPU:      sample.OffCPU{Enabled: c.OffCPU.Enabled, StacksPerSecond: c.OffCPU.StacksPerSecond},
			PageFaults:  sample.PageFaults{Enabled: c.PageFaults.Enabled},
			Allocations: sample.Allocations{Enabled: c.Allocations.Enabled},
			Logger:      logger.With("component", "sample"),
			Registerer:  own,
		})
		if err != nil {
			return nil, err // not a nil *sample.Source in an interface
		}
		return started, nil
	}
	return s
}

// run starts sampling, reports the state to health, and returns once sampling runs; from
// then on it restarts sampling that stops by itself. If sampling is not permitted, the
// sampler is switched off, or, if the configuration requires it, run returns an error.
func (s *sampler) run(ctx context.Context) error {
	if s.start == nil {
		s.off("switched off by ebpf.enabled")
		return nil
	}
	src, err := s.start(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil: // stopped while starting
		return nil //nolint:nilerr // the shutdown was requested
	case s.insist:
		return fmt.Errorf("ebpf.enabled is true, but: %w", err)
	default:
		s.log.Warn("eBPF sampling is off; profiles that are pushed or scraped are kept and shown all the same", "reason", err)
		s.off(err.Error())
		return nil
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.on()
	s.done.Go(func() { s.err = s.watch(ctx, src) })
	return nil
}

// watch keeps sampling running until ctx ends, and returns what closing the last
// source gave.
func (s *sampler) watch(ctx context.Context, src source) error {
	pause, began := s.pause, time.Now()
	for {
		select {
		case <-ctx.Done():
			return src.Close()
		case <-src.Done():
		}
		const reason = "the unwinder has stopped; the service's log says why"
		s.again.Inc()
		s.down(reason)
		if err := src.Close(); err != nil { // the last window is written
			s.log.Warn("stop what is left of sampling", "err", err)
		}
		if s.insist {
			s.failed <- errors.New("ebpf.enabled is true, but sampling has ended: the unwinder broke down")
			return nil
		}
		if time.Since(began) >= slowestRestart {
			pause = s.pause
		}
		s.log.Error("sampling has stopped by itself and is started again", "in", pause)
		for src = nil; src == nil; {
			if !wait(ctx, pause) {
				return nil
			}
			pause = min(2*pause, slowestRestart)
			var err error
			if src, err = s.start(ctx); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // the shutdown was requested
				}
				s.log.Error("sampling cannot be started again yet", "err", err, "next_attempt_in", pause)
				s.down("the unwinder has stopped and cannot be started again yet: " + err.Error())
				src = nil
			}
		}
		began = time.Now()
		s.on()
	}
}

func (s *sampler) on() {
	s.up.Set(1)
	s.health(server.EBPFStatus{State: server.SamplingOn, Frequency: s.hertz})
}

func (s *sampler) off(reason string) {
	s.up.Set(0)
	s.health(server.EBPFStatus{State: server.SamplingOff, Reason: reason})
}

func (s *sampler) down(reason string) {
	s.up.Set(0)
	s.health(server.EBPFStatus{State: server.SamplingFailed, Reason: reason})
}

// Close writes the last window and stops.
func (s *sampler) Close() error {
	s.stop()
	s.done.Wait()
	s.up.Set(0)
	if s.symbols == nil {
		return s.err
	}
	return errors.Join(s.err, s.symbols.Close())
}

// wait waits and reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// A replacing Registerer lets a source register its metrics that is started in
// place of another: those of the other go first, so counters begin at 0 as after a
// restart of the process.
type replacing struct {
	prometheus.Registerer
	mu  sync.Mutex
	all []prometheus.Collector
}

// Register registers one collector.
func (r *replacing) Register(c prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
	return r.Registerer.Register(c)
}

// MustRegister registers collectors and panics if one cannot be.
func (r *replacing) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// clear takes all back that was registered.
func (r *replacing) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		r.Unregister(c)
	}
	r.all = nil
}
