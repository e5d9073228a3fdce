//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"errors"
	"hash/maphash"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/target"
)

// Bounds of an allocBook.
const (
	maxLiveAllocations = 1 << 18 // of all processes
	maxLiveOfProcess   = 1 << 16
	maxLiveProcesses   = 4096
	// maxWeight bounds the bytes and the objects that an allocation stands for. A program
	// may report any number, and the sums of all have to be numbers of 63 bits.
	maxWeight = 1 << 43
	// maxEmptyWindows bounds the windows in which only memory in use is reported, after a
	// pause.
	maxEmptyWindows = 12
)

// An allocBook makes profiles of allocations: of those in a window, and of those that are
// in use at its end. It is used by one goroutine.
type allocBook struct {
	targets Labeler
	metrics *metrics
	seed    maphash.Seed
	// forget is told which allocations the book does not wait for any more.
	forget func(pid uint32, pointer uint64)
	byPID  map[uint32]*liveProcess
	live   int   // allocations in byPID
	next   int64 // start of the first window that was not reported, Unix ns
	// ended have what processes had in use when they ended in the window that is not
	// reported yet, emptied a stacktrace of each process that has nothing in use any more.
	ended   []*liveProcess
	emptied map[uint32]event
}

// A liveProcess is what a process has in use.
type liveProcess struct {
	byPointer map[uint64]liveAllocation
	stacks    map[tallyKey]*tallied // with the sums of what is in use
}

// A liveAllocation is an allocation that is in use.
type liveAllocation struct {
	stack  tallyKey
	values values // objects, bytes
}

func newAllocBook(t Labeler, m *metrics, forget func(pid uint32, pointer uint64)) *allocBook {
	return &allocBook{targets: t, metrics: m, seed: maphash.MakeSeed(), forget: forget, byPID: map[uint32]*liveProcess{}, emptied: map[uint32]event{}}
}

// objectsOf returns for how many objects an allocation stands: its weight by its size,
// rounded, but one at least.
func objectsOf(weight, size uint64) int64 {
	if size == 0 || weight <= size {
		return 1
	}
	n := weight / size
	if weight%size >= size-size/2 {
		n++
	}
	return int64(min(n, maxWeight))
}

// windows returns the profiles of allocations by the windows that start gives for their
// times, and of the memory in use at the end of each window that starts before end, in
// Unix ns.
func (b *allocBook) windows(hs []happening, stacks stacksByTID, end, interval int64, start func(uint64) int64) []*tally {
	// Of several CPUs, so not quite in order.
	slices.SortStableFunc(hs, func(x, y happening) int { return cmp.Compare(x.Time, y.Time) })
	next := nextAllocOf(hs)
	var ts []*tally
	at := b.next
	if at == 0 {
		at = end - interval
		if len(hs) > 0 {
			at = min(at, start(hs[0].Time))
		}
	}
	at = max(at, end-maxEmptyWindows*interval)
	done := func(until int64) { // reports what is in use at the ends of windows
		for ; at < until; at += interval {
			if t := b.inUse(at); t != nil {
				ts = append(ts, t)
			}
		}
	}
	var allocated *tally
	for i, h := range hs {
		window := start(h.Time)
		done(window)
		if h.Kind == happenedAlloc && (allocated == nil || allocated.start != window) {
			allocated = &tally{start: window, kind: allocKind, events: map[tallyKey]*tallied{}}
			ts = append(ts, allocated)
		}
		switch h.Kind {
		case happenedAlloc:
			b.alloc(allocated, h, stacks.of(h.TID, h.Time, next[i]))
		case happenedFree:
			b.free(h.PID, h.Pointer)
		case happenedEnd:
			b.end(h.PID)
		}
	}
	done(end)
	b.next = max(b.next, at)
	b.sweep()
	b.metrics.allocLive.Set(float64(b.live))
	return ts
}

// nextAllocOf returns for each allocation when the next one of its thread was, less one.
func nextAllocOf(hs []happening) []uint64 {
	next := make([]uint64, len(hs))
	following := map[uint32]uint64{}
	for i, h := range slices.Backward(hs) {
		if h.Kind != happenedAlloc {
			continue
		}
		next[i] = 1<<64 - 1
		if t, ok := following[h.TID]; ok {
			next[i] = t - 1
		}
		following[h.TID] = h.Time
	}
	return next
}

// alloc counts an allocation whose stacktrace is e, nil if that was lost.
func (b *allocBook) alloc(t *tally, h happening, e *event) {
	if e == nil {
		e = &event{labels: b.targets.Labels(int(h.PID), target.Hint{})}
	}
	key := hashEvent(b.seed, *e)
	v := values{objectsOf(h.Weight, h.Size), int64(min(h.Weight, maxWeight))}
	all := v
	if h.Due > 0 { // taken to be of the same size
		all[0] += objectsOf(h.Due, h.Size)
		all[1] += int64(min(h.Due, maxWeight))
	}
	addValues(t.events, key, *e, all)
	b.free(h.PID, h.Pointer) // whose free was not seen
	if h.Live == 0 {
		return
	}
	p := b.byPID[h.PID]
	reason := ""
	switch {
	case e.labels.IsEmpty(): // of a process that is left out
		b.forget(h.PID, h.Pointer)
		return
	case b.live >= maxLiveAllocations || p == nil && len(b.byPID) >= maxLiveProcesses:
		reason = "table"
	case p != nil && len(p.byPointer) >= maxLiveOfProcess:
		reason = "process"
	}
	if reason != "" {
		b.metrics.allocNotLive.WithLabelValues(reason).Inc()
		b.forget(h.PID, h.Pointer)
		return
	}
	if p == nil {
		p = &liveProcess{byPointer: map[uint64]liveAllocation{}, stacks: map[tallyKey]*tallied{}}
		b.byPID[h.PID] = p
	}
	p.byPointer[h.Pointer] = liveAllocation{key, v}
	b.live++
	addValues(p.stacks, key, *e, v)
}

// free takes an allocation out, if it is there.
func (b *allocBook) free(pid uint32, pointer uint64) {
	p := b.byPID[pid]
	if p == nil {
		return
	}
	l, ok := p.byPointer[pointer]
	if !ok {
		return
	}
	delete(p.byPointer, pointer)
	b.live--
	s := p.stacks[l.stack]
	s.count--
	for i := range l.values {
		s.values[i] -= l.values[i]
	}
	if s.count == 0 {
		delete(p.stacks, l.stack)
	}
	if len(p.byPointer) == 0 {
		delete(b.byPID, pid)
		if len(b.emptied) < maxLiveProcesses {
			b.emptied[pid] = s.event
		}
	}
}

// end takes out all that a process had. It counts as in use at the end of the window.
func (b *allocBook) end(pid uint32) {
	p := b.byPID[pid]
	if p == nil {
		return
	}
	for pointer := range p.byPointer {
		b.forget(pid, pointer)
	}
	b.live -= len(p.byPointer)
	delete(b.byPID, pid)
	if p.byPointer = nil; len(b.ended) < maxLiveProcesses {
		b.ended = append(b.ended, p)
	}
}

// sweep takes out processes that have ended, in case that the kernel could not tell.
func (b *allocBook) sweep() {
	for pid := range b.byPID {
		if errors.Is(unix.Kill(int(pid), 0), unix.ESRCH) {
			b.end(pid)
		}
	}
}

// reconcile takes out allocations that were freed without our knowing, as a buffer was
// full.
func (b *allocBook) reconcile(isLive func(pid uint32, pointer uint64) bool) {
	for pid, p := range b.byPID {
		for _, pointer := range slices.Collect(maps.Keys(p.byPointer)) {
			if !isLive(pid, pointer) {
				b.free(pid, pointer)
			}
		}
	}
}

// inUse returns what is in use, as the window that starts at a time in Unix ns; nil if
// nothing is. Of a process that has nothing in use any more the window says so, once.
func (b *allocBook) inUse(start int64) *tally {
	t := &tally{start: start, kind: liveKind, events: map[tallyKey]*tallied{}}
	for _, p := range slices.AppendSeq(b.ended, maps.Values(b.byPID)) {
		for key, s := range p.stacks {
			addValues(t.events, key, s.event, s.values)
		}
	}
	for pid, e := range b.emptied {
		if b.byPID[pid] == nil {
			addValues(t.events, hashEvent(b.seed, e), e, values{})
		}
	}
	b.ended = nil
	clear(b.emptied)
	if len(t.events) == 0 {
		return nil
	}
	return t
}
