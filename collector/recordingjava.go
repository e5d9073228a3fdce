package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/java"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

// startJava records the JVMs of this machine, if that is configured, until stop is
// called. stop returns when the recordings have ended and the last profile is stored.
func startJava(ctx context.Context, c *config.Config, to java.Appender, targets *target.Resolver, logger *slog.Logger, reg prometheus.Registerer) (stop func(), err error) {
	if !c.Java.Enabled {
		return func() {}, nil
	}
	selector, err := profile.ParseSelector(c.Java.Selector)
	if err != nil {
		return nil, fmt.Errorf("java.selector: %w", err)
	}
	limits := ingestLimits(c)
	s, err := java.New(java.Options{
		Appender:      to,
		Labels:        func(pid int) labels.Labels { return targets.Labels(pid, target.Hint{}) },
		Decode:        func(c java.Chunk) ([]profile.Profile, error) { return decodeChunk(c, time.Now(), limits) },
		Selector:      selector,
		AsyncProfiler: c.Java.AsyncProfiler,
		Interval:      time.Duration(c.Java.Interval),
		AllocInterval: int64(c.Java.AllocInterval),
		LockThreshold: time.Duration(c.Java.LockThreshold),
		LiveWindow:    time.Duration(c.Java.LiveWindow),
		MaxProcesses:  c.Java.MaxProcesses,
		MaxChunkBytes: int64(c.Limits.MaxProfileBytes),
		Logger:        logger.With("component", "java"),
		Registerer:    reg,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

// decodeChunk reads a chunk of a JVM's recording. The profiles have the labels of the
// process alone, as those of the sampler.
func decodeChunk(c java.Chunk, now time.Time, limits ingest.Limits) ([]profile.Profile, error) {
	ps, _, err := ingest.JFR(c.Data, nil, ingest.Push{Labels: c.Labels, From: now, Until: now, AllocInterval: c.AllocInterval, OldThreads: c.OldThreads}, limits)
	for i := range ps {
		ps[i].Labels = labels.NewBuilder(ps[i].Labels).Del("jfr_event").Labels()
	}
	return ps, err
}
