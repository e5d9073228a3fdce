//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// Counters of page faults besides those of all programs, in the order of enum counter in
// bpf/pagefault.c.
const (
	countFaults = countOwn + iota
	countLarge
	countLater
	countFaultsLost
)

// A fault is a sampled page fault, or a kill: struct fault in bpf/pagefault.c.
type fault struct {
	Time  uint64 // CLOCK_MONOTONIC, ns
	Bytes uint64 // that it stands for; 0 for a kill
	PID   uint32
	TID   uint32
}

// faultSettings are what the kernel's part is told: struct settings.
type faultSettings struct {
	Stride uint64 // bytes
	Gap    uint64 // ns between two stacktraces
}

const (
	leastStride = 128 << 10 // bytes
	mostStride  = 64 << 20
	// faultStacks is how many faults per second are unwound at most, on the average.
	faultStacks = 100
)

// pageFaults measure which functions make memory resident, and note the processes that
// the kernel kills for lack of it.
type pageFaults struct {
	measuring
	objects  pageFaultObjects
	queue    *eventQueue[fault]
	stacks   eventStacks
	book     *faultBook
	settings faultSettings
}

// openPageFaults loads what measures page faults. Nothing is attached yet.
func openPageFaults(ctx context.Context, t *tracer.Tracer, g *gate, set *processSet, o Options, m *metrics) (f *pageFaults, err error) {
	if err := typeInformation("page faults"); err != nil {
		return nil, err
	}
	f = &pageFaults{
		measuring: newMeasuring("page faults", o, m), stacks: newEventStacks(m.pageFaultLost), book: newFaultBook(o.Targets),
		queue: newEventQueue(maxEventStacks, func(f fault) uint64 { return f.Time }, func(reason string) { m.pageFaultLost.WithLabelValues(reason).Inc() }),
	}
	defer func() {
		if err != nil {
			f.free()
		}
	}()
	isTask, err := victimIsTask()
	if err != nil {
		return nil, err
	}
	err = f.load(ctx, t, g, set, "page_faults", "bytes", loadPageFault, func(spec *ebpf.CollectionSpec) error {
		return errors.Join(spec.Variables["page_size"].Set(uint64(os.Getpagesize())), spec.Variables["victim_is_task"].Set(isTask))
	}, &f.objects)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.join(f.objects.Unwinder), f.queue.open(f.objects.Faults)); err != nil {
		return nil, err
	}
	f.events = newCPUEvents("page-faults", f.objects.PageFault, unix.PERF_COUNT_SW_PAGE_FAULTS_MIN, unix.PERF_COUNT_SW_PAGE_FAULTS_MAJ)
	return f, nil
}

// victimIsTask reports whether the tracepoint oom/mark_victim has the task, rather than
// its PID, as kernels before 6.9.
func victimIsTask() (bool, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false, fmt.Errorf("read the kernel's types: %w", err)
	}
	var def *btf.Typedef
	if err := spec.TypeByName("btf_trace_mark_victim", &def); err != nil {
		return false, fmt.Errorf("find the tracepoint oom/mark_victim: %w", err)
	}
	pointer, ok := btf.UnderlyingType(def).(*btf.Pointer)
	if !ok {
		return false, errors.New("the tracepoint oom/mark_victim has no arguments")
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) < 2 {
		return false, errors.New("the tracepoint oom/mark_victim has no arguments")
	}
	_, isPointer := btf.UnderlyingType(proto.Params[1].Type).(*btf.Pointer)
	return isPointer, nil
}

// start attaches the programs.
func (f *pageFaults) start() error {
	f.settings = faultSettings{Stride: leastStride, Gap: uint64(time.Second) / faultStacks}
	if err := f.set(f.objects.Settings, &f.settings); err != nil {
		return err
	}
	if err := f.attach(f.objects.PageAlloc, f.objects.OomVictim); err != nil {
		return err
	}
	if err := f.events.start(); err != nil {
		return err
	}
	f.queue.read()
	f.running.Go(f.run)
	return nil
}

// run adapts the stride, until the end.
func (f *pageFaults) run() {
	adapt := time.NewTicker(adaption)
	defer adapt.Stop()
	for {
		select {
		case <-adapt.C:
			f.adapt()
		case <-f.stop:
			f.adapt()
			return
		}
	}
}

// adapt counts, and changes the stride so that no more stacktraces are taken than are
// wanted. Samples that were put off count with the next one of their thread.
func (f *pageFaults) adapt() {
	n, err := f.counts.news(f.objects.Counts)
	if err != nil {
		f.log.Debug("count page faults", "err", err)
		return
	}
	f.metrics.pageFaults.WithLabelValues("page").Add(float64(n[countFaults] - n[countLarge]))
	f.metrics.pageFaults.WithLabelValues("large").Add(float64(n[countLarge]))
	for reason, c := range map[string]counter{"buffer_full": countFaultsLost, "unwinder": countNotPassed, "new_process_buffer_full": countUnknownLost} {
		f.metrics.pageFaultLost.WithLabelValues(reason).Add(float64(n[c]))
	}
	const wanted = faultStacks
	switch rate := n[countStacks] + n[countLater]; {
	case rate > wanted && f.settings.Stride < mostStride:
		f.settings.Stride *= 2
	case rate < wanted/4 && f.settings.Stride > leastStride:
		f.settings.Stride /= 2
	default:
		return
	}
	if err := f.set(f.objects.Settings, &f.settings); err != nil {
		f.log.Warn("adapt page fault programs", "err", err)
	}
}

func (f *pageFaults) take(now time.Time, until int64) []*tally {
	return stackedWindows(f.queue, &f.stacks, f.interval, now, windowStart(until, f.interval), f.book.windows)
}

func (f *pageFaults) detach() error { return f.end(f.queue.finish) }

func (f *pageFaults) free() {
	_ = errors.Join(f.unlink(), f.queue.finish(), f.entry.Close(), f.objects.Close())
}
