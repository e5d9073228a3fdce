//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"sync"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/processmanager"
	"go.opentelemetry.io/ebpf-profiler/tracer"

	"github.com/flameline/flameline/collector/untrusted"
)

// A processReader has the unwinder's library read processes, in place of the
// library's own goroutine: there a panic, which a word in the header of a file
// can cause, would end the collector. It reads processes one after the other.
type processReader struct {
	events    <-chan libpf.PIDTID
	work      chan func() // done by run
	manager   *processmanager.ProcessManager
	lock      *sync.RWMutex // of manager
	intervals tracer.Intervals
	guard     untrusted.Guard // of files
	maps      untrusted.Guard // of /proc/PID/maps
	memories  *remoteMemories
	files     *fileChecks
	systems   fileSystems
	vdso      vdsoState
	probes    *allocProbes // nil if allocations are not measured
	metrics   *metrics
	log       *slog.Logger
}

// newProcessReader returns the reader of a tracer's processes. The library has no
// option for it; an error says that this version keeps what is needed elsewhere.
func newProcessReader(t *tracer.Tracer, intervals tracer.Intervals, memories *remoteMemories, m *metrics, l *slog.Logger) (*processReader, error) {
	events, err := fieldOf[chan libpf.PIDTID](t, "pidEvents")
	if err != nil {
		return nil, err
	}
	manager, err := fieldOf[*processmanager.ProcessManager](t, "processManager")
	if err != nil {
		return nil, err
	}
	lock, err := fieldOf[sync.RWMutex](*manager, "mu")
	if err != nil {
		return nil, err
	}
	return &processReader{
		events: *events, work: make(chan func()), manager: *manager, lock: lock, intervals: intervals,
		guard:    untrusted.Guard{Limit: fileTimeout, Stuck: maxStuck, Shorten: true},
		maps:     untrusted.Guard{Limit: listTimeout, Stuck: maxStuckMemory, Shorten: true},
		memories: memories,
		files:    newFileChecks(m, l), metrics: m, log: l,
	}, nil
}

// listTimeout is how long reading all mappings of a process may take.
const listTimeout = 5 * time.Second

// After how long, and after how many bytes allocated, memory is given back.
const (
	tidyInterval = time.Minute
	tidyBytes    = 16 << 20
)

// allocated is how many bytes this process has allocated since it began.
func allocated() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	runtimemetrics.Read(sample)
	return sample[0].Value.Uint64()
}

// run reads processes until ctx is done.
func (r *processReader) run(ctx context.Context) {
	cleanup := time.NewTicker(r.intervals.PIDCleanupInterval())
	defer cleanup.Stop()
	tidy := time.NewTicker(tidyInterval)
	defer tidy.Stop()
	read, before := false, allocated()
	for {
		select {
		case <-tidy.C:
			// Tables of programs are read into memory that is not needed again, and
			// little is allocated afterwards that would have it collected.
			if now := allocated(); read && now-before > tidyBytes {
				debug.FreeOSMemory()
				before, read = now, false
			}
		case e := <-r.events:
			read = true
			r.read(e.PID(), e.TID())
		case work := <-r.work:
			read = true
			work()
		case <-cleanup.C:
			r.guarded(r.manager.CleanupPIDs)
		case <-ctx.Done():
			return
		}
	}
}

// read has the library read a process.
func (r *processReader) read(pid, tid libpf.PID) {
	defer r.memories.keepPages(pid)()
	r.guarded(func() { r.manager.SynchronizeProcess(r.checked(process.New(pid, tid))) })
	r.probes.settle()
}

// firstTimeout bounds readFirst.
const firstTimeout = 5 * time.Second

// readFirst has run read processes and waits until they are known.
func (r *processReader) readFirst(ctx context.Context, pids []int) {
	if len(pids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	r.do(ctx, func() {
		for _, pid := range pids {
			if ctx.Err() != nil {
				return
			}
			r.read(libpf.PID(pid), libpf.PID(pid))
		}
	})
}

// do has run call a function and waits for it, false if ctx is done before.
func (r *processReader) do(ctx context.Context, work func()) bool {
	done := make(chan struct{})
	select {
	case r.work <- func() { defer close(done); work() }:
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// checked returns a process as the library is to read it.
func (r *processReader) checked(p process.Process) *checkedProcess {
	return &checkedProcess{
		Process: p, guard: &r.guard, maps: &r.maps, files: r.files, systems: &r.systems,
		memories: r.memories, state: r.memories.of(p.PID()), vdso: &r.vdso, probes: r.probes,
	}
}

// guarded calls the library. A panic is the fault of the file that was opened
// last, which is refused from then on.
func (r *processReader) guarded(work func()) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		r.files.blame(&untrusted.PanicError{Value: v, Stack: debug.Stack()})
		r.unlock()
	}()
	r.files.reading("", fileVersion{})
	work()
}

// unlock gives back the library's lock, if the panic left it locked. Others hold
// it for microseconds.
func (r *processReader) unlock() {
	if r.lock == nil {
		return
	}
	for range 1000 {
		if r.lock.TryLock() {
			r.lock.Unlock()
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.lock.Unlock()
}

// fileChecks remember files that the library must not see again for a while, and
// which one it reads. It is safe for concurrent use.
type fileChecks struct {
	metrics *metrics
	log     *slog.Logger

	mu      sync.Mutex
	bad     map[fileVersion]time.Time // and until when
	name    string                    // of the file that the library reads
	version fileVersion
	logged  time.Time
}

// A fileVersion is a file as it was changed last.
type fileVersion struct {
	file    fileKey
	changed int64 // ns since 1970
}

func newFileChecks(m *metrics, l *slog.Logger) *fileChecks {
	return &fileChecks{metrics: m, log: l, bad: map[fileVersion]time.Time{}}
}

// refused reports whether a file is refused.
func (c *fileChecks) refused(v fileVersion) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.bad[v])
}

// reading notes the file that the library reads.
func (c *fileChecks) reading(name string, v fileVersion) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name, c.version = name, v
}

// check calls a check of a file, whose panic is an error of the file too.
func (c *fileChecks) check(name string, version fileVersion, check func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &untrusted.PanicError{Value: v, Stack: debug.Stack()}
		}
		if err != nil {
			c.refuse(name, version, err)
		}
	}()
	return check()
}

// blame refuses the file that the library was reading when it panicked.
func (c *fileChecks) blame(err error) {
	c.mu.Lock()
	name, version := c.name, c.version
	c.mu.Unlock()
	c.refuse(name, version, err)
}

// refuse counts and logs a file that is not read for a while.
func (c *fileChecks) refuse(name string, version fileVersion, err error) {
	reason := untrusted.Reason(err)
	if reason == "" {
		return // gone
	}
	c.metrics.unreadable.WithLabelValues("unwinder", reason).Inc()
	level, now := slog.LevelDebug, time.Now()
	c.mu.Lock()
	if len(c.bad) >= maxUnreadable {
		clear(c.bad)
	}
	c.bad[version] = now.Add(unreadableTime)
	if now.Sub(c.logged) >= unreadableQuiet || reason == "panic" {
		c.logged, level = now, slog.LevelWarn
	}
	c.mu.Unlock()
	attributes := []any{"file", path.Base(name), "reader", "unwinder", "reason", reason, "err", err, "next_try", unreadableTime}
	if p := (*untrusted.PanicError)(nil); errors.As(err, &p) {
		attributes = append(attributes, "stack", string(p.Stack))
	}
	c.log.Log(context.Background(), level, "file of a process is not readable", attributes...)
}
