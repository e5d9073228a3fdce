//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/ebpf-profiler/log"
	unwindmetrics "go.opentelemetry.io/ebpf-profiler/metrics"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// library is where the unwinder's log lines and counters go. The unwinder has
// one logger and one set of instruments for the whole process, so this is one
// for the process too: that of the Source started last.
var library bridge

// A bridge carries what the unwinder tells about itself to the current Source.
type bridge struct {
	once    sync.Once
	current atomic.Pointer[ears]

	mu  sync.Mutex
	all []*ears // of the Sources that run, the last of which is current
}

// ears are the logger and the metrics of one Source.
type ears struct {
	log     *slog.Logger
	metrics *metrics
}

// connect directs the unwinder's logs and counters to a Source, until disconnect directs
// them to the one before. After the last one they stay with it.
func (b *bridge) connect(l *slog.Logger, m *metrics) (disconnect func()) {
	e := &ears{log: l, metrics: m}
	b.mu.Lock()
	b.all = append(b.all, e)
	b.current.Store(e)
	b.mu.Unlock()
	b.once.Do(func() {
		log.SetLogger(*slog.New(&quietHandler{bridge: b}))
		unwindmetrics.Start(libraryMeter{bridge: b})
	})
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.all = slices.DeleteFunc(b.all, func(o *ears) bool { return o == e })
		if n := len(b.all); n > 0 {
			b.current.Store(b.all[n-1])
		}
	}
}

// A quietHandler passes on the unwinder's log lines one level lower: its
// information is for debugging. Warnings and errors often repeat for one
// binary that it cannot read, so they are counted, and no more than one in
// quietTime is shown above debug level.
type quietHandler struct {
	bridge *bridge
	last   atomic.Int64 // Unix ns of the last line above debug level
}

const quietTime = 5 * time.Minute

// level returns the level that a line of the unwinder is logged at.
func (h *quietHandler) level(l slog.Level) slog.Level {
	if l >= slog.LevelError {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (h *quietHandler) Enabled(ctx context.Context, l slog.Level) bool {
	e := h.bridge.current.Load()
	return l >= slog.LevelWarn || e.log.Enabled(ctx, h.level(l))
}

func (h *quietHandler) Handle(ctx context.Context, r slog.Record) error {
	e := h.bridge.current.Load()
	if r.Level >= slog.LevelWarn {
		e.metrics.libraryLogs.WithLabelValues(r.Level.String()).Inc()
	}
	level := h.level(r.Level)
	if level > slog.LevelDebug {
		last, now := h.last.Load(), time.Now().UnixNano()
		if now-last < int64(quietTime) || !h.last.CompareAndSwap(last, now) {
			level = slog.LevelDebug
		}
	}
	e.log.Log(ctx, level, "unwinder: "+r.Message)
	return nil
}

func (h *quietHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *quietHandler) WithGroup(string) slog.Handler      { return h }

// A libraryMeter makes the instruments that the unwinder counts with; those of
// no interest to us count nothing.
type libraryMeter struct {
	noop.Meter
	bridge *bridge
}

// lossCounters are the unwinder's counters of samples that it lost, with our
// reason for each.
var lossCounters = map[string]string{
	"bpf.errors.ringbuf_output":           "buffer_full",
	"agent.errors.trace_event_read_error": "read_error",
	"agent.errors.trace_event_no_data":    "read_error",
	"bpf.samples.skipped_process_too_new": "process_too_new",
}

func (m libraryMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	if reason, ok := lossCounters[name]; ok {
		return lossCounter{bridge: m.bridge, reason: reason}, nil
	}
	return noop.Int64Counter{}, nil
}

// A lossCounter adds to flameline_sample_lost_samples_total.
type lossCounter struct {
	noop.Int64Counter
	bridge *bridge
	reason string
}

func (c lossCounter) Add(_ context.Context, n int64, _ ...metric.AddOption) {
	c.bridge.current.Load().metrics.lost.WithLabelValues(c.reason).Add(float64(n))
}
