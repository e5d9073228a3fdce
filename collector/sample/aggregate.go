package sample

import (
	"maps"
	"slices"
	"time"
)

// lateness is how long after its end a window waits for samples that are still
// on their way: the kernel's buffer is read every pollInterval.
const lateness = 500 * time.Millisecond

// An aggregate sorts stacktraces into the windows that their times fall into.
// It is used by one goroutine.
type aggregate struct {
	interval time.Duration
	open     map[int64]*window // by start
}

func newAggregate(interval time.Duration) *aggregate {
	return &aggregate{interval: interval, open: map[int64]*window{}}
}

// add counts a stacktrace in its window. If that was closed before, the late
// sample opens a second one with the same time, which the next call of due
// returns.
func (a *aggregate) add(st stacktrace) {
	start := windowStart(st.time, a.interval)
	w := a.open[start]
	if w == nil {
		w = newWindow(start)
		a.open[start] = w
	}
	w.add(st)
}

// next returns when due has to be called: after the end of the window that now
// is in.
func (a *aggregate) next(now time.Time) time.Time {
	end := windowStart(now.UnixNano(), a.interval) + int64(a.interval)
	return time.Unix(0, end).Add(lateness)
}

// due removes and returns the windows that ended before now less the lateness,
// the oldest first.
func (a *aggregate) due(now time.Time) []*window {
	limit := now.Add(-lateness).UnixNano() - int64(a.interval)
	var ws []*window
	for _, start := range slices.Sorted(maps.Keys(a.open)) {
		if start <= limit {
			ws = append(ws, a.open[start])
			delete(a.open, start)
		}
	}
	return ws
}

// rest removes and returns all windows, the oldest first.
func (a *aggregate) rest() []*window {
	ws := make([]*window, 0, len(a.open))
	for _, start := range slices.Sorted(maps.Keys(a.open)) {
		ws = append(ws, a.open[start])
	}
	clear(a.open)
	return ws
}
