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
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/ebpf-profiler/times"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sys/unix"
)

// A faultCounter is one of the counters in bpf/pagefault.c, in the order of enum counter
// there.
type faultCounter uint32

const (
	countFaults faultCounter = iota
	countLarge
	countFaultStacks
	countLater
	countFaultsLost
	countFaultsNotPassed
	countFaultsUnknownLost
	numFaultCounters
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
	Gap    uint64 // ns between two stacktraces of a CPU
}

const (
	leastStride = 128 << 10 // bytes
	mostStride  = 64 << 20
	// faultStacks is how many faults per second and CPU are unwound at most, on the
	// average.
	faultStacks = 50
)

// pageFaults measure which functions make memory resident, and note the processes that
// the kernel kills for lack of it.
type pageFaults struct {
	interval time.Duration
	log      *slog.Logger
	metrics  *metrics
	objects  pageFaultObjects
	entry    *entry
	events   *cpuEvents
	links    []link.Link
	reader   *ringbuf.Reader
	stacks   eventStacks
	book     *faultBook

	settings faultSettings
	counts   [numFaultCounters]uint64

	stop    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	queue []fault
}

// openPageFaults loads what measures page faults. Nothing is attached yet.
func openPageFaults(ctx context.Context, t *tracer.Tracer, g *gate, set *processSet, o Options, m *metrics) (f *pageFaults, err error) {
	if err := typeInformation("page faults"); err != nil {
		return nil, err
	}
	f = &pageFaults{
		interval: o.Interval, log: o.Logger, metrics: m,
		stacks: newEventStacks(m.pageFaultLost), book: newFaultBook(o.Targets), stop: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			f.free()
		}
	}()
	if f.entry, err = newEntry(ctx, t, "page_faults", "bytes"); err != nil {
		return nil, err
	}
	spec, err := loadPageFault()
	if err != nil {
		return nil, fmt.Errorf("read page fault programs: %w", err)
	}
	shared, err := g.share(spec, set)
	if err != nil {
		return nil, err
	}
	isTask, err := victimIsTask()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(spec.Variables["page_size"].Set(uint64(os.Getpagesize())), spec.Variables["victim_is_task"].Set(isTask)); err != nil {
		return nil, fmt.Errorf("set page fault programs: %w", err)
	}
	if err := spec.LoadAndAssign(&f.objects, shared); err != nil {
		return nil, fmt.Errorf("load page fault programs: %w", err)
	}
	if err := f.objects.Unwinder.Put(uint32(0), f.entry.program); err != nil {
		return nil, fmt.Errorf("join page fault programs and unwinder: %w", err)
	}
	if f.reader, err = ringbuf.NewReader(f.objects.Faults); err != nil {
		return nil, fmt.Errorf("read page faults: %w", err)
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
	if err := f.set(); err != nil {
		return err
	}
	for _, p := range []*ebpf.Program{f.objects.PageAlloc, f.objects.OomVictim} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach to the tracepoints of memory: %w", err)
		}
		f.links = append(f.links, l)
	}
	if err := f.events.start(); err != nil {
		return err
	}
	f.running.Go(f.read)
	f.running.Go(f.run)
	return nil
}

func (f *pageFaults) set() error {
	if err := f.objects.Settings.Put(uint32(0), &f.settings); err != nil {
		return fmt.Errorf("set page fault programs: %w", err)
	}
	return nil
}

// read takes faults and kills, until the reader is closed.
func (f *pageFaults) read() {
	var buf ringbuf.Record
	for {
		f.reader.SetDeadline(time.Now().Add(waitPoll))
		err := f.reader.ReadInto(&buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return
		case err != nil:
			f.metrics.pageFaultLost.WithLabelValues("read_error").Inc()
			continue
		}
		var e fault
		if err := binary.Read(bytes.NewReader(buf.RawSample), binary.LittleEndian, &e); err != nil {
			f.metrics.pageFaultLost.WithLabelValues("read_error").Inc()
			continue
		}
		f.mu.Lock()
		if len(f.queue) < maxEventStacks {
			f.queue = append(f.queue, e)
		} else {
			f.metrics.pageFaultLost.WithLabelValues("queue_full").Inc()
		}
		f.mu.Unlock()
	}
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
	var n [numFaultCounters]uint64
	for i := range numFaultCounters {
		var perCPU []uint64
		if err := f.objects.Counts.Lookup(uint32(i), &perCPU); err != nil {
			f.log.Debug("count page faults", "err", err)
			return
		}
		var sum uint64
		for _, v := range perCPU {
			sum += v
		}
		n[i], f.counts[i] = sum-f.counts[i], sum
	}
	f.metrics.pageFaults.WithLabelValues("page").Add(float64(n[countFaults] - n[countLarge]))
	f.metrics.pageFaults.WithLabelValues("large").Add(float64(n[countLarge]))
	for reason, c := range map[string]faultCounter{"buffer_full": countFaultsLost, "unwinder": countFaultsNotPassed, "new_process_buffer_full": countFaultsUnknownLost} {
		f.metrics.pageFaultLost.WithLabelValues(reason).Add(float64(n[c]))
	}
	wanted := uint64(faultStacks * runtime.NumCPU())
	switch rate := n[countFaultStacks] + n[countLater]; {
	case rate > wanted && f.settings.Stride < mostStride:
		f.settings.Stride *= 2
	case rate < wanted/4 && f.settings.Stride > leastStride:
		f.settings.Stride /= 2
	default:
		return
	}
	if err := f.set(); err != nil {
		f.log.Warn("adapt page fault programs", "err", err)
	}
}

// due returns the windows that have ended before now less the lateness.
func (f *pageFaults) due(now time.Time) []*tally {
	if f == nil {
		return nil
	}
	return f.take(now, windowStart(now.Add(-lateness).UnixNano(), f.interval))
}

// rest returns all windows.
func (f *pageFaults) rest() []*tally {
	if f == nil {
		return nil
	}
	return f.take(time.Now(), 1<<62)
}

// take returns the windows of what happened until a time in Unix ns.
func (f *pageFaults) take(now time.Time, until int64) []*tally {
	offset := now.UnixNano() - int64(times.GetKTime()) // of the wall clock
	f.mu.Lock()
	var ready, later []fault
	for _, e := range f.queue {
		if int64(e.Time)+offset <= until {
			ready = append(ready, e)
		} else {
			later = append(later, e)
		}
	}
	f.queue = later
	f.mu.Unlock()
	stacks := f.stacks.take()
	ts := f.book.windows(ready, stacks, func(t uint64) int64 { return windowStart(int64(t)+offset, f.interval) })
	f.stacks.giveBack(stacks, uint64(max(until-offset, 0)))
	return ts
}

// detach ends measuring.
func (f *pageFaults) detach() error {
	if f == nil {
		return nil
	}
	close(f.stop)
	errs := []error{f.events.Close()}
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	time.Sleep(2 * waitPoll)
	errs = append(errs, f.reader.Close())
	f.running.Wait()
	return errors.Join(errs...)
}

// free unloads the programs.
func (f *pageFaults) free() {
	if f == nil {
		return
	}
	for _, l := range f.links {
		_ = l.Close()
	}
	_ = f.events.Close()
	if f.reader != nil {
		_ = f.reader.Close()
	}
	_ = f.entry.Close()
	_ = f.objects.Close()
}
