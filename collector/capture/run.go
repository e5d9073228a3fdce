package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/flameline/flameline/collector/sample"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	// interval is the length of a capture's profiles.
	interval = time.Second
	// rescan is how often processes are looked for that begin meanwhile.
	rescan = 2 * time.Second
	// maxMeasured bounds the processes that are told apart in the kernel. If more match,
	// all are sampled there, and those that do not match are left out here.
	maxMeasured = 4096
	// waitsPerSecond is how many waits per second are unwound.
	waitsPerSecond = 1000
)

// A run is a capture on this machine.
type run struct {
	id      string
	request request
	node    *Node
	found   *finder
	stop    context.CancelFunc

	mu    sync.Mutex
	state *flamelinev1.CaptureNode
}

// do samples until the duration is over or ctx ends.
func (c *run) do(ctx context.Context, pids []int) {
	defer c.node.doing.Done()
	defer c.stop()
	m := c.node.metrics
	m.running.Inc()
	defer m.running.Dec()
	c.node.log.Info("a capture begins", "capture", c.id, "processes", len(pids), "duration", c.request.duration)
	err := c.sample(ctx, pids)
	state := flamelinev1.CaptureState_CAPTURE_STATE_DONE
	switch {
	case errors.Is(err, errStopped):
		state, err = flamelinev1.CaptureState_CAPTURE_STATE_STOPPED, nil
	case err != nil:
		c.node.log.Error("a capture failed", "capture", c.id, "err", err)
	}
	c.finish(state, err)
	c.node.log.Info("a capture has ended", "capture", c.id, "profiles", c.report().Profiles)
}

// finish sets the last state; that of an error is that the capture failed.
func (c *run) finish(state flamelinev1.CaptureState, err error) {
	c.change(func(s *flamelinev1.CaptureNode) {
		s.State = state
		if err != nil {
			s.State, s.Reason = flamelinev1.CaptureState_CAPTURE_STATE_FAILED, err.Error()
		}
		if s.Started > 0 {
			s.Ended = time.Now().UnixMilli()
		}
		c.node.metrics.captures.WithLabelValues(StateName(s.State)).Inc()
	})
}

// sample runs a sampler of the processes that match. It returns when all that was sampled
// was handed on.
func (c *run) sample(ctx context.Context, pids []int) error {
	r, o := &c.request, &c.node.o
	frequency := 0 // CPU samples are not asked for
	if r.has(flamelinev1.CaptureKind_CAPTURE_KIND_CPU) {
		frequency = r.frequency
	}
	few := len(pids) <= maxMeasured
	options := sample.Options{
		Appender:    c,
		Symbolizer:  o.Symbolizer,
		Targets:     c.found,
		Finish:      c.found.finisher(c.id),
		FrequencyHz: frequency,
		Interval:    interval,
		OffCPU:      sample.OffCPU{Enabled: r.has(flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU), StacksPerSecond: waitsPerSecond},
		PageFaults:  sample.PageFaults{Enabled: r.has(flamelinev1.CaptureKind_CAPTURE_KIND_PAGE_FAULTS)},
		Allocations: sample.Allocations{Enabled: r.has(flamelinev1.CaptureKind_CAPTURE_KIND_ALLOC), Required: true},
		First:       func() []int { return pids[:min(len(pids), maxMeasured)] },
		OnlyPIDs:    few,
		Logger:      o.Logger,
	}
	if few {
		options.PIDs = pids
	}
	src, err := sample.Start(ctx, options)
	if ctx.Err() != nil {
		if err == nil {
			_ = src.Close()
		}
		return errStopped
	}
	if err != nil {
		return err
	}
	began := src.Began()
	c.change(func(s *flamelinev1.CaptureNode) {
		s.State, s.Started = flamelinev1.CaptureState_CAPTURE_STATE_RUNNING, began.UnixMilli()
	})
	err = c.wait(ctx, src, began.Add(r.duration))
	return errors.Join(err, src.Close())
}

// wait returns when the time is over, and adds processes that begin meanwhile.
func (c *run) wait(ctx context.Context, src *sample.Source, end time.Time) error {
	over := time.NewTimer(time.Until(end))
	defer over.Stop()
	again := time.NewTicker(rescan)
	defer again.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case <-ctx.Done():
			return errStopped
		case <-src.Done():
			return errors.New("the unwinder broke down")
		case <-again.C:
			pids, err := c.found.begun(ctx)
			if err != nil || len(pids) == 0 {
				continue
			}
			if err := src.Measure(pids...); err != nil {
				c.node.log.Debug("processes that began are not in the capture", "capture", c.id, "err", err)
			}
			src.Read(ctx, pids...)
			c.change(func(s *flamelinev1.CaptureNode) { s.Processes += int64(len(pids)) })
		}
	}
}

// Append implements sample.Appender: it hands on the profiles of the kinds that are asked
// for, and counts them.
func (c *run) Append(ctx context.Context, ps []profile.Profile) error {
	ps = slices.DeleteFunc(ps, func(p profile.Profile) bool {
		_, ok := c.request.kindOf(p.Labels.Get(model.MetricNameLabel))
		return !ok
	})
	if len(ps) == 0 {
		return nil
	}
	counts := map[flamelinev1.CaptureKind]int64{} // before the appender owns them
	for _, p := range ps {
		name := p.Labels.Get(model.MetricNameLabel)
		k, _ := c.request.kindOf(name)
		counts[k] += count(k, name, p.Pprof)
	}
	if err := c.node.o.Appender.Append(ctx, ps); err != nil {
		return fmt.Errorf("store profiles of %s: %w", c.id, err)
	}
	c.node.metrics.profiles.Add(float64(len(ps)))
	c.change(func(s *flamelinev1.CaptureNode) {
		s.Profiles += int64(len(ps))
		for k, n := range counts {
			at := slices.IndexFunc(s.Counts, func(c *flamelinev1.CaptureCount) bool { return c.Kind == k })
			if at < 0 {
				at = len(s.Counts)
				s.Counts = append(s.Counts, &flamelinev1.CaptureCount{Kind: k})
			}
			s.Counts[at].Count += n
		}
	})
	return nil
}
