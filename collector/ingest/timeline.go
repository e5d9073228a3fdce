package ingest

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// A profile has one time, but the samples of a recording have one each. So a recording
// becomes one profile per window of the wall clock in which it has samples, as
// collector/sample makes them.

const (
	// windowLength is the length of windows, in ns, unless there would be too many.
	windowLength = int64(5 * time.Second)
	// longestWindow is some 23 hours.
	longestWindow = windowLength << 14
	// maxWindows bounds the windows of one profile type, maxBodyWindows those of all
	// types of a body. An hour has 720 windows.
	maxWindows, maxBodyWindows = 1000, 10_000
	// maxCells bounds the samples in all windows of a body.
	maxCells = 1 << 20
	// spreadOver bounds the windows of one length over which an event is spread. The
	// middle of a longer event goes into longer windows.
	spreadOver = 64
	// tickLength is the precision, in ns, of the times that samples keep.
	tickLength = int64(20 * time.Millisecond)
)

// Times of samples, in Unix ns, are clamped to these bounds, within which no sum
// overflows. The receiver refuses times that are too old or in the future.
const (
	earliestSample = int64(1)
	latestSample   = math.MaxInt64 - 4*longestWindow
)

// A window is the time (start, start+length], in Unix ns. start is a multiple of length.
type window struct{ start, length int64 }

func windowAt(t, length int64) window {
	t = min(max(t, earliestSample), latestSample)
	return window{(t - 1) / length * length, length}
}

// begin returns the time of a window's profile: its first millisecond, since start
// belongs to the window before.
func (w window) begin() int64 { return w.start + int64(time.Millisecond) }

func (w window) end() int64 { return w.start + w.length }

// timelines are the timelines of one body. If there are too many windows, all timelines
// get longer ones.
type timelines struct {
	length         int64 // of windows; 0 means windowLength
	latest         int64 // upper bound of the last window's end, so that it is not in the future; 0 means none
	ticks          bool  // samples keep their times, as Limits.SampleTimes, unless there would be too many
	all            []*timeline
	windows, cells int // totals
}

// A timeline holds the timed samples of one profile by window. The profile itself has
// their sums, so that values without a time are the difference.
type timeline struct {
	of     *timelines
	values int // number of values of a sample
	index  map[cell]uint32
	cells  []cell
	sums   []int64 // values of each cell
	counts map[window]int
}

// A cell identifies one sample of the profile, by its index, in one window.
type cell struct {
	window window
	sample uint32
	tick   int64 // the end of its tick, in Unix ns; 0 if the sample does not keep its time
}

// newTimeline adds a timeline for samples with the given number of values.
func (ts *timelines) newTimeline(values int) *timeline {
	if ts.length == 0 {
		ts.length = windowLength
	}
	t := &timeline{of: ts, values: values, index: map[cell]uint32{}, counts: map[window]int{}}
	ts.all = append(ts.all, t)
	return t
}

// add adds values, none of them negative, to a sample of the profile at a time in Unix
// ns. The caller must have added them to the profile too, which checks for overflow.
func (t *timeline) add(sample uint32, at int64, values ...int64) error {
	tick := int64(0)
	if t.of.ticks {
		tick = windowAt(at, tickLength).end()
	}
	return t.put(cell{windowAt(at, t.of.length), sample, tick}, values)
}

// spread adds values evenly over the time from one to another, in Unix ns.
func (t *timeline) spread(sample uint32, from, to int64, values ...int64) error {
	from, to = min(max(from, earliestSample), latestSample), min(max(to, earliestSample), latestSample)
	from = max(from, to-spreadOver*longestWindow)
	if to-from <= tickLength && windowAt(from+1, t.of.length) == windowAt(to, t.of.length) || to <= from {
		return t.add(sample, to, values...)
	}
	most := t.of.length
	for (to-from)/most > spreadOver {
		most *= 2
	}
	given, part := make([]int64, len(values)), make([]int64, len(values))
	for at := from; at < to; {
		w := windowAt(at+1, t.of.length)
		for next := windowAt(at+1, 2*w.length); next.length <= most && next.start >= at && next.end() <= to; next = windowAt(at+1, 2*w.length) {
			w = next
		}
		at = min(w.end(), to)
		for i, v := range values {
			upTo := share(v, at-from, to-from)
			part[i], given[i] = upTo-given[i], upTo
		}
		if err := t.put(cell{window: w, sample: sample}, part); err != nil {
			return err
		}
	}
	return nil
}

// share returns v·n/d without overflow. n must not exceed d, and none may be negative.
func share(v, n, d int64) int64 {
	hi, lo := bits.Mul64(uint64(v), uint64(n))
	q, _ := bits.Div64(hi, lo, uint64(d))
	return int64(q)
}

func (t *timeline) put(c cell, values []int64) error {
	if !slices.ContainsFunc(values, func(v int64) bool { return v != 0 }) {
		return nil
	}
	c = t.of.within(c)
	i, ok := t.index[c]
	for !ok && t.full(c.window) {
		if err := t.of.coarsen(); err != nil {
			return err
		}
		c = t.of.within(c)
		i, ok = t.index[c]
	}
	if !ok {
		i = t.newCell(c)
	}
	for k, v := range values {
		t.sums[int(i)*t.values+k] += v
	}
	return nil
}

func (t *timeline) newCell(c cell) uint32 {
	i := uint32(len(t.cells))
	t.index[c] = i
	t.cells = append(t.cells, c)
	t.sums = append(t.sums, make([]int64, t.values)...)
	t.of.cells++
	if t.counts[c.window]++; t.counts[c.window] == 1 {
		t.of.windows++
	}
	return i
}

// full reports whether a new sample in a window would exceed a limit.
func (t *timeline) full(w window) bool {
	if t.of.cells >= maxCells {
		return true
	}
	return t.counts[w] == 0 && (len(t.counts) >= maxWindows || t.of.windows >= maxBodyWindows)
}

// within returns the cell that a cell is part of at present: its window has the present
// length, or its own if that is longer.
func (ts *timelines) within(c cell) cell {
	if c.window.length < ts.length {
		c.window = windowAt(c.window.end(), ts.length)
	}
	if !ts.ticks {
		c.tick = 0
	}
	return c
}

// coarsen drops the times of samples or doubles the length of windows, and merges what is in
// one cell then.
func (ts *timelines) coarsen() error {
	switch {
	case ts.ticks && ts.cells >= maxCells:
		ts.ticks = false
	case ts.length < longestWindow:
		ts.length *= 2
	default:
		return fmt.Errorf("samples: their times are too far apart: more than %d windows of %s, or more than %d windows of all types, or more than %d samples in all windows; send shorter recordings",
			maxWindows, time.Duration(ts.length), maxBodyWindows, maxCells)
	}
	ts.windows, ts.cells = 0, 0
	for _, t := range ts.all {
		cells, sums := t.cells, t.sums
		t.cells, t.sums = t.cells[:0:0], make([]int64, 0, len(sums))
		clear(t.index)
		clear(t.counts)
		for i, c := range cells {
			c = ts.within(c)
			k, ok := t.index[c]
			if !ok {
				k = t.newCell(c)
			}
			for j, v := range sums[i*t.values : (i+1)*t.values] {
				t.sums[int(k)*t.values+j] += v
			}
		}
	}
	return nil
}

// cut divides a profile that has the sums of all samples into one per window. Values
// without a time come first, at the profile's own time. The returned profiles share the
// original's messages and tables, which must be copied before they are changed.
func (t *timeline) cut(whole *googlev1.Profile) []*googlev1.Profile {
	if t == nil || len(t.cells) == 0 {
		return []*googlev1.Profile{whole}
	}
	order := make([]uint32, len(t.cells))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int {
		a, b := t.cells[i], t.cells[j]
		return cmp.Or(cmp.Compare(a.window.start, b.window.start), cmp.Compare(a.window.length, b.window.length), cmp.Compare(a.sample, b.sample), cmp.Compare(a.tick, b.tick))
	})
	var key, unit int64
	if slices.ContainsFunc(t.cells, func(c cell) bool { return c.tick > 0 }) {
		key, unit = int64(len(whole.StringTable)), int64(len(whole.StringTable)+1)
		whole.StringTable = append(whole.StringTable, profile.LabelSampleTime, "nanoseconds")
	}
	samples, all := make([]googlev1.Sample, len(t.cells)), whole.Sample
	out := make([]*googlev1.Profile, 0, len(t.counts)+1)
	for first := 0; first < len(order); {
		w := t.cells[order[first]].window
		n := t.counts[w]
		p := emptied(whole)
		p.TimeNanos, p.DurationNanos = w.begin(), w.length
		if latest := t.of.latest; latest > 0 && latest < w.end() && latest >= w.start {
			p.DurationNanos = max(latest-w.begin(), int64(time.Millisecond))
		}
		p.Sample = make([]*googlev1.Sample, n)
		for k, i := range order[first : first+n] {
			from, to := all[t.cells[i].sample], &samples[first+k]
			to.LocationId, to.Label = from.LocationId, from.Label
			if at := t.cells[i].tick; at > 0 {
				to.Label = append(slices.Clip(to.Label), &googlev1.Label{Key: key, Num: at, NumUnit: unit})
			}
			to.Value = t.sums[int(i)*t.values : (int(i)+1)*t.values : (int(i)+1)*t.values]
			for c, v := range to.Value {
				from.Value[c] -= v
			}
			p.Sample[k] = to
		}
		out = append(out, p)
		first += n
	}
	whole.Sample = slices.DeleteFunc(all, func(s *googlev1.Sample) bool {
		return !slices.ContainsFunc(s.Value, func(v int64) bool { return v != 0 })
	})
	if len(whole.Sample) > 0 {
		out = slices.Insert(out, 0, whole)
	}
	return out
}

// emptied returns a profile without samples that shares another one's tables.
func emptied(p *googlev1.Profile) *googlev1.Profile {
	out := &googlev1.Profile{
		Mapping: slices.Clip(p.Mapping), Location: slices.Clip(p.Location), Function: slices.Clip(p.Function),
		StringTable: slices.Clip(p.StringTable), Period: p.Period,
	}
	for _, t := range p.SampleType {
		out.SampleType = append(out.SampleType, &googlev1.ValueType{Type: t.Type, Unit: t.Unit})
	}
	if t := p.PeriodType; t != nil {
		out.PeriodType = &googlev1.ValueType{Type: t.Type, Unit: t.Unit}
	}
	return out
}
