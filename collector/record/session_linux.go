package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/pkg/profile"
)

// A Session samples the processes of a selection until it is closed. There can be
// one at a time in a process.
type Session struct {
	source  *sample.Source
	symbols *symbolize.Symbolizer
	family  *family
	members *members
	// arrivals is nil if the kernel does not report them.
	arrivals *arrivals
	ended    chan struct{}
	stop     context.CancelFunc
	waiting  sync.WaitGroup
	nice     int  // the priority before it was raised
	raised   bool // until Close
}

// Start begins to sample and returns once it does, after one to ten seconds. ctx is
// for starting only. take is called with the profiles of each second, by one
// goroutine at a time: one profile for each process, or thread, with the labels
// LabelPID and LabelComm.
func Start(ctx context.Context, o SessionOptions, take func(ps []profile.Profile)) (*Session, error) {
	if err := o.Selection.Check(); err != nil {
		return nil, err
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Session{ended: make(chan struct{})}
	waitCtx, stop := context.WithCancel(context.Background())
	s.stop = stop
	// A process that does not exist is the user's mistake, the rest this system's.
	s.members = newMembers(o.Selection, nil)
	if err := s.members.check(); err != nil {
		return nil, err
	}
	if err := sample.Supported(); err != nil {
		return nil, err
	}
	if err := checkProbes(o); err != nil {
		return nil, err
	}
	var err error
	if s.nice, err = niceOf(); err == nil && s.nice > ownNice {
		// A part of the threads may have it.
		if s.raised, err = true, setNice(ownNice); err != nil {
			log.Debug("the priority stays as it is: more stacktraces will be cut on a busy machine", "err", err)
		}
	}
	if o.Selection.Subprocesses {
		if s.family, err = newFamily(log); err != nil {
			return nil, err
		}
		s.members = newMembers(o.Selection, s.family)
	}
	s.symbols = symbolize.New(symbolize.Options{Logger: log, InflateDir: inflateDir})
	started := make(chan struct{})
	s.source, err = sample.Start(ctx, sample.Options{
		Appender:    appender{o.Event, take},
		Symbolizer:  s.symbols,
		Targets:     s.members,
		FrequencyHz: o.FrequencyHz,
		Interval:    time.Second,
		Threads:     o.Threads,
		OffCPU:      sample.OffCPU{Enabled: o.Event.offCPU(), StacksPerSecond: waitsPerSecond},
		PageFaults:  sample.PageFaults{Enabled: o.Event == PageFaults},
		Allocations: sample.Allocations{Enabled: o.Event == Alloc, Required: true},
		PIDs:        s.members.measured(s.members.now()),

		First: func() []int {
			// Processes that begin from now on are read as soon as sampling has begun.
			s.follow(log, started)
			return s.members.first()
		},
		WithoutPython: s.members.withoutPython(),

		Logger:     log,
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	close(started)
	if len(o.Selection.PIDs) > 0 {
		s.waiting.Go(func() { s.wait(waitCtx, o.Selection.PIDs) })
	}
	return s, nil
}

// follow has processes read that begin, once started is closed.
func (s *Session) follow(log *slog.Logger, started <-chan struct{}) {
	var err error
	s.arrivals, err = followArrivals(log, s.members.includes, func(ctx context.Context, pid int) {
		select {
		case <-started:
			s.source.Read(ctx, pid)
		case <-ctx.Done():
		}
	})
	if err != nil {
		log.Warn("the first stacktraces of processes that begin will be cut", "err", err)
	}
}

// checkProbes returns an error if allocations of some processes are asked for, and none of
// them has the probes. Other selections may get processes that have them later.
func checkProbes(o SessionOptions) error {
	if o.Event != Alloc || len(o.Selection.PIDs) == 0 || o.Selection.Subprocesses {
		return nil
	}
	var first error
	for _, pid := range o.Selection.PIDs {
		files, err := sample.AllocProbes(pid)
		for _, f := range files {
			if f.NotReadable == nil {
				return nil
			}
			err = fmt.Errorf("%s: %w", f.Path, f.NotReadable)
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("allocations of %s cannot be recorded: %w", o.Selection, first)
	}
	return fmt.Errorf("allocations of %s cannot be recorded: %s", o.Selection, noProbes)
}

// noProbes says that there is nothing to measure allocations by, and what to do.
const noProbes = "no file that it maps has the probe otel_memory:alloc; " + sample.HowToGetAllocProbes

// startCommand starts a command and adds it to the selection. If possible, the command
// is held until the unwinder knows it.
func (s *Session) startCommand(ctx context.Context, c *Command) error {
	runtime.LockOSThread() // only the thread that starts a process can let it go
	defer runtime.UnlockOSThread()
	if s.raised { // the command begins with the priority of this thread
		if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), s.nice); err != nil {
			return fmt.Errorf("set priority of the command: %w", err)
		}
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), ownNice) }()
	}
	return c.start(s.members.start, func(pid int) { s.source.Read(ctx, pid) })
}

// Began returns when sampling began, a moment before Start returned.
func (s *Session) Began() time.Time { return s.source.Began() }

// Ended is closed once all processes of Selection.PIDs have ended.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Failed is closed if the unwinder broke down, and by Close.
func (s *Session) Failed() <-chan struct{} { return s.source.Done() }

// Close stops, and returns when take has got the rest.
func (s *Session) Close() error {
	if s.source != nil {
		_ = s.source.Stop() // before what may take long; Close returns the error
	}
	if s.raised {
		_ = setNice(s.nice) // lower, which is always permitted
	}
	s.stop()
	s.waiting.Wait()
	if s.arrivals != nil {
		s.arrivals.close()
	}
	var err error
	if s.source != nil {
		err = s.source.Close()
	}
	if s.family != nil {
		s.family.close()
	}
	if s.symbols != nil {
		err = errors.Join(err, s.symbols.Close())
	}
	return err
}

// wait closes ended when processes have ended.
func (s *Session) wait(ctx context.Context, pids []int) {
	for _, pid := range pids {
		if waitForEnd(ctx, pid) != nil {
			return
		}
	}
	close(s.ended)
}

// waitForEnd returns nil once a process has ended.
func waitForEnd(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
	}
	return ctx.Err()
}

// waitsPerSecond is how many waits per second are unwound. A recording lasts minutes and
// is of a few processes, so it is more than what a service takes.
const waitsPerSecond = 1000

// inflateDir is where compressed debug information is inflated to. It is on a disk,
// which /tmp often is not.
const inflateDir = "/var/tmp"

// An appender hands the profiles of an event on.
type appender struct {
	event Event
	take  func(ps []profile.Profile)
}

// Append implements sample.Appender.
func (a appender) Append(_ context.Context, ps []profile.Profile) error {
	a.take(slices.DeleteFunc(ps, func(p profile.Profile) bool {
		return !a.event.takes(p.Labels.Get(model.MetricNameLabel))
	}))
	return nil
}
