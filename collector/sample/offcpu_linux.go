//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/ebpf-profiler/times"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// A waitCounter is one of the counters in bpf/offcpu.c, in the order of enum counter
// there.
type waitCounter uint32

const (
	countWaits waitCounter = iota
	countStacks
	countOverBudget
	countNoThread
	countNoSite
	countWaitsLost
	countStacksNotPassed
	countNewProcessLost
	numWaitCounters
)

// waitSettings are what the kernel's part is told: struct settings.
type waitSettings struct {
	Window     uint64 // CLOCK_MONOTONIC, ns: begin of the window
	Generosity uint64 // 256 times the number of a site's first waits that are all unwound
	Gap        uint64 // ns between two stacktraces of a CPU
}

const (
	waitPoll = 100 * time.Millisecond // how often ended waits are read
	adaption = time.Second            // how often the share of unwound waits is adapted

	firstGenerosity = 256 << 8
	mostGenerosity  = 1 << 32
	leastGenerosity = 1
)

// An offCPU measures how long threads wait, and where.
type offCPU struct {
	interval time.Duration
	log      *slog.Logger
	metrics  *metrics
	objects  offCPUObjects
	entry    *entry
	events   *cpuEvents
	links    []link.Link
	reader   *ringbuf.Reader
	ledger   *ledger
	perCPU   int // stacktraces per second

	settings waitSettings
	counts   [numWaitCounters]uint64
	chosen   uint64    // stacktraces in this window, those over the budget too
	since    time.Time // begin of this window

	stop    chan struct{}
	running sync.WaitGroup

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
	c = &offCPU{
		interval: o.Interval, log: o.Logger, metrics: m, perCPU: o.OffCPU.StacksPerSecond,
		ledger: newLedger(o.Targets, m), stop: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			c.free()
		}
	}()
	if c.entry, err = newEntry(ctx, t, "off_cpu", "nanoseconds"); err != nil {
		return nil, err
	}
	spec, err := loadOffCPU()
	if err != nil {
		return nil, fmt.Errorf("read off-CPU programs: %w", err)
	}
	shared, err := g.share(spec, set)
	if err != nil {
		return nil, err
	}
	if err := spec.LoadAndAssign(&c.objects, shared); err != nil {
		return nil, fmt.Errorf("load off-CPU programs: %w", err)
	}
	if err := c.objects.Unwinder.Put(uint32(0), c.entry.program); err != nil {
		return nil, fmt.Errorf("join off-CPU programs and unwinder: %w", err)
	}
	if c.reader, err = ringbuf.NewReader(c.objects.Waits); err != nil {
		return nil, fmt.Errorf("read waits: %w", err)
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
		Gap: uint64(time.Second) / uint64(2*c.perCPU),
	}
	c.ledger.before, c.since = c.settings.Window, time.Now()
	if err := c.set(); err != nil {
		return err
	}
	if err := c.events.start(); err != nil {
		return err
	}
	for _, p := range []*ebpf.Program{c.objects.OffCpuNew, c.objects.OffCpuWakeup, c.objects.OffCpuSwitch} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach to the scheduler's tracepoints: %w", err)
		}
		c.links = append(c.links, l)
	}
	c.running.Go(c.read)
	c.running.Go(c.run)
	return nil
}

// set passes the settings on.
func (c *offCPU) set() error {
	if err := c.objects.Settings.Put(uint32(0), &c.settings); err != nil {
		return fmt.Errorf("set off-CPU programs: %w", err)
	}
	return nil
}

// read takes the waits that have ended, until the reader is closed.
func (c *offCPU) read() {
	var buf ringbuf.Record
	for {
		c.reader.SetDeadline(time.Now().Add(waitPoll))
		err := c.reader.ReadInto(&buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return
		case err != nil:
			c.metrics.offCPUEvictions.WithLabelValues("buffer").Inc()
			continue
		}
		var e endedWait
		if err := binary.Read(bytes.NewReader(buf.RawSample), binary.LittleEndian, &e); err != nil {
			c.metrics.offCPUEvictions.WithLabelValues("buffer").Inc()
			continue
		}
		c.ledger.addEnded(e)
	}
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
	if err := c.set(); err != nil {
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
	var n [numWaitCounters]uint64
	for i := range numWaitCounters {
		var perCPU []uint64
		if err := c.objects.Counts.Lookup(uint32(i), &perCPU); err != nil {
			c.log.Debug("count waits", "err", err)
			return
		}
		var sum uint64
		for _, v := range perCPU {
			sum += v
		}
		n[i], c.counts[i] = sum-c.counts[i], sum
	}
	c.metrics.offCPUWaits.Add(float64(n[countWaits]))
	c.metrics.offCPUStacks.Add(float64(n[countStacks]))
	for table, count := range map[string]waitCounter{"threads": countNoThread, "sites": countNoSite, "buffer": countWaitsLost} {
		c.metrics.offCPUEvictions.WithLabelValues(table).Add(float64(n[count]))
	}
	c.metrics.offCPULost.WithLabelValues("new_process_buffer_full").Add(float64(n[countNewProcessLost]))
	c.metrics.offCPULost.WithLabelValues("unwinder").Add(float64(n[countStacksNotPassed]))
	c.metrics.offCPULost.WithLabelValues("over_budget").Add(float64(n[countOverBudget]))

	c.chosen += n[countStacks] + n[countOverBudget]
	if n[countOverBudget] > n[countStacks] {
		c.settings.Generosity = max(c.settings.Generosity/2, leastGenerosity)
		if err := c.set(); err != nil {
			c.log.Warn("adapt off-CPU programs", "err", err)
		}
	}
}

// aim sets generosity for the next window: a site's first waits are unwound more often
// than later ones, so that rates are compared by the window.
func (c *offCPU) aim() {
	rate := float64(c.chosen) / max(time.Since(c.since).Seconds(), 0.1)
	c.chosen, c.since = 0, time.Now()
	wanted := float64(c.perCPU * runtime.NumCPU())
	change := min(max(wanted/max(rate, 1), 0.1), 2)
	g := float64(c.settings.Generosity)
	if rate > wanted || rate < 0.7*wanted {
		g *= change
	}
	c.settings.Generosity = uint64(min(max(g, leastGenerosity), mostGenerosity))
}

// due returns the windows that have ended before now less the lateness.
func (c *offCPU) due(now time.Time) []*tally {
	if c == nil {
		return nil
	}
	return c.take(now.Add(-lateness).UnixNano())
}

// rest returns all windows.
func (c *offCPU) rest() []*tally {
	if c == nil {
		return nil
	}
	return c.take(1<<63 - 1)
}

func (c *offCPU) take(until int64) (ts []*tally) {
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

// detach ends measuring; what was measured is the last window.
func (c *offCPU) detach() error {
	if c == nil {
		return nil
	}
	close(c.stop)
	// The last snapshot is taken while the programs still run, as a wait that ends
	// between the two would be neither in it nor reported.
	time.Sleep(2 * waitPoll)
	errs := []error{c.reader.Close()}
	c.running.Wait()
	for _, l := range c.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, c.events.Close())...)
}

// free unloads the programs.
func (c *offCPU) free() {
	if c == nil {
		return
	}
	for _, l := range c.links {
		_ = l.Close()
	}
	_ = c.events.Close()
	if c.reader != nil {
		_ = c.reader.Close()
	}
	_ = c.entry.Close()
	_ = c.objects.Close()
}
