//go:build linux && (amd64 || arm64)

package sample

import (
	"hash/maphash"
	"math"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/target"
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

	mu    sync.Mutex
	ended []endedWait

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
		stacks: newEventStacks(m.offCPULost), open: map[uint32]openWait{},
		young: map[classSite]*event{}, old: map[classSite]*event{},
	}
}

// addEnded takes a wait that has ended.
func (l *ledger) addEnded(e endedWait) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ended) >= maxEnded {
		l.metrics.offCPUEvictions.WithLabelValues("ledger").Inc()
		return
	}
	l.ended = append(l.ended, e)
}

// window returns the off-CPU time between the last snapshot and this one. Snapshots are
// passed in their order.
func (l *ledger) window(s snapshot) *tally {
	l.mu.Lock()
	var ended, later []endedWait
	for _, e := range l.ended {
		if e.In <= s.end {
			ended = append(ended, e)
		} else {
			later = append(later, e)
		}
	}
	l.ended = later
	l.mu.Unlock()
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

// A division is one window's off-CPU time while it is divided among stacktraces.
type division struct {
	ledger *ledger
	tally  *tally
	pools  map[classSite]*pool
	// shares are the stacktraces of the waits that were unwound: of a site and class, of
	// a site, and of all sites of a process with the same system call, state and class.
	shares, related map[classSite][]share
	labels          map[uint32]labels.Labels // by PID, of stacktraces that are not known
}

// A share is a wait that was unwound: by how much its stacktrace stands for others.
type share struct {
	stack       *event
	time, waits float64
}

func newDivision(l *ledger, start int64) *division {
	return &division{
		ledger: l,
		tally:  &tally{start: start, kind: offCPUKind, events: map[tallyKey]*tallied{}},
		pools:  map[classSite]*pool{}, shares: map[classSite][]share{}, related: map[classSite][]share{},
		labels: map[uint32]labels.Labels{},
	}
}

func (d *division) pool(at classSite) *pool {
	p := d.pools[at]
	if p == nil {
		p = &pool{}
		d.pools[at] = p
	}
	return p
}

// credit adds what a wait has lasted since it was credited last, until a time. A wait
// counts in the window in which it is credited first.
func (d *division) credit(w offThread, o openWait, until uint64) {
	woken := until
	if w.At.queued() {
		woken = w.Out
	} else if w.Woken != 0 {
		woken = min(w.Woken, until)
	}
	blocked := int64(max(woken, o.until) - o.until)
	queued := int64(max(until, o.until, woken) - max(woken, o.until))
	waits := int64(0)
	if o.until == w.Out {
		waits = 1
	}
	at, p := classSite{w.At, classOf(until - w.Out)}, pool{blocked, queued, waits}
	if o.stack == nil {
		d.pool(at).add(p)
		return
	}
	d.put(o.stack, w.At, "own", false, p)
	if w.Weight > 0 {
		times := float64(w.Weight) / 256
		s := share{stack: o.stack, time: times * float64(blocked+queued), waits: times}
		d.shares[at] = append(d.shares[at], s)
		at.class = anyClass
		d.shares[at] = append(d.shares[at], s)
		d.related[at.related()] = append(d.related[at.related()], s)
	}
}

// related returns what stands for all sites of a process with the same system call and
// state.
func (at classSite) related() classSite {
	return classSite{site{PID: at.PID, Syscall: at.Syscall, State: at.State}, anyClass}
}

// divide divides the pools among stacktraces: those of the same site, class and window; or
// the last one of the same site and class; or those of the same site; or those of other
// threads of the process.
func (d *division) divide() {
	for at, p := range d.pools {
		any := classSite{at.site, anyClass}
		switch {
		case at.State == stateNew:
		case d.shares[at] != nil:
			d.among(d.shares[at], at.site, *p)
			continue
		case d.ledger.recall(at) != nil:
			d.put(d.ledger.recall(at), at.site, "site", false, *p)
			continue
		case d.shares[any] != nil:
			d.among(d.shares[any], at.site, *p)
			continue
		case d.ledger.recall(any) != nil:
			d.put(d.ledger.recall(any), at.site, "site", false, *p)
			continue
		case d.related[at.related()] != nil:
			d.among(d.related[at.related()], at.site, *p)
			continue
		}
		d.put(&event{labels: d.labelsOf(at.PID)}, at.site, "none", true, *p)
	}
}

// among divides a pool in proportion to shares, so that the parts add up to it.
func (d *division) among(shares []share, at site, p pool) {
	var time, waits float64
	for _, s := range shares {
		time += s.time
		waits += s.waits
	}
	var doneTime, doneWaits float64
	var given pool
	for i, s := range shares {
		doneTime += s.time
		doneWaits += s.waits
		until := p
		if i < len(shares)-1 {
			until = pool{
				Blocked: part(p.Blocked, doneTime, time), Queued: part(p.Queued, doneTime, time),
				Waits: part(p.Waits, doneWaits, waits),
			}
		}
		d.put(s.stack, at, "site", false, pool{until.Blocked - given.Blocked, until.Queued - given.Queued, until.Waits - given.Waits})
		given = until
	}
}

// part returns a share of a number; all of it if the shares are of nothing.
func part(n int64, of, all float64) int64 {
	if all <= 0 {
		return n
	}
	return int64(math.Round(float64(n) * min(of/all, 1)))
}

// labelsOf returns the labels of a process none of whose stacktraces are known.
func (d *division) labelsOf(pid uint32) labels.Labels {
	ls, ok := d.labels[pid]
	if !ok {
		ls = d.ledger.targets.Labels(int(pid), target.Hint{})
		d.labels[pid] = ls
	}
	return ls
}

// put adds the two parts of waits with one stacktrace. Waits count where the thread was
// blocked; those of a thread that was runnable all the time count as waits for a CPU.
func (d *division) put(stack *event, at site, known string, unsampled bool, p pool) {
	total := p.Blocked + p.Queued
	d.ledger.metrics.offCPUSeconds.WithLabelValues(known).Add(float64(total) / 1e9)
	c := cause{part: partBlocked, state: at.State, syscall: at.Syscall, unsampled: unsampled}
	if at.queued() {
		c.part = partQueued
		d.add(stack, c, values{total, p.Waits})
		return
	}
	d.add(stack, c, values{p.Blocked, p.Waits})
	c.part = partQueued
	d.add(stack, c, values{p.Queued, 0})
}

func (d *division) add(stack *event, c cause, v values) {
	if v == (values{}) {
		return
	}
	e := *stack
	e.cause = c
	key := hashEvent(d.ledger.seed, e)
	t := d.tally.events[key]
	if t == nil {
		t = &tallied{event: e, count: 1}
		d.tally.events[key] = t
	}
	for i := range v {
		t.values[i] += v[i]
	}
}
