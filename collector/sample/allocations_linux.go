//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// Counters of allocations besides those of all programs, in the order of enum counter in
// bpf/alloc.c.
const (
	countAllocs = countOwn + iota
	countFrees
	countAllocsSkipped
	countAllocsLater
	countAllocsLost
	countFreesLost
	countAllocsNoStack
	countAllocsNotLive
	countAllocsUnreadable
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
	measuring
	objects  allocObjects
	probes   *allocProbes
	queue    *eventQueue[happening]
	stacks   eventStacks
	book     *allocBook
	settings allocSettings
	// reconcile says that frees were lost since the last window.
	reconcile atomic.Bool

	mu sync.Mutex // guards links
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
	a = &allocations{measuring: newMeasuring("allocations", o, m), stacks: newEventStacks(m.allocLost)}
	a.queue = newEventQueue(maxHappenings, func(h happening) uint64 { return h.Time }, func(reason string) {
		m.allocLost.WithLabelValues(reason).Inc()
		a.reconcile.Store(true)
	})
	defer func() {
		if err != nil {
			a.free()
		}
	}()
	together := uprobesTogether()
	err = a.load(ctx, t, g, set, "allocations", "bytes", loadAlloc, func(spec *ebpf.CollectionSpec) error {
		if together {
			for _, name := range []string{"allocated", "freed"} {
				spec.Programs[name].AttachType = ebpf.AttachTraceUprobeMulti
			}
		}
		return nil
	}, &a.objects)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: Linux 6.0 is needed: %w", ErrUnsupported, err)
	}
	if err != nil {
		return nil, err
	}
	a.settings = allocSettings{Gap: uint64(time.Second) / allocStacks}
	err = errors.Join(a.join(a.objects.Unwinder), a.queue.open(a.objects.Happenings), a.set(a.objects.Settings, &a.settings))
	if err != nil {
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
		if err := a.attach(a.objects.AllocExit, a.objects.AllocExec); err != nil {
			return err
		}
	}
	return a.events.start()
}

// start begins to read what happens.
func (a *allocations) start() error {
	a.queue.read()
	a.running.Go(a.run)
	return nil
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
	n, err := a.counts.news(a.objects.Counts)
	if err != nil {
		a.log.Debug("count allocations", "err", err)
		return
	}
	a.metrics.allocProbes.WithLabelValues(allocName).Add(float64(n[countAllocs]))
	a.metrics.allocProbes.WithLabelValues(freeName).Add(float64(n[countFrees]))
	a.metrics.allocSkipped.WithLabelValues("chance").Add(float64(n[countAllocsSkipped]))
	a.metrics.allocSkipped.WithLabelValues("over_budget").Add(float64(n[countAllocsLater]))
	for reason, c := range map[string]counter{
		"buffer_full": countAllocsLost, "free_buffer_full": countFreesLost, "no_event": countAllocsNoStack, "unwinder": countNotPassed,
		"new_process_buffer_full": countUnknownLost, "arguments": countAllocsUnreadable,
	} {
		a.metrics.allocLost.WithLabelValues(reason).Add(float64(n[c]))
	}
	a.metrics.allocNotLive.WithLabelValues("kernel_table").Add(float64(n[countAllocsNotLive]))
	if n[countFreesLost] > 0 {
		a.reconcile.Store(true)
	}
	taken := n[countStacks] + n[countAllocsNoStack] + n[countAllocsLater]
	var c credit
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
	if err := a.set(a.objects.Settings, &a.settings); err != nil {
		a.log.Warn("adapt allocation programs", "err", err)
	}
}

func (a *allocations) take(now time.Time, until int64) []*tally {
	until = windowStart(until, a.interval)
	end := min(until, windowStart(now.UnixNano(), a.interval)+int64(a.interval))
	ts := stackedWindows(a.queue, &a.stacks, a.interval, now, until, func(ready []happening, stacks stacksByTID, start func(uint64) int64) []*tally {
		return a.book.windows(ready, stacks, end, int64(a.interval), start)
	})
	if a.reconcile.Swap(false) {
		a.book.reconcile(a.isLive)
	}
	return ts
}

func (a *allocations) detach() error {
	a.probes.close()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.end(a.queue.finish)
}

func (a *allocations) free() {
	a.probes.close()
	_ = errors.Join(a.unlink(), a.queue.finish(), a.entry.Close(), a.objects.Close())
}
