package java

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// recheckOthers is the time after which a process that was no JVM is looked at again:
	// some load one late.
	recheckOthers = 5 * time.Minute
	// recheckStuck is that of a process that did not answer.
	recheckStuck = 6 * time.Hour
	// retryFailed is the time after which a JVM that could not be recorded is tried again.
	retryFailed = 5 * time.Minute
	// readTimeout bounds reading about a process, maxStuck those that do not answer.
	readTimeout = 2 * time.Second
	maxStuck    = 64
)

// A Source records the JVMs of this machine while Run runs.
type Source struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	library *library // nil for the flight recorder
	guard   untrusted.Guard

	sessions sync.WaitGroup
	mu       sync.Mutex
	jvms     map[int]*tracked // by PID
	others   map[int]other    // processes that are no JVMs, by PID
}

// A tracked JVM is one that was found. Its fields but signalled, which belongs to the
// session, are guarded by the source's mutex.
type tracked struct {
	start     uint64
	running   bool // a session has been started and has not ended
	reason    Reason
	retry     time.Time
	logged    map[Reason]bool
	signalled bool
}

// An other is a process that was no JVM when it was looked at.
type other struct {
	start   uint64
	recheck time.Time
}

// New returns a Source, which does nothing until Run. It reads async-profiler's library,
// so that a wrong path is an error here.
func New(o Options) (*Source, error) {
	o.setDefaults()
	s := &Source{
		o: o, log: o.Logger, guard: untrusted.Guard{Limit: readTimeout, Stuck: maxStuck},
		jvms: map[int]*tracked{}, others: map[int]other{},
	}
	if o.AsyncProfiler != "" {
		var err error
		if s.library, err = readLibrary(o.AsyncProfiler); err != nil {
			return nil, err
		}
	}
	s.metrics = newMetrics(o.Registerer)
	return s, nil
}

// Run finds JVMs and records them until ctx ends. It returns when all recordings have
// ended in their JVMs and their rest is stored, or have not within a bounded time.
func (s *Source) Run(ctx context.Context) {
	ticks := time.NewTicker(s.o.Rescan)
	defer ticks.Stop()
	for ctx.Err() == nil {
		s.scan(ctx)
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
	ended := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(2 * stopTimeout):
		s.log.Warn("stopped while JVMs do not answer: their recordings may go on")
	}
}

// scan starts a session for every JVM that has none and may have one.
func (s *Source) scan(ctx context.Context) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.log.Error("find JVMs", "err", err)
		return
	}
	// The processes of one user, who has begun many, do not always come first.
	rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	found := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || ctx.Err() != nil {
			continue
		}
		found[pid] = true
		if s.due(pid) {
			s.look(ctx, pid)
		}
	}
	s.forget(found)
}

// due reports whether a process is to be looked at.
func (s *Source) due(pid int) bool {
	start, err := startOf(pid)
	if err != nil {
		return false
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jvms[pid]; j != nil && j.start == start {
		return !j.running && now.After(j.retry)
	}
	o, ok := s.others[pid]
	return !ok || o.start != start || now.After(o.recheck)
}

// look inspects a process, and starts a session if it is a JVM that is to be recorded.
func (s *Source) look(ctx context.Context, pid int) {
	p, err := inspect(&s.guard, pid)
	switch {
	case errors.Is(err, fs.ErrPermission) && isJava(pid):
		start, _ := startOf(pid) // 0 for one that has ended
		s.skip(pid, start, because(Permission, "it cannot be read (%w): run flameline as root or as the JVM's user; in a container with the host's PID namespace and the capability SYS_PTRACE", err))
		return
	case errors.Is(err, errNoJVM), errors.Is(err, fs.ErrPermission):
		if start, err := startOf(pid); err == nil {
			s.mu.Lock()
			s.others[pid] = other{start, time.Now().Add(min(recheckOthers, youngRecheck(start)))}
			s.mu.Unlock()
		}
		return
	case err != nil:
		s.unreadable(pid, err)
		return
	}
	ls := s.o.Labels(pid)
	for _, m := range s.o.Selector {
		if !m.Matches(ls.Get(m.Name)) {
			s.skip(pid, p.start, nil)
			return
		}
	}
	if err := p.permitted(); err != nil {
		s.skip(pid, p.start, err)
		return
	}
	if p.age() < s.o.MinAge {
		return
	}
	s.mu.Lock()
	if s.running() >= s.o.MaxProcesses {
		s.mu.Unlock()
		s.skip(pid, p.start, because(TooMany, "%d JVMs are being recorded (java.max_processes)", s.o.MaxProcesses))
		return
	}
	j := s.track(pid, p.start)
	j.running, j.reason = true, ""
	s.mu.Unlock()
	s.sessions.Go(func() {
		err := (&session{source: s, jvm: j, process: p, labels: ls}).run(ctx)
		s.mu.Lock()
		j.running, j.retry = false, time.Now().Add(retryFailed)
		s.mu.Unlock()
		if err != nil {
			s.failed(j, pid, err)
		}
	})
}

// unreadable leaves a process alone that could not be read: one that does not answer would
// take up one more of the calls that may, with every search, until no other process is
// read.
func (s *Source) unreadable(pid int, err error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, untrusted.ErrBusy) {
		return // it has ended, or others are at fault
	}
	s.log.Debug("process is not readable", "pid", pid, "err", err)
	again := recheckOthers
	if errors.Is(err, untrusted.ErrTimeout) {
		again = recheckStuck
	}
	if start, err := startOf(pid); err == nil {
		s.mu.Lock()
		s.others[pid] = other{start, time.Now().Add(again)}
		s.mu.Unlock()
	}
}

// youngRecheck returns how long a young process that is no JVM yet is left alone: a
// launcher becomes a JVM within seconds.
func youngRecheck(start uint64) time.Duration {
	return (&process{start: start}).age()
}

// isJava reports whether a process is named as Java's launcher, for processes of which
// no more can be read.
func isJava(pid int) bool {
	comm, err := readProc(pid, "comm", maxSmall)
	return err == nil && strings.TrimSpace(string(comm)) == "java"
}

// track returns what is known of a JVM. The caller holds the mutex.
func (s *Source) track(pid int, start uint64) *tracked {
	j := s.jvms[pid]
	if j == nil || j.start != start {
		j = &tracked{start: start, logged: map[Reason]bool{}}
		s.jvms[pid] = j
	}
	return j
}

// running returns the number of sessions. The caller holds the mutex.
func (s *Source) running() (n int) {
	for _, j := range s.jvms {
		if j.running {
			n++
		}
	}
	return n
}

// skip notes that a JVM is not recorded for now; err is nil if it is not selected.
func (s *Source) skip(pid int, start uint64, err error) {
	s.mu.Lock()
	j := s.track(pid, start)
	j.retry = time.Now().Add(retryFailed)
	if err != nil && reasonOf(err, "") == TooMany {
		j.retry = time.Time{} // by the next search
	}
	s.mu.Unlock()
	if err != nil {
		s.note(j, pid, err)
	}
}

// failed counts an attempt that did not succeed, and notes the reason.
func (s *Source) failed(j *tracked, pid int, err error) {
	s.metrics.failures.WithLabelValues(string(reasonOf(err, NoAnswer))).Inc()
	s.note(j, pid, err)
}

// note logs a reason once for each JVM.
func (s *Source) note(j *tracked, pid int, err error) {
	reason := reasonOf(err, NoAnswer)
	s.mu.Lock()
	if !j.running {
		j.reason = reason
	}
	known := j.logged[reason]
	j.logged[reason] = true
	s.mu.Unlock()
	switch {
	case known:
	case reason == OptedOut:
		s.log.Info("JVM is left alone", "pid", pid, "reason", reason, "err", err)
	default:
		s.log.Warn("JVM is not recorded", "pid", pid, "reason", reason, "err", err)
	}
	s.count()
}

// recording notes that a session records.
func (s *Source) recording(of *session) {
	s.metrics.attached.Inc()
	by := "flight recorder"
	if s.library != nil {
		by = "async-profiler"
	}
	s.log.Info("JVM is recorded", "pid", of.process.pid, "service", of.labels.Get("service_name"), "by", by)
	s.count()
}

// recorded notes that a session has ended.
func (s *Source) recorded(*session) { s.metrics.attached.Dec() }

// forget drops what is known of processes that have ended.
func (s *Source) forget(found map[int]bool) {
	s.mu.Lock()
	for pid, j := range s.jvms {
		if !found[pid] && !j.running {
			delete(s.jvms, pid)
		}
	}
	for pid := range s.others {
		if !found[pid] {
			delete(s.others, pid)
		}
	}
	s.mu.Unlock()
	s.count()
}

// count sets the metric of JVMs that are not recorded.
func (s *Source) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics.skipped.Reset()
	for _, j := range s.jvms {
		if !j.running && j.reason != "" {
			s.metrics.skipped.WithLabelValues(string(j.reason)).Inc()
		}
	}
}

// Check returns why a JVM cannot be attached to, as far as that is known without
// touching it; nil if nothing speaks against it.
func Check(pid int) error {
	p, err := inspect(&untrusted.Guard{Limit: readTimeout}, pid)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	if err := p.permitted(); err != nil {
		return err
	}
	tmp, err := p.openTmp()
	if err != nil {
		return &Error{NoFolder, err}
	}
	defer tmp.Close()
	var st unix.Stat_t
	if !p.quit && unix.Fstatat(int(tmp.Fd()), p.socket(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return p.deaf()
	}
	return nil
}
