//go:build linux && (amd64 || arm64)

package sample

import (
	"hash/maphash"
)

// A waitState is why a thread left the CPU, in the order of enum state in bpf/offcpu.c.
type waitState uint32

const (
	stateRunnable waitState = iota // it was preempted, or has yielded
	stateNew                       // it never ran; there is no stacktrace
	stateInterruptible
	stateUninterruptible
	stateIO // accounted by the kernel as a wait for a block device
	stateStopped
	stateOther
)

// A site is a thread and the place where it left user space: struct site in bpf/offcpu.c.
type site struct {
	TID, PID uint32
	IP, SP   uint64 // if it was in a system call
	Syscall  int32  // negative if it was in none
	State    waitState
}

// queued reports whether a thread that is off the CPU there waits for one all the time.
func (s site) queued() bool { return s.State <= stateNew }

// waitClasses is the number of classes of durations.
const waitClasses = 6

// classOf returns the class of a wait by its duration in ns, as bpf/offcpu.c does.
func classOf(ns uint64) (class int) {
	for limit := uint64(64000); class < waitClasses-1 && ns >= limit; limit <<= 3 {
		class++
	}
	return class
}

// waited is what the kernel's part has added up for a site: struct waited.
type waited struct {
	Began   uint64
	ByClass [waitClasses]pool
}

// A pool is time of waits whose stacktraces are not known: struct sum.
type pool struct {
	Blocked, Queued int64 // ns
	Waits           int64
}

func (p *pool) add(q pool) {
	p.Blocked += q.Blocked
	p.Queued += q.Queued
	p.Waits += q.Waits
}

// A classSite is a site and a class of durations. Waits of one class stand for each other
// first, so that long waits are not divided among the stacktraces of short ones.
type classSite struct {
	site
	class int
}

// anyClass stands for all classes of a site.
const anyClass = -1

// An offThread is a thread with its last wait: struct thread. Times are of
// CLOCK_MONOTONIC, in ns. Out is 0 while it runs, Woken while it is blocked.
type offThread struct {
	Out, Woken uint64
	At         site
	Weight     uint32 // 256 / probability if the wait was unwound, else 0
	_          uint32
	Window     uint64 // begin of the window in which it began
	Nth        uint64 // number of the wait at its site in that window
}

// An endedWait is one that is not in a site's sum: struct ended.
type endedWait struct {
	Wait offThread
	In   uint64 // CLOCK_MONOTONIC, ns
}

// A snapshot is what the kernel's part knows at the end of a window.
type snapshot struct {
	start int64  // Unix ns, of the window
	end   uint64 // CLOCK_MONOTONIC, ns
	sites map[site]waited
	off   []offThread // the threads that were off the CPU then
}

// A cause says which part of a wait a value is of, and what is known about the wait
// besides its stacktrace. The zero cause is none, as of CPU samples.
type cause struct {
	part      waitPart
	state     waitState
	syscall   int32
	unsampled bool // the stacktrace is not known
}

// A waitPart is the part of a wait before or after the thread became runnable.
type waitPart uint8

const (
	partNone waitPart = iota
	partBlocked
	partQueued
)

// Bounds of a ledger.
const (
	maxEnded      = 1 << 18 // ended waits between two windows
	maxSiteStacks = 1 << 13 // sites in each of two generations
)

// A ledger divides the exact off-CPU time of sites among sampled stacktraces, window by
// window. It is safe for concurrent use.
type ledger struct {
	targets Labeler
	metrics *metrics
	seed    maphash.Seed

	stacks eventStacks

	ended *eventQueue[endedWait]

	// Of the goroutine that calls window:
	open       map[uint32]openWait  // by TID
	young, old map[classSite]*event // the last stacktrace of a site and class
	before     uint64               // end of the last window
}

// An openWait is one that had not ended at the end of a window.
type openWait struct {
	out, until uint64 // CLOCK_MONOTONIC, ns: its begin, and until when it was credited
	stack      *event // nil if it was not unwound
	missing    bool   // from the last snapshot: what ended it is still on its way
}

func newLedger(t Labeler, m *metrics) *ledger {
	return &ledger{
		targets: t, metrics: m, seed: maphash.MakeSeed(),
		ended: newEventQueue(maxEnded, func(e endedWait) uint64 { return e.In }, func(reason string) {
			m.offCPUEvictions.WithLabelValues(map[string]string{"read_error": "buffer", "queue_full": "ledger"}[reason]).Inc()
		}),
		stacks: newEventStacks(m.offCPULost), open: map[uint32]openWait{},
		young: map[classSite]*event{}, old: map[classSite]*event{},
	}
}

// window returns the off-CPU time between the last snapshot and this one. Snapshots are
// passed in their order.
func (l *ledger) window(s snapshot) *tally {
	ended := l.ended.take(int64(s.end))
	stacks := l.stacks.take()

	d := newDivision(l, s.start)
	open := make(map[uint32]openWait, len(s.off))
	for _, e := range ended {
		o := l.openOf(e.Wait)
		if o.stack == nil && e.Wait.Weight > 0 {
			o.stack = stacks.of(e.Wait.At.TID, e.Wait.Out, e.In)
		}
		d.credit(e.Wait, o, e.In)
		if was, ok := l.open[e.Wait.At.TID]; ok && was.out == e.Wait.Out {
			delete(l.open, e.Wait.At.TID)
		}
	}
	for _, w := range s.off {
		if w.Out == 0 || w.Out >= s.end {
			continue
		}
		o := l.openOf(w)
		if o.stack == nil && w.Weight > 0 {
			o.stack = stacks.of(w.At.TID, w.Out, s.end)
		}
		d.credit(w, o, s.end)
		o.until, o.missing = s.end, false
		open[w.At.TID] = o
	}
	for tid, o := range l.open {
		if _, ok := open[tid]; !ok && !o.missing {
			o.missing = true
			open[tid] = o
		}
	}
	l.open = open
	for at, w := range s.sites {
		for class, p := range w.ByClass {
			if p != (pool{}) {
				d.pool(classSite{at, class}).add(p)
			}
		}
	}
	d.divide()
	l.remember(d)
	l.stacks.giveBack(stacks, l.before)
	l.before = s.end
	return d.tally
}

// openOf returns how far a wait was credited; until is its begin if it was not.
func (l *ledger) openOf(w offThread) openWait {
	if o, ok := l.open[w.At.TID]; ok && o.out == w.Out {
		return o
	}
	return openWait{out: w.Out, until: w.Out}
}

// remember notes the last stacktrace of each site.
func (l *ledger) remember(d *division) {
	for at, shares := range d.shares {
		l.young[at] = shares[len(shares)-1].stack
	}
	if len(l.young) > maxSiteStacks {
		l.old, l.young = l.young, map[classSite]*event{}
	}
}

// recall returns the last stacktrace of a site and class of an earlier window, nil if
// there is none.
func (l *ledger) recall(at classSite) *event {
	e, ok := l.young[at]
	if !ok {
		if e, ok = l.old[at]; ok {
			l.young[at] = e
		}
	}
	return e
}
