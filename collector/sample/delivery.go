package sample

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/pkg/profile"
)

// Bounds of a delivery.
const (
	queueLength   = 24 // flushes that wait for the appender: 2 min at 5 s
	appendTimeout = 30 * time.Second
	retryFirst    = 250 * time.Millisecond
	retryMost     = 10 * time.Second
	closeTimeout  = 10 * time.Second // for what is left at Close

	finishTimeout = 10 * time.Second // for labels that are not known yet
	finishers     = 64               // labels that are waited for at once
)

// A delivery hands windows to the appender, one call for each flush, and tries
// again when that fails. It never makes the sampler wait: when too much is
// queued, the oldest windows are lost and counted.
type delivery struct {
	appender Appender
	interval time.Duration
	period   int64
	finish   Finisher
	log      *slog.Logger
	metrics  *metrics

	mu     sync.Mutex
	queue  [][]*window
	closed bool
	wake   chan struct{} // capacity 1
	done   chan struct{} // closed when run has returned
}

func newDelivery(o Options, m *metrics) *delivery {
	return &delivery{
		appender: o.Appender,
		interval: o.Interval,
		period:   o.period(),
		finish:   o.Finish,
		log:      o.Logger,
		metrics:  m,
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
}

// put queues the windows of one flush. It does not block.
func (d *delivery) put(ws []*window) {
	if len(ws) == 0 {
		return
	}
	d.mu.Lock()
	var lost [][]*window
	d.queue = append(d.queue, ws)
	if n := len(d.queue) - queueLength; n > 0 {
		lost, d.queue = d.queue[:n:n], d.queue[n:]
	}
	d.mu.Unlock()
	for _, ws := range lost {
		d.lose(ws, "queue_full")
	}
	d.signal()
}

// close makes run return once the queue is empty or ctx is done, and waits.
func (d *delivery) close(ctx context.Context) {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.signal()
	select {
	case <-d.done:
	case <-ctx.Done():
	}
}

func (d *delivery) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take removes the oldest flush; more reports whether there will be others.
func (d *delivery) take() (ws []*window, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) > 0 {
		ws, d.queue = d.queue[0], d.queue[1:]
	}
	return ws, !d.closed
}

// run appends what is queued until close or the end of ctx. What is left then
// is counted as lost.
func (d *delivery) run(ctx context.Context) {
	defer close(d.done)
	for ctx.Err() == nil {
		ws, more := d.take()
		switch {
		case ws != nil:
			d.deliver(ctx, ws)
		case !more:
			return
		default:
			select {
			case <-d.wake:
			case <-ctx.Done():
			}
		}
	}
	for ws, _ := d.take(); ws != nil; ws, _ = d.take() {
		d.lose(ws, "shutdown")
	}
}

// deliver appends the windows of one flush, with pauses between attempts until
// it succeeds, newer flushes fill the queue, or ctx is done.
func (d *delivery) deliver(ctx context.Context, ws []*window) {
	ws = d.finished(ctx, ws)
	pause := retryFirst
	for attempt := 1; ; attempt++ {
		err := d.try(ctx, ws)
		if err == nil {
			if attempt > 1 {
				d.log.Info("profiles stored after all", "attempts", attempt)
			}
			return
		}
		d.metrics.appendFailures.Inc()
		if attempt == 1 {
			d.log.Warn("store profiles, will try again", "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			d.lose(ws, "shutdown")
			return
		}
		pause = min(2*pause, retryMost)
		if d.full() {
			d.lose(ws, "append_failed")
			return
		}
	}
}

// finished returns the windows with the labels of their series finished.
func (d *delivery) finished(ctx context.Context, ws []*window) []*window {
	if d.finish == nil {
		return ws
	}
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	var mu sync.Mutex
	final := map[uint64]labels.Labels{} // by the hash of those before
	var group errgroup.Group
	group.SetLimit(finishers)
	for _, w := range ws {
		for key, s := range w.series {
			mu.Lock()
			_, known := final[key]
			if !known {
				final[key] = s.labels
			}
			mu.Unlock()
			if known {
				continue
			}
			group.Go(func() error {
				ls := d.finish(ctx, s.labels)
				mu.Lock()
				defer mu.Unlock()
				final[key] = ls
				return nil
			})
		}
	}
	_ = group.Wait() // which returns no error
	for i, w := range ws {
		ws[i] = w.relabelled(final)
	}
	return ws
}

// try makes one attempt with fresh profiles, as the appender owns those it gets.
func (d *delivery) try(ctx context.Context, ws []*window) error {
	var ps []profile.Profile
	for _, w := range ws {
		ps = append(ps, w.profiles(d.interval, d.period)...)
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	start := time.Now()
	err := d.appender.Append(ctx, ps)
	d.metrics.appendSeconds.Observe(time.Since(start).Seconds())
	if err != nil {
		return err
	}
	d.metrics.windows.Add(float64(len(ws)))
	d.metrics.series.Set(float64(len(ps)))
	return nil
}

func (d *delivery) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue) >= queueLength
}

// lose counts windows that will not be stored.
func (d *delivery) lose(ws []*window, reason string) {
	var n int64
	for _, w := range ws {
		n += w.samples
	}
	d.metrics.lost.WithLabelValues(reason).Add(float64(n))
	d.log.Warn("profiles lost", "reason", reason, "samples", n)
}
