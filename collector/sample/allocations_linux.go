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
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/ebpf-profiler/times"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// An allocCounter is one of the counters in bpf/alloc.c, in the order of enum counter
// there.
type allocCounter uint32

const (
	countAllocs allocCounter = iota
	countFrees
	countAllocStacks
	countAllocsSkipped
	countAllocsLater
	countAllocsLost
	countFreesLost
	countAllocsNoStack
	countAllocsNotPassed
	countAllocsUnknownLost
	countAllocsNotLive
	countAllocsUnreadable
	numAllocCounters
)

// A happeningKind is enum kind in bpf/alloc.c.
type happeningKind uint32

const (
	happenedAlloc happeningKind = iota
	happenedFree
	happenedEnd // of a process, or of its program by exec
)

// A happening is a sampled allocation, its free, or the end of a process that had some:
// struct happening in bpf/alloc.c.
type happening struct {
	Time    uint64 // CLOCK_MONOTONIC, ns
	Pointer uint64
	Size    uint64 // bytes asked for
	Weight  uint64 // bytes that the allocation stands for
	Due     uint64 // bytes of allocations of the thread that were put off
	PID     uint32
	TID     uint32
	Kind    happeningKind
	Live    uint32 // 1 if its free will be reported
}

// allocSettings are what the kernel's part is told: struct settings.
type allocSettings struct {
	Gap     uint64 // ns between two stacktraces
	Halving uint32 // of 2^Halving allocations one is taken
	_       uint32
}

// An allocCredit is how much time worth of stacktraces may be taken at once: struct credit.
type allocCredit struct{ Last, Left uint64 } // ns

const (
	// mostAllocCredit is CREDIT in bpf/alloc.c.
	mostAllocCredit = uint64(20 * time.Second)
	// allocStacks is how many allocations per second are unwound at most, on the average.
	allocStacks = 200
	mostHalving = 16
	// maxHappenings bounds what waits for the end of a window.
	maxHappenings = 1 << 17
)

// liveKey is struct live_key in bpf/alloc.c.
type liveKey struct {
	Pointer uint64
	PID     uint32
	_       uint32
}

// allocations measure which functions allocate memory and whose memory is in use, in
// programs whose allocator reports sampled allocations.
type allocations struct {
	interval time.Duration
	log      *slog.Logger
	metrics  *metrics
	objects  allocObjects
	entry    *entry
	events   *cpuEvents
	probes   *allocProbes
	reader   *ringbuf.Reader
	stacks   eventStacks
	book     *allocBook

	settings allocSettings
	counts   [numAllocCounters]uint64

	stop    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	links []link.Link
	queue []happening
	// reconcile says that frees were lost since the last window.
	reconcile bool
}

// openAllocations loads what measures allocations. Nothing is attached until a process
// has the probes.
func openAllocations(ctx context.Context, t *tracer.Tracer, g *gate, set *processSet, o Options, m *metrics) (a *allocations, err error) {
	if err := typeInformation("allocations"); err != nil {
		return nil, err
	}
	if err := uprobesSupported(); err != nil {
		return nil, err
	}
	a = &allocations{
		interval: o.Interval, log: o.Logger, metrics: m,
		stacks: newEventStacks(m.allocLost), stop: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			a.free()
		}
	}()
	if a.entry, err = newEntry(ctx, t, "allocations", "bytes"); err != nil {
		return nil, err
	}
	spec, err := loadAlloc()
	if err != nil {
		return nil, fmt.Errorf("read allocation programs: %w", err)
	}
	shared, err := g.share(spec, set)
	if err != nil {
		return nil, err
	}
	together := uprobesTogether()
	if together {
		for _, name := range []string{"allocated", "freed"} {
			spec.Programs[name].AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
	if err := spec.LoadAndAssign(&a.objects, shared); err != nil {
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: Linux 6.0 is needed: %w", ErrUnsupported, err)
		}
		return nil, fmt.Errorf("load allocation programs: %w", err)
	}
	if err := a.objects.Unwinder.Put(uint32(0), a.entry.program); err != nil {
		return nil, fmt.Errorf("join allocation programs and unwinder: %w", err)
	}
	if a.reader, err = ringbuf.NewReader(a.objects.Happenings); err != nil {
		return nil, fmt.Errorf("read allocations: %w", err)
	}
	a.settings = allocSettings{Gap: uint64(time.Second) / allocStacks}
	if err := a.set(); err != nil {
		return nil, err
	}
	a.events = newCPUEvents("page-faults", a.objects.AllocUnwind, unix.PERF_COUNT_SW_PAGE_FAULTS)
	a.book = newAllocBook(o.Targets, m, a.forget)
	measured := func(int) bool { return true }
	if set != nil {
		measured = set.has
	}
	a.probes = newAllocProbes(&a.objects, measured, a.begin, m, o.Logger)
	a.probes.together = together
	return a, nil
}

// has reports whether a process is measured.
func (s *processSet) has(pid int) bool {
	var how uint32
	return s.objects.Only.Lookup(uint32(pid), &how) == nil && how == onlyMeasured
}

// begin attaches what all probes need: the event that calls the unwinder, and the ends of
// processes.
func (a *allocations) begin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.links) == 0 {
		for _, p := range []*ebpf.Program{a.objects.AllocExit, a.objects.AllocExec} {
			l, err := link.AttachTracing(link.TracingOptions{Program: p})
			if err != nil {
				return fmt.Errorf("attach to the ends of processes: %w", err)
			}
			a.links = append(a.links, l)
		}
	}
	return a.events.start()
}

// start begins to read what happens.
func (a *allocations) start() {
	a.running.Go(a.read)
	a.running.Go(a.run)
}

// follow attaches to CPUs that came online, once a probe is attached.
func (a *allocations) follow() error {
	a.mu.Lock()
	begun := len(a.links) > 0
	a.mu.Unlock()
	if !begun {
		return nil
	}
	return a.events.start()
}

func (a *allocations) set() error {
	if err := a.objects.Settings.Put(uint32(0), &a.settings); err != nil {
		return fmt.Errorf("set allocation programs: %w", err)
	}
	return nil
}

// forget tells the kernel's part that the free of an allocation need not be reported.
func (a *allocations) forget(pid uint32, pointer uint64) {
	_ = a.objects.Live.Delete(&liveKey{Pointer: pointer, PID: pid})
}

// isLive reports whether the kernel's part still waits for the free of an allocation.
func (a *allocations) isLive(pid uint32, pointer uint64) bool {
	var one uint8
	err := a.objects.Live.Lookup(&liveKey{Pointer: pointer, PID: pid}, &one)
	return !errors.Is(err, ebpf.ErrKeyNotExist)
}

// read takes what happened, until the reader is closed.
func (a *allocations) read() {
	var buf ringbuf.Record
	for {
		a.reader.SetDeadline(time.Now().Add(waitPoll))
		err := a.reader.ReadInto(&buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return
		case err != nil:
			a.metrics.allocLost.WithLabelValues("read_error").Inc()
			continue
		}
		var h happening
		if err := binary.Read(bytes.NewReader(buf.RawSample), binary.LittleEndian, &h); err != nil {
			a.metrics.allocLost.WithLabelValues("read_error").Inc()
			continue
		}
		a.mu.Lock()
		if len(a.queue) < maxHappenings {
			a.queue = append(a.queue, h)
		} else {
			a.metrics.allocLost.WithLabelValues("queue_full").Inc()
			a.reconcile = true
		}
		a.mu.Unlock()
	}
}

// run adapts how many allocations are taken and looks for files that are not used any
// more, until the end.
func (a *allocations) run() {
	adapt, age := time.NewTicker(adaption), time.NewTicker(probeAge)
	defer adapt.Stop()
	defer age.Stop()
	for {
		select {
		case <-adapt.C:
			a.adapt()
		case <-age.C:
			a.probes.settle() // of processes that the library has read by itself
			a.probes.age()
		case <-a.stop:
			a.adapt()
			return
		}
	}
}

// adapt counts, and changes the share of allocations that are taken so that no more
// stacktraces are than are wanted, once half of the credit for bursts is used up. Those
// that are left out by chance are in the weight of the others.
func (a *allocations) adapt() {
	var n [numAllocCounters]uint64
	for i := range numAllocCounters {
		var perCPU []uint64
		if err := a.objects.Counts.Lookup(uint32(i), &perCPU); err != nil {
			a.log.Debug("count allocations", "err", err)
			return
		}
		var sum uint64
		for _, v := range perCPU {
			sum += v
		}
		n[i], a.counts[i] = sum-a.counts[i], sum
	}
	a.metrics.allocProbes.WithLabelValues(allocName).Add(float64(n[countAllocs]))
	a.metrics.allocProbes.WithLabelValues(freeName).Add(float64(n[countFrees]))
	a.metrics.allocSkipped.WithLabelValues("chance").Add(float64(n[countAllocsSkipped]))
	a.metrics.allocSkipped.WithLabelValues("over_budget").Add(float64(n[countAllocsLater]))
	for reason, c := range map[string]allocCounter{
		"buffer_full": countAllocsLost, "free_buffer_full": countFreesLost, "no_event": countAllocsNoStack, "unwinder": countAllocsNotPassed,
		"new_process_buffer_full": countAllocsUnknownLost, "arguments": countAllocsUnreadable,
	} {
		a.metrics.allocLost.WithLabelValues(reason).Add(float64(n[c]))
	}
	a.metrics.allocNotLive.WithLabelValues("kernel_table").Add(float64(n[countAllocsNotLive]))
	if n[countFreesLost] > 0 {
		a.mu.Lock()
		a.reconcile = true
		a.mu.Unlock()
	}
	taken := n[countAllocStacks] + n[countAllocsNoStack] + n[countAllocsLater]
	var c allocCredit
	if err := a.objects.Credits.Lookup(uint32(0), &c); err != nil {
		a.log.Debug("read the credit of allocations", "err", err)
		return
	}
	switch {
	case taken > allocStacks && c.Left < mostAllocCredit/2 && a.settings.Halving < mostHalving:
		a.settings.Halving++
	case taken < allocStacks/4 && a.settings.Halving > 0:
		a.settings.Halving--
	default:
		return
	}
	if err := a.set(); err != nil {
		a.log.Warn("adapt allocation programs", "err", err)
	}
}

// due returns the windows that have ended before now less the lateness.
func (a *allocations) due(now time.Time) []*tally {
	if a == nil {
		return nil
	}
	return a.take(now, windowStart(now.Add(-lateness).UnixNano(), a.interval))
}

// rest returns all windows.
func (a *allocations) rest() []*tally {
	if a == nil {
		return nil
	}
	return a.take(time.Now(), 1<<62)
}

// take returns the windows of what happened until a time in Unix ns.
func (a *allocations) take(now time.Time, until int64) []*tally {
	offset := now.UnixNano() - int64(times.GetKTime()) // of the wall clock
	a.mu.Lock()
	var ready, later []happening
	for _, h := range a.queue {
		if int64(h.Time)+offset <= until {
			ready = append(ready, h)
		} else {
			later = append(later, h)
		}
	}
	a.queue = later
	reconcile := a.reconcile
	a.reconcile = false
	a.mu.Unlock()
	stacks := a.stacks.take()
	end := min(until, windowStart(now.UnixNano(), a.interval)+int64(a.interval))
	ts := a.book.windows(ready, stacks, end, int64(a.interval), func(t uint64) int64 { return windowStart(int64(t)+offset, a.interval) })
	a.stacks.giveBack(stacks, uint64(max(until-offset, 0)))
	if reconcile {
		a.book.reconcile(a.isLive)
	}
	return ts
}

// detach ends measuring.
func (a *allocations) detach() error {
	if a == nil {
		return nil
	}
	a.probes.close()
	close(a.stop)
	a.mu.Lock()
	errs := []error{a.events.Close()}
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	a.links = nil
	a.mu.Unlock()
	time.Sleep(2 * waitPoll)
	errs = append(errs, a.reader.Close())
	a.running.Wait()
	return errors.Join(errs...)
}

// free unloads the programs.
func (a *allocations) free() {
	if a == nil {
		return
	}
	a.probes.close()
	for _, l := range a.links {
		_ = l.Close()
	}
	_ = a.events.Close()
	if a.reader != nil {
		_ = a.reader.Close()
	}
	_ = a.entry.Close()
	_ = a.objects.Close()
}
