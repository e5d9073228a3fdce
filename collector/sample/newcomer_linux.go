//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/support"
	"golang.org/x/sys/unix"
)

// A newcomer is a sample of a process that the unwinder does not know.
type newcomer struct {
	comm     libpf.Comm
	time     int64 // CLOCK_MONOTONIC, ns
	cpu      uint32
	pid, tid libpf.PID
	kernel   []uint64 // leaf first
	leaf     place
	stack    keptStack
	code     []codeMapping
	noUser   bool // there is no user part: the process is in exec, or at its end
	origin   origin
}

// trace returns the kernel's part of the stacktrace in the unwinder's own form,
// with no origin, so that it names the frames. The unwinder owns it.
func (n *newcomer) trace() *libpf.EbpfTrace {
	t := &libpf.EbpfTrace{
		Comm:            n.comm,
		KTime:           n.time,
		CpuID:           n.cpu,
		TID:             n.tid,
		PID:             n.pid,
		NumKernelFrames: uint16(len(n.kernel)),
	}
	t.FrameData = append(t.FrameDataBuf[:0], n.kernel...)
	return t
}

// readUnknown passes on samples of processes that the unwinder does not know, with what
// may be gone a moment later: the code that the process has mapped.
func (s *Source) readUnknown() {
	defer s.running.Done()
	// The kernel's buffer holds some 100 of them, and reading one takes microseconds.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), readerNice)
	var (
		u   unknownSample
		buf ringbuf.Record
	)
	for {
		stack, err := s.gate.read(&u, &buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			s.metrics.lost.WithLabelValues("read_error").Inc()
			s.log.Debug("sample lost", "err", err)
			continue
		}
		n := &newcomer{
			comm:   libpf.NewComm(u.Comm),
			time:   u.Time,
			cpu:    u.CPU,
			pid:    libpf.PID(u.PID),
			tid:    libpf.PID(u.TID),
			kernel: slices.Clone(u.Kernel[:u.KernelFrames]),
			origin: u.Origin,
		}
		switch {
		case u.Leaf.Status == leafNone:
			n.noUser = true
		case len(stack) > 0 || u.Leaf.Status != buildIDValid:
			n.findCode(s, &u, len(stack) > 0)
		}
		n.leaf = placeOf(u.Leaf, n.code)
		if len(stack) > 0 && len(n.code) > 0 {
			n.stack = keptStack{registers: u.Registers, bytes: bytes.Clone(stack)}
		}
		select {
		case s.unknown <- n:
		case <-s.done:
			return
		}
	}
}

// findCode finds the code that the process had mapped.
func (n *newcomer) findCode(s *Source, u *unknownSample, withStack bool) {
	past, ok := s.history.at(u.PID, uint64(u.Time))
	if !ok {
		n.code = s.codeMappings(u.PID)
		return
	}
	n.code = past.code
	if withStack && len(n.kernel) > 0 {
		n.noUser = past.left((&keptStack{registers: u.Registers}).unwinding().regs[support.UnwindRegPc])
	}
}

// maxLate bounds the stacktraces that wait to be unwound, and those that wait for the rules
// of a file.
const maxLate = 256

// closeRules is how long rules are waited for at the end.
const closeRules = 5 * time.Second

// A lateUnwinder unwinds the stacktraces of processes that the unwinder does not know,
// from what was kept of their stacks: it is the way of the processes that are over before
// the unwinder can know them. It unwinds native code; what is within an interpreter or
// made by a JIT compiler stays cut.
type lateUnwinder struct {
	in   chan lateEvent
	done chan struct{}
	add  func(event, origin, libpf.PID, uint64)

	// The rest is used by run alone.
	reader  *ruleReader // used by one goroutine that run starts, while reading
	reading bool
	read    chan readRules
	cache   ruleCache
	wanted  []wantedRules           // to be read
	parked  map[fileKey][]lateEvent // that wait for the rules of a file
	waiting int                     // in parked
}

// A lateEvent is a stacktrace that has all but its user part.
type lateEvent struct {
	event
	newcomer *newcomer
}

// wantedRules are those of a file that a process maps.
type wantedRules struct {
	pid libpf.PID
	codeMapping
}

// readRules are those that a file has, nil if they cannot be read.
type readRules struct {
	file  fileKey
	rules *rules
}

func newLateUnwinder(r *ruleReader, add func(event, origin, libpf.PID, uint64)) *lateUnwinder {
	return &lateUnwinder{
		in: make(chan lateEvent, maxLate), done: make(chan struct{}), add: add,
		reader: r, read: make(chan readRules, 1), parked: map[fileKey][]lateEvent{},
	}
}

// take reports whether it is going to add an event with the user's part of a newcomer.
func (l *lateUnwinder) take(e event, n *newcomer) bool {
	if l == nil || len(n.stack.bytes) == 0 {
		return false
	}
	select {
	case l.in <- lateEvent{e, n}:
		return true
	default:
		return false
	}
}

// close waits until all is unwound.
func (l *lateUnwinder) close() {
	if l != nil {
		close(l.in)
		<-l.done
	}
}

// run unwinds until in is closed and nothing is parked any more.
func (l *lateUnwinder) run() {
	defer close(l.done)
	in, end := l.in, make(<-chan time.Time)
	for in != nil || l.reading {
		select {
		case e, ok := <-in:
			if !ok {
				in, end = nil, time.After(closeRules)
				continue
			}
			l.unwind(e)
		case <-end:
			l.waiting = maxLate // parks no more
			for _, es := range l.parked {
				for _, e := range es {
					l.unwind(e)
				}
			}
			return
		case r := <-l.read:
			l.reading = false
			l.cache.put(r.file, r.rules, time.Now())
			ready := l.parked[r.file]
			delete(l.parked, r.file)
			l.waiting -= len(ready)
			for _, e := range ready {
				l.unwind(e)
			}
		}
		l.readNext()
	}
}

// unwind adds an event, or parks it if it needs rules that are to be read.
func (l *lateUnwinder) unwind(e lateEvent) {
	n, now := e.newcomer, time.Now()
	var missing *codeMapping
	places, whole := n.stack.walk(n.code, func(m codeMapping) *rules {
		r, ok := l.cache.get(m.file, now)
		if !ok {
			missing = &m
		}
		return r
	})
	if missing != nil && l.waiting < maxLate {
		if len(l.parked[missing.file]) == 0 {
			l.wanted = append(l.wanted, wantedRules{n.pid, *missing})
		}
		l.parked[missing.file] = append(l.parked[missing.file], e)
		l.waiting++
		return
	}
	e.chain = &chain{places: places, whole: whole}
	if len(places) == 0 {
		e.chain.places = []place{n.leaf}
	}
	l.add(e.event, n.origin, n.tid, uint64(n.time))
}

// readNext begins to read the next file, if none is read.
func (l *lateUnwinder) readNext() {
	if l.reading || len(l.wanted) == 0 {
		return
	}
	next := l.wanted[0]
	l.wanted, l.reading = l.wanted[1:], true
	go func() {
		r, err := l.reader.rules(next.pid, next.codeMapping)
		if err != nil {
			l.reader.log.Debug("unwind rules not read", "file", next.path, "pid", next.pid, "err", err)
			r = nil
		}
		l.read <- readRules{next.file, r}
	}()
}
