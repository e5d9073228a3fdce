//go:build linux && (amd64 || arm64)

package sample

import (
	"math"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/target"
)

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
