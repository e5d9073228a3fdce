package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
)

// A sampler is the eBPF source with what it needs. Its zero value is one that
// is off.
type sampler struct {
	source  *sample.Source
	symbols *symbolize.Symbolizer
}

// startSampling starts the eBPF source, tells health about it and returns once
// it samples. Where it is not permitted, the result is a sampler that is off,
// or an error if the configuration insists.
func startSampling(ctx context.Context, c config.EBPF, to sample.Appender, health *server.Health, logger *slog.Logger, reg prometheus.Registerer) (*sampler, error) {
	off := func(reason string) *sampler {
		health.SetSampling(server.EBPFStatus{State: server.SamplingOff, Reason: reason})
		return &sampler{}
	}
	if c.Enabled == config.False {
		return off("switched off by ebpf.enabled"), nil
	}
	s := &sampler{symbols: symbolize.New(symbolize.Options{Logger: logger.With("component", "symbolize"), Registerer: reg})}
	source, err := sample.Start(ctx, sample.Options{
		Appender:    to,
		Symbolizer:  s.symbols,
		Targets:     target.New(target.Options{Logger: logger.With("component", "target"), Registerer: reg}),
		FrequencyHz: c.Frequency,
		Interval:    time.Duration(c.Interval),
		Logger:      logger.With("component", "sample"),
		Registerer:  reg,
	})
	switch {
	case err == nil:
	case ctx.Err() != nil: // stopped while starting
		return &sampler{}, s.symbols.Close()
	case c.Enabled == config.True:
		return nil, errors.Join(fmt.Errorf("ebpf.enabled is true, but: %w", err), s.symbols.Close())
	default:
		logger.Warn("eBPF sampling is off; profiles that are pushed or scraped are kept and shown all the same", "reason", err)
		return off(err.Error()), s.symbols.Close()
	}
	s.source = source
	health.SetSampling(server.EBPFStatus{State: server.SamplingOn, Frequency: c.Frequency})
	go func() {
		<-source.Done()
		health.SetSampling(server.EBPFStatus{State: server.SamplingOff, Reason: "the unwinder has stopped; the service's log says why"})
	}()
	return s, nil
}

// Close writes the last window and stops.
func (s *sampler) Close() error {
	if s.source == nil {
		return nil
	}
	return errors.Join(s.source.Close(), s.symbols.Close())
}
