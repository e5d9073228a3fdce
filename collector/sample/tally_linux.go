//go:build linux && (amd64 || arm64)

package sample

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/ebpf-profiler/libpf"
)

const (
	// lateness is how long after its end a window waits for samples that are
	// still on their way: the kernel's buffer is read every pollInterval.
	lateness = 500 * time.Millisecond
	// maxTallied bounds the distinct stacktraces that wait for their symbols.
	maxTallied = 65536
)

// An event is a stacktrace as the unwinder reports it, with the labels that its
// process had then.
type event struct {
	labels labels.Labels
	time   int64 // Unix ns
	frames libpf.Frames
	chain  *chain  // of a process that the unwinder did not know; else nil
	cause  cause   // of a wait; else zero
	spans  spanIDs // of CPU samples
}

// A chain is the user's part of a stacktrace of a process that the unwinder did not know.
type chain struct {
	places []place // leaf first; none if the process was in exec
	whole  bool    // up to where the thread began
}

// A tally counts the events of one window before their native frames are named,
// so that a busy or slow symbolizer holds up nothing.
type tally struct {
	start  int64 // Unix ns
	kind   *profileKind
	events map[tallyKey]*tallied
}

// A tallyKey identifies what is the same in events, by hashes.
type tallyKey struct{ labels, stack uint64 }

// A tallied event is one that occurred count times, with the sums of its values. The
// value of CPU samples is their number.
type tallied struct {
	event
	count  int64
	values values
	ticks  []int64 // of samples with times, see tickOf
}

// An aggregate sorts events into the windows that their times fall into. It is
// safe for concurrent use.
type aggregate struct {
	interval time.Duration
	metrics  *metrics
	seed     maphash.Seed
	times    bool // as Options.SampleTimes

	mu      sync.Mutex
	open    map[int64]*tally // by start
	held    int              // distinct events in open
	flushed int64            // Unix ns: windows with an earlier end were given out
}

func newAggregate(interval time.Duration, m *metrics, times bool) *aggregate {
	return &aggregate{interval: interval, metrics: m, times: times, seed: maphash.MakeSeed(), open: map[int64]*tally{}}
}

// add counts an event in its window. If that was given out before, the late
// sample opens a second one with the same time, which the next call of due
// returns. Where too many distinct events wait, it is lost.
func (a *aggregate) add(e event) {
	start := windowStart(e.time, a.interval)
	key := hashEvent(a.seed, e)
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.open[start]
	if t == nil {
		t = &tally{start: start, kind: cpuKind, events: map[tallyKey]*tallied{}}
		a.open[start] = t
	}
	if start+int64(a.interval) <= a.flushed {
		a.metrics.late.Inc()
	}
	same := t.events[key]
	if same == nil {
		if a.held >= maxTallied {
			a.metrics.lost.WithLabelValues("queue_full").Inc()
			return
		}
		a.held++
		same = &tallied{event: e}
		t.events[key] = same
	}
	same.count++
	same.values[0]++
	if a.times {
		same.ticks = append(same.ticks, tickOf(e.time))
	}
}

// hashEvent identifies what is the same in events. Frames are interned, so equal ones
// are the same.
func hashEvent(seed maphash.Seed, e event) tallyKey {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, f := range e.frames {
		maphash.WriteComparable(&h, f)
	}
	if e.chain != nil {
		for _, p := range e.chain.places {
			maphash.WriteComparable(&h, p)
		}
	}
	if e.cause != (cause{}) {
		maphash.WriteComparable(&h, e.cause)
	}
	if e.spans != (spanIDs{}) {
		maphash.WriteComparable(&h, e.spans)
	}
	return tallyKey{labels: e.labels.Hash(), stack: h.Sum64()}
}

// next returns when due has to be called: after the end of the window that now
// is in.
func (a *aggregate) next(now time.Time) time.Time {
	end := windowStart(now.UnixNano(), a.interval) + int64(a.interval)
	return time.Unix(0, end).Add(lateness)
}

// due removes and returns the windows that ended before now less the lateness,
// the oldest first.
func (a *aggregate) due(now time.Time) []*tally {
	return a.take(now.Add(-lateness).UnixNano())
}

// rest removes and returns all windows, the oldest first.
func (a *aggregate) rest() []*tally {
	return a.take(1<<63 - 1)
}

// take removes and returns the windows that ended until a time in Unix ns.
func (a *aggregate) take(until int64) (ts []*tally) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, start := range slices.Sorted(maps.Keys(a.open)) {
		if start <= until-int64(a.interval) {
			ts = append(ts, a.open[start])
			a.held -= len(a.open[start].events)
			delete(a.open, start)
		}
	}
	a.flushed = max(a.flushed, until)
	return ts
}
