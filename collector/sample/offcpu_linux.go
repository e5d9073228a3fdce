//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/ebpf-profiler/times"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// Counters of waits besides those of all programs, in the order of enum counter in
// bpf/offcpu.c.
const (
	countWaits = countOwn + iota
	countOverBudget
	countNoThread
	countNoSite
	countWaitsLost
)

// waitSettings are what the kernel's part is told: struct settings.
type waitSettings struct {
	Window     uint64 // CLOCK_MONOTONIC, ns: begin of the window
	Generosity uint64 // 256 times the number of a site's first waits that are all unwound
	Gap        uint64 // ns between two stacktraces
}

const (
	adaption = time.Second // how often the share of unwound waits is adapted

	firstGenerosity = 256 << 8
	mostGenerosity  = 1 << 32
	leastGenerosity = 1
)

// An offCPU measures how long threads wait, and where.
type offCPU struct {
	measuring
	objects  offCPUObjects
	ledger   *ledger
	wanted   int // stacktraces per second
	settings waitSettings
	chosen   uint64    // stacktraces in this window, those over the budget too
	since    time.Time // begin of this window

	mu        sync.Mutex
	snapshots []snapshot
}

// oldestOffCPUKernel is the first one with all that bpf/offcpu.c needs: the registers of
// a thread in user space.
var oldestOffCPUKernel = [2]int{5, 15}

// offCPUSupported returns an error that says why off-CPU time cannot be measured here.
func offCPUSupported() error {
	major, minor, err := kernelVersion()
	if err != nil {
		return err
	}
	if least := oldestOffCPUKernel; major < least[0] || major == least[0] && minor < least[1] {
		return fmt.Errorf("%w: kernel %d.%d is too old for off-CPU time, %d.%d or newer is needed", ErrUnsupported, major, minor, least[0], least[1])
	}
	return typeInformation("off-CPU time")
}

// typeInformation returns an error if the kernel's types are not known, which attaching to
// tracepoints needs.
func typeInformation(purpose string) error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return fmt.Errorf("%w: %s: the kernel has no type information (CONFIG_DEBUG_INFO_BTF): %w", ErrUnsupported, purpose, err)
	}
	return nil
}

// openOffCPU loads what measures waits. Nothing is attached yet.
func openOffCPU(ctx context.Context, t *tracer.Tracer, g *gate, set *processSet, o Options, m *metrics) (c *offCPU, err error) {
	if err := offCPUSupported(); err != nil {
		return nil, err
	}
	c = &offCPU{measuring: newMeasuring("off-CPU time", o, m), wanted: o.OffCPU.StacksPerSecond, ledger: newLedger(o.Targets, m)}
	defer func() {
		if err != nil {
			c.free()
		}
	}()
	if err := c.load(ctx, t, g, set, "off_cpu", "nanoseconds", loadOffCPU, nil, &c.objects); err != nil {
		return nil, err
	}
	if err := errors.Join(c.join(c.objects.Unwinder), c.ledger.ended.open(c.objects.Waits)); err != nil {
		return nil, err
	}
	c.events = newCPUEvents("context-switches", c.objects.OffCpuUnwind, unix.PERF_COUNT_SW_CONTEXT_SWITCHES)
	return c, nil
}

// start attaches the programs.
func (c *offCPU) start() error {
	c.settings = waitSettings{
		Window:     uint64(times.GetKTime()),
		Generosity: firstGenerosity,
		// Twice the rate that generosity aims at, for what it cannot foresee.
		Gap: uint64(time.Second) / uint64(2*c.wanted),
	}
	c.ledger.before, c.since = c.settings.Window, time.Now()
	if err := c.set(c.objects.Settings, &c.settings); err != nil {
		return err
	}
	if err := c.events.start(); err != nil {
		return err
	}
	if err := c.attach(c.objects.OffCpuNew, c.objects.OffCpuWakeup, c.objects.OffCpuSwitch); err != nil {
		return err
	}
	c.ledger.ended.read()
	c.running.Go(c.run)
	return nil
}

// run ends windows and adapts how many waits are unwound, until the end.
func (c *offCPU) run() {
	next := func() time.Duration {
		now := time.Now().UnixNano()
		return time.Duration(windowStart(now+1, c.interval) + int64(c.interval) - now)
	}
	end := time.NewTimer(next())
	defer end.Stop()
	adapt := time.NewTicker(adaption)
	defer adapt.Stop()
	for {
		select {
		case <-end.C:
			c.snapshot(time.Now().Add(-c.interval / 2))
			end.Reset(next())
		case <-adapt.C:
			c.adapt()
		case <-c.stop:
			c.adapt()
			c.snapshot(time.Now())
			return
		}
	}
}

// snapshot ends the window that a time is in.
func (c *offCPU) snapshot(in time.Time) {
	c.aim()
	c.settings.Window = uint64(times.GetKTime())
	s := snapshot{start: windowStart(in.UnixNano(), c.interval), end: c.settings.Window, sites: map[site]waited{}}
	if err := c.set(c.objects.Settings, &c.settings); err != nil {
		c.log.Warn("off-CPU window", "err", err)
	}
	err := eachBatch(c.objects.Sites.BatchLookupAndDelete, func(at site, w waited) { s.sites[at] = w })
	if err != nil {
		c.log.Warn("read waits", "err", err)
	}
	err = eachBatch(c.objects.Threads.BatchLookup, func(_ uint32, t offThread) {
		if t.Out != 0 {
			s.off = append(s.off, t)
		}
	})
	if err != nil {
		c.log.Warn("read waiting threads", "err", err)
	}
	c.mu.Lock()
	c.snapshots = append(c.snapshots, s)
	c.mu.Unlock()
}

// batch is how many entries of a map are read at once.
const batch = 4096

// eachBatch calls visit for each entry of a map.
func eachBatch[K, V any](
	read func(*ebpf.MapBatchCursor, any, any, *ebpf.BatchOptions) (int, error), visit func(K, V),
) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, batch), make([]V, batch)
	for {
		n, err := read(&cursor, keys, values, nil)
		for i := range n {
			visit(keys[i], values[i])
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return err
		}
	}
}

// adapt counts, and lowers generosity if far more waits are chosen than may be unwound.
func (c *offCPU) adapt() {
	n, err := c.counts.news(c.objects.Counts)
	if err != nil {
		c.log.Debug("count waits", "err", err)
		return
	}
	c.metrics.offCPUWaits.Add(float64(n[countWaits]))
	c.metrics.offCPUStacks.Add(float64(n[countStacks]))
	for table, count := range map[string]counter{"threads": countNoThread, "sites": countNoSite, "buffer": countWaitsLost} {
		c.metrics.offCPUEvictions.WithLabelValues(table).Add(float64(n[count]))
	}
	c.metrics.offCPULost.WithLabelValues("new_process_buffer_full").Add(float64(n[countUnknownLost]))
	c.metrics.offCPULost.WithLabelValues("unwinder").Add(float64(n[countNotPassed]))
	c.metrics.offCPULost.WithLabelValues("over_budget").Add(float64(n[countOverBudget]))

	c.chosen += n[countStacks] + n[countOverBudget]
	if n[countOverBudget] > n[countStacks] {
		c.settings.Generosity = max(c.settings.Generosity/2, leastGenerosity)
		if err := c.set(c.objects.Settings, &c.settings); err != nil {
			c.log.Warn("adapt off-CPU programs", "err", err)
		}
	}
}

// aim sets generosity for the next window: a site's first waits are unwound more often
// than later ones, so that rates are compared by the window.
func (c *offCPU) aim() {
	rate := float64(c.chosen) / max(time.Since(c.since).Seconds(), 0.1)
	c.chosen, c.since = 0, time.Now()
	wanted := float64(c.wanted)
	change := min(max(wanted/max(rate, 1), 0.1), 2)
	g := float64(c.settings.Generosity)
	if rate > wanted || rate < 0.7*wanted {
		g *= change
	}
	c.settings.Generosity = uint64(min(max(g, leastGenerosity), mostGenerosity))
}

func (c *offCPU) take(_ time.Time, until int64) (ts []*tally) {
	c.mu.Lock()
	n := 0
	for n < len(c.snapshots) && c.snapshots[n].start <= until-int64(c.interval) {
		n++
	}
	ready := c.snapshots[:n:n]
	c.snapshots = c.snapshots[n:]
	c.mu.Unlock()
	for _, s := range ready {
		ts = append(ts, c.ledger.window(s))
	}
	return ts
}

// detach ends measuring; what was measured is the last window. Its snapshot is taken while
// the programs still run, as a wait that ends between the two would be neither in it nor
// reported.
func (c *offCPU) detach() error { return c.end(c.ledger.ended.finish) }

func (c *offCPU) free() {
	_ = errors.Join(c.unlink(), c.ledger.ended.finish(), c.entry.Close(), c.objects.Close())
}
