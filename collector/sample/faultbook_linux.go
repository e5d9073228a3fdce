//go:build linux && (amd64 || arm64)

package sample

import (
	"hash/maphash"
	"slices"

	"github.com/flameline/flameline/collector/target"
)

// Bounds of a faultBook.
const (
	maxBookProcesses = 2048
	maxBookStacks    = 512 // of one process
)

// A faultBook makes profiles of page faults. It keeps the stacktraces of each process so
// far, for the case that the kernel kills the process. It is used by one goroutine.
type faultBook struct {
	targets Labeler
	seed    maphash.Seed
	byPID   map[uint32]*faultHistory
	turn    uint64
}

// A faultHistory is what a process has made resident since it was seen first. Stacktraces
// beyond the bound are added to one that is not known.
type faultHistory struct {
	stacks map[tallyKey]*tallied // bytes in values[1]
	last   tallyKey
	used   uint64 // turn of the book
}

func newFaultBook(t Labeler) *faultBook {
	return &faultBook{targets: t, seed: maphash.MakeSeed(), byPID: map[uint32]*faultHistory{}}
}

// windows returns the profiles of faults and kills, by the windows that start gives for
// their times.
func (b *faultBook) windows(faults []fault, stacks stacksByTID, start func(uint64) int64) []*tally {
	// Of several CPUs, so not quite in order.
	slices.SortFunc(faults, func(a, b fault) int {
		if a.Time < b.Time {
			return -1
		}
		return 1
	})
	b.turn++
	var ts []*tally
	in := func(kind *profileKind, t uint64) *tally {
		at := start(t)
		for _, w := range ts {
			if w.kind == kind && w.start == at {
				return w
			}
		}
		w := &tally{start: at, kind: kind, events: map[tallyKey]*tallied{}}
		ts = append(ts, w)
		return w
	}
	next := nextOf(faults)
	for i, f := range faults {
		if f.Bytes == 0 {
			b.kill(f, in(oomKind, f.Time))
			continue
		}
		e := stacks.of(f.TID, f.Time, next[i])
		if e == nil {
			e = &event{labels: b.targets.Labels(int(f.PID), target.Hint{})}
		}
		key := hashEvent(b.seed, *e)
		addValues(in(pageFaultKind, f.Time).events, key, *e, values{int64(f.Bytes)})
		b.note(f.PID, key, e, int64(f.Bytes))
	}
	return ts
}

// nextOf returns for each fault when the next one of its thread was, less one.
func nextOf(faults []fault) []uint64 {
	next := make([]uint64, len(faults))
	following := map[uint32]uint64{}
	for i, f := range slices.Backward(faults) {
		next[i] = 1<<64 - 1
		if t, ok := following[f.TID]; ok {
			next[i] = t - 1
		}
		if f.Bytes > 0 {
			following[f.TID] = f.Time
		}
	}
	return next
}

// note adds to the history of a process.
func (b *faultBook) note(pid uint32, key tallyKey, e *event, bytes int64) {
	h := b.byPID[pid]
	if h == nil {
		b.makeRoom()
		h = &faultHistory{stacks: map[tallyKey]*tallied{}}
		b.byPID[pid] = h
	}
	h.used = b.turn
	if h.stacks[key] == nil && len(h.stacks) >= maxBookStacks {
		e = &event{labels: e.labels}
		key = hashEvent(b.seed, *e)
	}
	h.last = key
	addValues(h.stacks, key, *e, values{0, bytes})
}

// makeRoom drops the histories that were not used for longest if there are too many.
func (b *faultBook) makeRoom() {
	if len(b.byPID) < maxBookProcesses {
		return
	}
	turns := make([]uint64, 0, len(b.byPID))
	for _, h := range b.byPID {
		turns = append(turns, h.used)
	}
	slices.Sort(turns)
	for pid, h := range b.byPID {
		if h.used <= turns[len(turns)/4] {
			delete(b.byPID, pid)
		}
	}
}

// kill adds a process that was killed, with its history: the last stacktrace counts as the
// kill.
func (b *faultBook) kill(f fault, t *tally) {
	h := b.byPID[f.PID]
	if h == nil {
		e := event{labels: b.targets.Labels(int(f.PID), target.Hint{})}
		addValues(t.events, hashEvent(b.seed, e), e, values{1})
		return
	}
	delete(b.byPID, f.PID)
	for key, s := range h.stacks {
		v := s.values
		if key == h.last {
			v[0] = 1
		}
		addValues(t.events, key, s.event, v)
	}
}

// addValues adds to the event with a key.
func addValues(events map[tallyKey]*tallied, key tallyKey, e event, v values) {
	t := events[key]
	if t == nil {
		t = &tallied{event: e}
		events[key] = t
	}
	t.count++
	for i := range v {
		t.values[i] += v[i]
	}
}
