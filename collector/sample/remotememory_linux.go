//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// memoryTimeout is how long reading memory of a process may take. The library
	// reads some of it while it holds the lock that all stacktraces need.
	memoryTimeout = time.Second
	// firstRefusal is how long a process is not read again whose memory did not come in
	// time, as on a machine that is too busy. Each further time it is twice as long, up to
	// unreadableTime.
	firstRefusal = 10 * time.Second
	// memoryPart is how many bytes are read at a time: they are copied.
	memoryPart = 64 << 10
	// maxStuckMemory bounds the threads that wait for memory that does not come.
	maxStuckMemory = 256
)

// remoteMemories read the memory of other processes. A page of it may be one that
// never comes: of a file system that does not answer (FUSE, NFS), or one that a
// userfaultfd is to deliver. Who reads it waits in the kernel until the page's
// process ends, and no signal but SIGKILL wakes it. So memory is read on
// goroutines that may be given up, and a process whose memory does not come is
// not read again for firstRefusal or longer, and as long as a thread still waits for it.
//
// remoteMemories are safe for concurrent use.
type remoteMemories struct {
	guard   untrusted.Guard
	metrics *metrics
	log     *slog.Logger
	pages   atomic.Pointer[memoryPages] // while the library reads a process

	mu     sync.Mutex
	silent map[libpf.PID]*memoryState
	logged time.Time
}

func newRemoteMemories(m *metrics, l *slog.Logger) *remoteMemories {
	return &remoteMemories{
		guard:   untrusted.Guard{Limit: memoryTimeout, Stuck: maxStuckMemory, Shorten: true},
		metrics: m, log: l, silent: map[libpf.PID]*memoryState{},
	}
}

// A memoryState says whether the memory of a process can be read.
type memoryState struct {
	pid     libpf.PID
	start   string        // of the process, set when it is refused; remoteMemories.mu guards it
	refusal time.Duration // the last one; remoteMemories.mu guards it
	until   atomic.Int64  // ns since 1970, until when it is refused; 0: never was
	waiting atomic.Int32  // threads
}

// refused reports whether a process is not read at present.
func (s *memoryState) refused() bool {
	until := s.until.Load()
	return until != 0 && (s.waiting.Load() > 0 || time.Now().UnixNano() < until)
}

// of returns the state of a process.
func (r *remoteMemories) of(pid libpf.PID) *memoryState {
	r.mu.Lock()
	s := r.silent[pid]
	was := ""
	if s != nil {
		was = s.start
	}
	r.mu.Unlock()
	if s == nil {
		return &memoryState{pid: pid}
	}
	if start, _ := identify(pid); start == was {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent[pid] == s {
		delete(r.silent, pid) // the number belongs to another process now
	}
	return &memoryState{pid: pid}
}

// ofMemory calls work, which reads memory of a process, on a goroutine that may
// be given up. What work shares with its caller it must share as if it ran
// forever.
func ofMemory[T any](r *remoteMemories, s *memoryState, what string, work func() (T, error)) (T, error) {
	var none T
	if s.refused() {
		return none, fmt.Errorf("read %s of process %d, which did not answer lately: %w", what, s.pid, untrusted.ErrTimeout)
	}
	s.waiting.Add(1)
	result, err := untrusted.Do(&r.guard, func() (T, error) {
		defer s.waiting.Add(-1)
		return work()
	})
	reason := untrusted.Reason(err)
	if reason == "" {
		return result, err
	}
	if reason == "busy" {
		s.waiting.Add(-1) // work was not called; the process is not at fault
	}
	r.refuse(s, what, reason, err)
	return none, fmt.Errorf("read %s of process %d: %w", what, s.pid, err)
}

// refuse counts and logs a process whose memory could not be read.
func (r *remoteMemories) refuse(s *memoryState, what, reason string, err error) {
	r.metrics.unreadableMemory.WithLabelValues(reason).Inc()
	start, exe := identify(s.pid)
	now, level := time.Now(), slog.LevelDebug
	r.mu.Lock()
	if reason != "busy" {
		if len(r.silent) >= maxUnreadable {
			clear(r.silent)
		}
		s.start = start
		s.refusal = min(max(2*s.refusal, firstRefusal), unreadableTime)
		s.until.Store(now.Add(s.refusal).UnixNano())
		r.silent[s.pid] = s
	}
	if now.Sub(r.logged) >= unreadableQuiet {
		r.logged, level = now, slog.LevelWarn
	}
	next := s.refusal
	r.mu.Unlock()
	r.log.Log(context.Background(), level, "memory of a process is not readable", "pid", s.pid, "exe", exe, "what", what,
		"reason", reason, "err", err, "next_try", next)
}

// A processMemory reads the memory of one process: io.ReaderAt by address.
type processMemory struct {
	*memoryState
	memories *remoteMemories
	memory   io.ReaderAt // the library's
}

// ReadAt reads from an address on. It returns untrusted.ErrTimeout if the memory
// does not come.
func (m *processMemory) ReadAt(p []byte, addr int64) (int, error) {
	if pages := m.memories.pagesOf(m.pid); pages != nil {
		return pages.readAt(m, p, addr)
	}
	return m.read(p, addr)
}

// read is ReadAt without pages that are kept.
func (m *processMemory) read(p []byte, addr int64) (n int, err error) {
	for {
		at := addr + int64(n)
		want := min(len(p)-n, memoryPart)
		data, err := ofMemory(m.memories, m.memoryState, "memory", func() ([]byte, error) {
			data := make([]byte, want)
			n, err := m.memory.ReadAt(data, at)
			return data[:max(n, 0)], err
		})
		n += copy(p[n:], data)
		if err != nil || n == len(p) || len(data) == 0 {
			return n, err
		}
	}
}
