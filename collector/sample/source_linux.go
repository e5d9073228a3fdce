//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/times"
	"go.opentelemetry.io/ebpf-profiler/tracer"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// A Source samples this machine. Several in a process have an unwinder in the kernel
// each; the library's log and counters go to the one that was started last. Its
// goroutines, in the order of the data's way: the unwinder's own, which read the
// kernel's buffers; readUnknown, which reads the gate's; handle, which names
// interpreted and kernel frames, finds labels and aggregates, by way of lateUnwinder for
// processes that have just begun; collect, which names native frames once a window is
// over; and the delivery's, which calls the appender.
type Source struct {
	options Options
	log     *slog.Logger
	metrics *metrics
	gate    *gate
	only    *processSet  // nil if all processes are measured
	allocs  *allocations // nil if allocations are not measured
	// measurers measure what is measured besides CPU time.
	measurers []measurer
	tracer    *tracer.Tracer
	reader    *processReader // nil if this version of the unwinder does not allow it
	jit       *jitCode       // nil if this version of the unwinder does not allow it
	// intervals are those that tracer has.
	intervals tracer.Intervals
	sink      *sink
	delivery  *delivery

	traces  chan *libpf.EbpfTrace
	unknown chan *newcomer
	history *codeHistory    // nil if this kernel does not allow it
	maps    untrusted.Guard // of /proc/PID/maps
	// memories reads the memory of processes.
	memories *remoteMemories
	done     chan struct{} // closed when sampling has ended
	handled  chan struct{} // closed when all is aggregated
	deepen   func() error  // has the unwinder go through deeper native stacks
	deep     chan struct{} // closed when deepen is done

	began   time.Time   // when the timers started
	started atomic.Bool // all timers run

	cancelUnwinder context.CancelFunc
	cancelDelivery context.CancelFunc
	disconnect     func()         // from the library
	running        sync.WaitGroup // handle, readUnknown
	collecting     sync.WaitGroup
	stop           func() error // ends measuring, once
	closeOnce      sync.Once
}

// unwinderTimes are how often the unwinder does its periodic work.
type unwinderTimes struct {
	pidCleanup time.Duration
	// enter runs on the unwinder's goroutine that reads processes.
	enter func()
}

func (unwinderTimes) MonitorInterval() time.Duration       { return 5 * time.Second }
func (unwinderTimes) TracePollInterval() time.Duration     { return pollInterval }
func (unwinderTimes) ExecutableUnloadDelay() time.Duration { return 5 * time.Minute }

// PIDCleanupInterval is the first thing that the goroutine that reads
// processes asks for, which is how we come to run something there.
func (u unwinderTimes) PIDCleanupInterval() time.Duration {
	u.enter()
	return u.pidCleanup
}

const (
	// clockSync is how often the offset between the kernel's clock and the
	// wall clock is measured.
	clockSync = time.Minute
	// cleanupPolling is how often processes are looked for that have ended,
	// cleanupEvents where the kernel tells about them.
	cleanupPolling = 15 * time.Second
	cleanupEvents  = 5 * time.Minute
	// readerNice is the priority of the threads that load the unwinder and that
	// read processes, if the process may raise it.
	readerNice = -5
	// unreadTime is how old a process of native code is before it is read: unwinding
	// some stacktraces afterwards takes less.
	unreadTime = time.Second
	// loadAttempts is how often loading the unwinder is tried.
	loadAttempts = 4
	// drainTime is how long samples may take from the timer to handle.
	drainTime = 2*pollInterval + 50*time.Millisecond
)

// loading is held while an unwinder is loaded.
var loading sync.Mutex

// Start begins sampling and returns once the timers run. Loading the unwinder
// takes one to ten seconds; progress is logged. The Source samples until Close;
// ctx is for starting only.
func Start(ctx context.Context, o Options) (*Source, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := Supported(); err != nil {
		return nil, err
	}
	if err := CheckOtherUsers(); err != nil {
		o.Logger.Warn("not all processes are sampled in full", "reason", err)
	}
	if err := relaxMonitor(); err != nil {
		o.Logger.Debug("the runtime's monitor thread wakes up as often as usual", "err", err)
	}
	began := time.Now()
	m := newMetrics(o.Registerer)
	disconnect := library.connect(o.Logger, m)

	unwinderCtx, cancelUnwinder := context.WithCancel(context.WithoutCancel(ctx))
	deliveryCtx, cancelDelivery := context.WithCancel(context.WithoutCancel(ctx))
	s := &Source{
		options: o,
		log:     o.Logger,
		metrics: m,
		sink: &sink{
			aggregate: newAggregate(o.Interval, m, o.SampleTimes),
			labels:    &labelCache{targets: o.Targets, metrics: m, byPID: map[libpf.PID]labeled{}},
			binaries:  newBinaries(o.Symbolizer, m, o.Logger),
			threads:   o.Threads,

			executables: map[libpf.String]executableNote{},
		},
		delivery:       newDelivery(o, m),
		traces:         make(chan *libpf.EbpfTrace),
		unknown:        make(chan *newcomer, maxLate),
		maps:           untrusted.Guard{Limit: mapsTimeout, Stuck: maxStuck, Shorten: true},
		memories:       newRemoteMemories(m, o.Logger),
		done:           make(chan struct{}),
		deep:           make(chan struct{}),
		handled:        make(chan struct{}),
		cancelUnwinder: cancelUnwinder,
		cancelDelivery: cancelDelivery,
		disconnect:     disconnect,
	}
	s.stop = sync.OnceValue(s.stopMeasuring)
	times.StartRealtimeSync(unwinderCtx, clockSync)
	o.Logger.Info("loading the unwinder into the kernel")
	if err := onSetupThread(func(st setup) error {
		// The unwinder's maps are found as the newest of this process.
		loading.Lock()
		defer loading.Unlock()
		// Nearly all of the time goes into the kernel's verifier, which checks one program
		// after the other: on a busy machine this thread goes first for that second.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), readerNice)
		return s.load(unwinderCtx, st)
	}); err != nil {
		s.abandon()
		return nil, fmt.Errorf("start sampling: %w", err)
	}
	if err := ctx.Err(); err != nil {
		s.abandon()
		return nil, fmt.Errorf("start sampling: %w", err)
	}
	s.running.Go(func() {
		if err := s.deepen(); err != nil {
			s.log.Warn("deep native stacks will be cut sooner", "err", err)
		}
		close(s.deep)
	})
	s.running.Add(2)
	go s.handle(unwinderCtx)
	go s.readUnknown()
	if s.jit != nil {
		s.running.Go(func() { s.jit.run(unwinderCtx) })
	}
	s.collecting.Add(1)
	go s.collect()
	go s.delivery.run(deliveryCtx)
	if err := s.begin(unwinderCtx); err != nil {
		s.Close()
		return nil, fmt.Errorf("start sampling: %w", err)
	}
	took := time.Since(began)
	m.startSeconds.Set(took.Seconds())
	m.mapBytes.Set(float64(ownMapBytes()))
	// Loading took much memory that is not needed again.
	debug.FreeOSMemory()
	o.Logger.Info("sampling", "frequency_hz", o.FrequencyHz, "interval", o.Interval,
		"ticks_per_sample", ticksPerSample(o.FrequencyHz), "start_seconds", took.Seconds())
	return s, nil
}

// load creates what lives in the kernel. It runs on the setup thread.
func (s *Source) load(ctx context.Context, st setup) error {
	if st.memlockFiltered {
		s.log.Debug("no CAP_SYS_RESOURCE: RLIMIT_MEMLOCK stays as it is, this kernel does not need it")
	}
	cleanup := cleanupEvents
	if st.tracefs != nil {
		cleanup = cleanupPolling
	}
	s.intervals = unwinderTimes{pidCleanup: cleanup, enter: s.enterReader(st)}
	cfg := &tracer.Config{
		ExecutableReporter: s.sink,
		TraceReporter:      s.sink,
		Intervals:          s.intervals,
		SamplesPerSecond:   s.options.bufferRate(),
		FilterIdleFrames:   true,
		LoadProbe:          s.options.measures() && needsProbeChain(),
		KernelVersionCheck: true,
		// Not used, but 0 of 100 would mean never.
		ProbabilisticInterval:  time.Minute,
		ProbabilisticThreshold: tracer.ProbabilisticThresholdMax,
		IncludeEnvVars: libpf.Set[string]{
			"OTEL_SERVICE_NAME":        {},
			"OTEL_RESOURCE_ATTRIBUTES": {},
		},
	}
	// Go frames are named here, as the unwinder does not see inlined calls. Goroutines'
	// labels have the spans.
	cfg.InterpretersConfig.Go.Symbolization.Disabled = true
	cfg.InterpretersConfig.Python.Disabled = s.options.WithoutPython
	var err error
	for attempt := 1; ; attempt++ {
		if s.tracer, err = tracer.NewTracer(ctx, cfg); err == nil {
			break
		}
		// The library has the kernel answer one of its system calls. One of another
		// thread of this process at the same moment spoils the answer.
		if attempt == loadAttempts || !strings.Contains(err.Error(), "system analysis") {
			return fmt.Errorf("load unwinder: %w", err)
		}
		s.log.Debug("loading the unwinder again", "err", err)
	}
	if err := useUnwindTables(s.tracer, s.log, s.metrics); err != nil {
		s.log.Warn("unwind tables are the library's own: callers of Go functions without a frame will be missing", "err", err)
	} else {
		s.metrics.ownTables.Set(1)
	}
	if s.deepen, err = deepen(ctx, s.tracer); err != nil {
		s.log.Warn("deep stacks will be cut sooner", "err", err)
	}
	if s.options.PIDs != nil && (s.options.measures() || s.options.OnlyPIDs) {
		if s.only, err = openProcessSet(s.options.PIDs); err != nil {
			return err
		}
	}
	var sampled *processSet
	if s.options.OnlyPIDs {
		sampled = s.only
	}
	unread := unreadTime
	if s.options.Allocations.Enabled {
		unread = 0 // it may have probes
	}
	if s.gate, err = openGate(s.options.FrequencyHz, sampled, unread); err != nil {
		return err
	}
	if s.history, err = openCodeHistory(); err != nil {
		s.log.Warn("stacks of processes that end at once will be cut", "err", err)
	}
	s.sink.tellGate = s.gate.noteExecutable
	if err := s.loadMeasurers(ctx); err != nil {
		return err
	}
	if s.jit, err = newJITCode(s.tracer, s.gate.known, s.memories, s.log); err != nil {
		s.log.Warn("stacks will end in code of JIT compilers", "err", err)
	}
	exits := st.tracefs
	if exits == nil {
		exits = s.tracer.AttachSchedMonitor()
	}
	if exits != nil {
		s.log.Info("no trace events: ended processes are looked for every so often instead",
			"every", cleanup, "err", exits)
	}
	return nil
}

// loadMeasurers loads what measures something besides CPU time.
func (s *Source) loadMeasurers(ctx context.Context) error {
	if s.options.OffCPU.Enabled {
		c, err := openOffCPU(ctx, s.tracer, s.gate, s.only, s.options, s.metrics)
		if err != nil {
			return err
		}
		s.sink.offCPU, s.measurers = c, append(s.measurers, c)
	}
	if s.options.PageFaults.Enabled {
		f, err := openPageFaults(ctx, s.tracer, s.gate, s.only, s.options, s.metrics)
		if err != nil {
			return err
		}
		s.sink.pageFaults, s.measurers = f, append(s.measurers, f)
	}
	if s.options.Allocations.Enabled {
		a, err := openAllocations(ctx, s.tracer, s.gate, s.only, s.options, s.metrics)
		switch {
		case err == nil:
			s.allocs, s.sink.allocs, s.sink.binaries.probes = a, a, a.probes
			s.measurers = append(s.measurers, a)
		case s.options.Allocations.Required:
			return err
		default:
			s.log.Warn("allocations are not measured", "err", err)
		}
	}
	return nil
}

// enterReader returns what prepares the goroutine that reads processes, on a
// thread that ends with it. It creates maps and raises RLIMIT_MEMLOCK for each,
// so where the setup thread needed a filter it does too.
func (s *Source) enterReader(st setup) func() {
	return func() {
		runtime.LockOSThread()
		// The sooner a process is known, the fewer of its stacktraces are
		// incomplete. This thread has little to do; it may go first.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), readerNice)
		if !st.memlockFiltered {
			return
		}
		if err := filterMemlock(); err != nil {
			s.log.Error("stacktraces will be incomplete", "err", err)
		}
	}
}

// begin starts what feeds handle, and then the timers.
func (s *Source) begin(ctx context.Context) error {
	if r, err := newProcessReader(s.tracer, s.intervals, s.memories, s.metrics, s.log); err == nil {
		r.probes = s.sink.binaries.probes
		s.reader = r
		go r.run(ctx)
		if tables, err := providerOf(s.tracer); err == nil {
			s.sink.late = newLateUnwinder(newRuleReader(*tables, s.sink.binaries, s.memories, s.metrics, s.log), s.sink.add)
			go s.sink.late.run()
		}
		if s.options.First != nil {
			r.readFirst(ctx, s.options.First())
		}
	} else {
		s.log.Warn("the unwinder reads processes without protection: a malformed file may end this service", "err", err)
		s.tracer.StartPIDEventProcessor(ctx)
	}
	if err := s.tracer.StartMapMonitors(ctx, s.traces); err != nil {
		return fmt.Errorf("read unwinder: %w", err)
	}
	s.began = time.Now()
	for _, m := range s.measurers {
		if err := m.start(); err != nil {
			return err
		}
	}
	err := s.gate.start()
	s.started.Store(true)
	return err
}

// Read has the unwinder read processes that begin or that have mapped code, before their
// next sample would make it. It returns once they are known, when ctx is done, or after
// firstTimeout. It is safe for concurrent use, and of no use after Close.
func (s *Source) Read(ctx context.Context, pids ...int) {
	if s.reader != nil {
		s.reader.readFirst(ctx, pids)
	}
}

// Measure adds processes to Options.PIDs, with those that they start from now on. It is of
// no use after Close.
func (s *Source) Measure(pids ...int) error {
	if s.only == nil {
		return nil // all are measured
	}
	return s.only.add(pids...)
}

// countGate publishes what the gate has counted since the last call.
func (s *Source) countGate() {
	n := s.gate.news()
	s.metrics.samples.Add(float64(n[countStacks]))
	s.metrics.lost.WithLabelValues("new_process_buffer_full").Add(float64(n[countUnknownLost]))
	s.metrics.lost.WithLabelValues("unwinder").Add(float64(n[countNotPassed]))
}

// abandon frees what a Start that failed had created.
func (s *Source) abandon() {
	s.disconnect()
	s.cancelUnwinder()
	s.cancelDelivery()
	s.free()
	if s.gate != nil {
		s.gate.Close()
	}
	if s.tracer != nil {
		s.tracer.Close()
	}
}

// free unloads what measures something besides CPU time.
func (s *Source) free() {
	s.history.close()
	for _, m := range s.measurers {
		m.free()
	}
	s.only.free()
}

// Began returns when the first sample may have been taken.
func (s *Source) Began() time.Time { return s.began }

// Done is closed when sampling has ended, by Close or because the unwinder
// broke down.
func (s *Source) Done() <-chan struct{} { return s.done }

// Stop ends sampling; a further call does nothing. What was sampled is handed on by Close,
// which returns the same error.
func (s *Source) Stop() error { return s.stop() }

// stopMeasuring ends all at once, so that all that is measured is of the same time: taking
// a program off a tracepoint takes the kernel some 100 ms.
func (s *Source) stopMeasuring() error {
	var stopping errgroup.Group
	stopping.Go(func() error {
		var errs []error
		for _, m := range s.measurers {
			errs = append(errs, m.detach())
		}
		return errors.Join(errs...)
	})
	stopping.Go(func() error {
		s.countGate()
		return s.gate.Close()
	})
	return stopping.Wait()
}

// Close stops sampling and hands the last windows to the appender, which it
// gives up to 10 s.
func (s *Source) Close() error {
	var err error
	s.closeOnce.Do(func() {
		err = s.stop()
		// What was sampled before is still on its way.
		time.Sleep(drainTime)
		s.cancelUnwinder()
		s.running.Wait()
		s.sink.late.close()
		go s.drain()
		s.tracer.Close()
		close(s.handled)
		s.collecting.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		s.delivery.close(ctx)
		cancel()
		s.cancelDelivery()
		<-s.delivery.done
		s.free()
		s.disconnect()
		s.sink.binaries.close()
	})
	return err
}

// drain takes what the unwinder's reader wants to hand over after the end. It would
// block for good otherwise, and hold the unwinder and its maps in memory.
func (s *Source) drain() {
	for {
		select {
		case <-s.traces:
		case <-time.After(2 * time.Second):
			return
		}
	}
}

// handle has the unwinder name and report what comes from the kernel.
func (s *Source) handle(ctx context.Context) {
	defer s.running.Done()
	defer close(s.done)
	clock := newWallClock(ctx)
	for {
		select {
		case t := <-s.traces:
			if t != nil {
				clock.follow()
				s.name(t)
			}
		case n := <-s.unknown:
			clock.follow()
			s.sink.reporting = reporting{newcomer: n}
			s.name(n.trace())
			s.sink.reporting = reporting{}
		case <-s.tracer.Done():
			if ctx.Err() == nil {
				s.log.Error("sampling has ended: the unwinder broke down")
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

// name has the unwinder name the frames of a stacktrace and report it. A panic,
// which the memory of an interpreted process may cause, loses that stacktrace.
func (s *Source) name(t *libpf.EbpfTrace) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			s.metrics.lost.WithLabelValues("panic").Inc()
			s.log.Warn("sample lost: the unwinder panicked", "pid", t.PID, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	if s.jit != nil {
		s.jit.look(t)
	}
	s.sink.reporting.ktime = uint64(t.KTime)
	s.tracer.HandleTrace(t)
}

// follow looks for CPUs that came online, once sampling has begun.
func (s *Source) follow() {
	if !s.started.Load() {
		return
	}
	starts := []func() error{s.gate.start}
	if s.history != nil {
		starts = append(starts, s.history.start)
	}
	for _, m := range s.measurers {
		starts = append(starts, m.follow)
	}
	for _, start := range starts {
		if err := start(); err != nil {
			s.log.Warn("look for CPUs that came online", "err", err)
		}
	}
}

// take adds the measurers' windows that ended until a time in Unix ns.
func (s *Source) take(ts []*tally, now time.Time, until int64) []*tally {
	for _, m := range s.measurers {
		ts = append(ts, m.take(now, until)...)
	}
	return ts
}

// collect names native frames of windows that are over and puts them into the
// delivery, until handled is closed.
func (s *Source) collect() {
	defer s.collecting.Done()
	a := s.sink.aggregate
	c := &collector{
		frames:   newFrames(s.options.Symbolizer, s.sink.binaries, s.metrics),
		binaries: s.sink.binaries,
		metrics:  s.metrics,
	}
	timer := time.NewTimer(time.Until(a.next(time.Now())))
	defer timer.Stop()
	for {
		select {
		case <-s.handled:
			s.delivery.put(c.windows(s.take(a.rest(), time.Now(), 1<<62)))
			return
		case <-timer.C:
			now := time.Now()
			s.delivery.put(c.windows(s.take(a.due(now), now, now.Add(-lateness).UnixNano())))
			c.frames.age(now)
			s.countGate()
			s.follow()
			timer.Reset(time.Until(a.next(now)))
		}
	}
}
