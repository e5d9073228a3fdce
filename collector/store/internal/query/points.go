package query

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A SeriesRequest asks for the values of profiles over time.
type SeriesRequest struct {
	Selection // of the points; profiles up to a step before Start count in the first
	// GroupBy are the names of the labels that the result is grouped by; none
	// gives one series without labels.
	GroupBy []string
	// Step is the distance of the points, which are at Start, Start+Step and so
	// on up to End.
	Step time.Duration
	// Limit is the number of series with the largest sums to return; 0 means all.
	Limit int64
	// Average makes a point the mean of the values of the profiles that began in its
	// step. Otherwise it is the sum of what they have in the step. It makes no
	// difference to states, whose points are always averaged over time and added
	// over processes.
	Average bool
	// Stack counts only the stacktraces that begin with this call site, from the
	// outermost function inwards. Where the rows of single profiles were dropped,
	// the value of a window counts at the window's end. FunctionPoints needs none.
	Stack []string
	// Own, of FunctionPoints, counts only the stacktraces that end in a function.
	Own bool
}

// A Series is one group's points, in order of time. Steps without profiles have
// no point.
type Series struct {
	Labels labels.Labels
	Points []Point
	// Until is the time, in ms, after which points may still grow: a sender's last
	// profile ended then, and its next one is on the way, as it is as long again. 0 if
	// none is.
	Until int64
}

// A Point is the value of the step (Time-Step, Time] that ends at Time, in ms. Of a
// profile that lies in several steps each has its share.
type Point struct {
	Time  int64
	Value float64
}

// MaxPoints is the most points of a series.
const MaxPoints = 1 << 20

// MaxFunctions is the most functions of one call of FunctionPoints.
const MaxFunctions = 64

// Points returns the series of a request, the largest sums first.
func (q *Queries) Points(ctx context.Context, r SeriesRequest) ([]Series, error) {
	lines, err := q.e.series(ctx, r, nil)
	return lines[0], err
}

// FunctionPoints returns the series of a request for each of some functions: of the
// stacktraces that have the function, or with r.Own of those that end in it. A function
// that the service has, and a profile has not, is 0 there. More than MaxFunctions give
// ErrLimit.
func (q *Queries) FunctionPoints(ctx context.Context, r SeriesRequest, functions []string) (out [][]Series, err error) {
	switch n := len(functions); {
	case n > MaxFunctions:
		return nil, fmt.Errorf("%w: %d functions, at most %d", storeerr.ErrLimit, n, MaxFunctions)
	case n == 0 || r.Type.Cumulative():
		out, err = q.e.series(ctx, r, functions)
		return out[:n], err
	}
	for k := range functions {
		one, err := q.e.series(ctx, r, functions[k:k+1])
		if err != nil {
			return nil, err
		}
		out = append(out, one...)
	}
	return out, nil
}

// series returns the series of a request: one list of all that it selects or, if there
// are functions, one of each function.
func (q *Engine) series(ctx context.Context, r SeriesRequest, functions []string) ([][]Series, error) {
	out := make([][]Series, max(len(functions), 1))
	sel, err := r.prepare()
	if err != nil || r.Start > r.End {
		return out, err
	}
	return out, q.within(ctx, "points", func(h *budget.Reservation) error {
		gs := q.newGroups(&r, functions, &sel, h)
		if err := gs.fill(ctx, q, sel); err != nil {
			return err
		}
		for k := range out {
			out[k] = gs.result(k)
		}
		h.Keep(int64(len(out)*len(gs.by)*gs.steps) * (PointBytes + encodedPointBytes))
		return nil
	})
}

// prepare checks and corrects a request, and returns the selection of the values of its
// points.
func (r *SeriesRequest) prepare() (sel Selection, err error) {
	step := r.Step.Milliseconds()
	if step < 1 {
		return sel, fmt.Errorf("%w: step: %s is less than a millisecond", storeerr.ErrInvalid, r.Step)
	}
	if r.Start = max(r.Start, 0); r.Start > r.End {
		return sel, nil
	}
	steps := (r.End - r.Start) / step // and one more, where the sum might overflow
	if steps >= MaxPoints {
		return sel, fmt.Errorf("%w: %d points per series, at most %d", storeerr.ErrLimit, uint64(steps)+1, MaxPoints)
	}
	sel = r.Selection
	sel.Start, sel.End = r.Start-step+1, r.Start+steps*step
	if !sel.Type.Cumulative() {
		r.Average = false
	}
	return sel, nil
}

// newGroups returns the groups of a request that was prepared, which are none yet.
func (q *Engine) newGroups(r *SeriesRequest, functions []string, sel *Selection, h *budget.Reservation) *groups {
	step := r.Step.Milliseconds()
	return &groups{
		request: r, functions: functions, lines: max(len(functions), 1),
		now: q.Now().UnixMilli(), steps: int((sel.End-r.Start)/step) + 1, first: r.Start, step: step,
		by: map[string]*group{}, hold: h,
	}
}

// fill adds the values of a selection to groups. There is memory for all of them
// before anything is read.
func (gs *groups) fill(ctx context.Context, q *Engine, sel Selection) error {
	jobs, err := q.Plan(ctx, gs.hold, sel, gs.request.GroupBy...)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if err := gs.find(j.Streams); err != nil {
			return err
		}
		for _, f := range j.aggregates {
			if err := gs.find(f.streams); err != nil {
				return err
			}
		}
	}
	if err := gs.hold.Expect(int64(len(gs.by)*gs.lines*gs.steps) * encodedPointBytes); err != nil {
		return err
	}
	if !sel.Type.Cumulative() {
		return q.statePoints(ctx, jobs, sel, gs)
	}
	return q.Run(ctx, gs.hold, jobs, func(j *Job, s *JobReader) error {
		return s.openStacks(j, gs.request.Stack, gs.functions, gs.request.Own, func(stacks *stackSums) error {
			if !stacks.all() {
				return gs.addRows(j, s, sel, stacks)
			}
			return s.points(j, sel, func(st *JobStream, v rowcodec.PointValues) error {
				gs.addAll(st.group, v)
				return nil
			})
		})
	})
}

// points visits the times and the totals of a job's profiles, which need no samples.
//
// Profiles that cover a part of the selection are among them, also if they began
// before it.
func (s *JobReader) points(j *Job, sel Selection, fn func(*JobStream, rowcodec.PointValues) error) error {
	lo, hi := sel.Times(j.Epoch)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	return s.Each(j, layout.KindPoints, lo, hi, func(st *JobStream, w scan.Window) error {
		v, err := b.points.Read(w, st.SampleType, lo-s.Longest, hi)
		if err != nil {
			return err
		}
		if w.Level == layout.LevelFine {
			v.Covers[0] = s.coverOf(v.Covers[0])
		}
		return fn(st, v)
	})
}

// coverOf is what a profile's row covers, as PointList.Covers, or 0 where rows count at
// their time.
func (s *JobReader) coverOf(covers uint64) uint64 {
	if s.Longest == 0 {
		return 0
	}
	return covers
}

// addRows adds the values of a job's profiles in some stacktraces. Functions that the
// service has, and a row has not, get a 0.
func (gs *groups) addRows(j *Job, s *JobReader, sel Selection, stacks *stackSums) error {
	lo, hi := sel.Times(j.Epoch)
	return s.eachStream(j, layout.KindRow, layout.LevelFine, lo, hi, func(st *JobStream, w scan.Window) error {
		values, err := stacks.read(w, st.SampleType)
		if err != nil {
			return err
		}
		covers, n := uint64(0), uint32(stacks.row.Profiles)
		if w.Level == layout.LevelFine {
			covers, n = s.coverOf(stacks.row.Covers()), 1
		}
		st.group.mu.Lock()
		defer st.group.mu.Unlock()
		for found := stacks.found; found != 0; found &= found - 1 {
			k := bits.TrailingZeros64(found)
			gs.put(&st.group.lines[k], w.End, values[k], covers, n)
		}
		return nil
	})
}

// groups collect values by group and step. They are safe for concurrent use.
type groups struct {
	request   *SeriesRequest
	functions []string // that each have a line, nil for one of everything
	lines     int      // of each group
	steps     int
	first     int64 // time of the first step, ms
	step      int64 // ms
	now       int64 // ms

	by   map[string]*group // not changed while values are added
	hold *budget.Reservation
}

// What a step of a group takes: a sum, a count and a point of the result, and the point
// of the answer with its encoding.
const (
	StepBytes         = 8 + 4 + PointBytes
	PointBytes        = 16
	encodedPointBytes = 56 + 24
)

type group struct {
	labels labels.Labels
	mu     sync.Mutex
	lines  []line
}

// A line are the values by step of all that a group has, or of a function.
type line struct {
	sums   []float64
	counts []uint32
	until  int64 // as Series.Until
	step   int   // of what was added last, maybe outside of sums, and where it ends in ms
	stop   int64
}

// groupOf returns the labels of a series that it is grouped by.
func groupOf(series labels.Labels, by []string) labels.Labels {
	var b labels.ScratchBuilder
	for _, name := range by {
		if v := series.Get(name); v != "" {
			b.Add(name, v)
		}
	}
	b.Sort()
	return b.Labels()
}

// find finds the groups of streams, and makes those that are not there.
func (gs *groups) find(streams []JobStream) error {
	var b []byte
	for i := range streams {
		st := &streams[i]
		if i > 0 && labels.Equal(st.labels, streams[i-1].labels) {
			st.group = streams[i-1].group
			continue
		}
		ls := groupOf(st.labels, gs.request.GroupBy)
		b = ls.Bytes(b)
		st.group = gs.by[string(b)]
		if st.group != nil {
			continue
		}
		if err := gs.hold.Take(int64(gs.lines)*(int64(gs.steps)*StepBytes+lineBytes) + int64(len(b))*2 + groupBytes); err != nil {
			return err
		}
		st.group = &group{labels: ls}
		for range gs.lines {
			st.group.lines = append(st.group.lines, line{sums: make([]float64, gs.steps), counts: make([]uint32, gs.steps), stop: gs.first})
		}
		gs.by[string(b)] = st.group
	}
	return nil
}

// What a group, and a line of it, take beside their steps and labels.
const (
	groupBytes = int64(unsafe.Sizeof(group{})) + 64
	lineBytes  = 2 * int64(unsafe.Sizeof(line{}))
)

// stepOf numbers the step (t-step, t] that a time falls into.
func (gs *groups) stepOf(t int64) int {
	t += gs.step - 1 - gs.first
	if t < 0 {
		return -1
	}
	return int(t / gs.step)
}

// put adds the value of n profiles, which cover what covers says.
func (gs *groups) put(g *line, t, v int64, covers uint64, n uint32) {
	if gs.request.Average {
		if covers&1 == 1 {
			n = 0 // the profile was counted where it began
		}
		if i := gs.stepOf(t); i >= 0 && i < gs.steps {
			g.sums[i] += float64(v)
			g.counts[i] += n
		}
		return
	}
	d := int64(covers >> 1)
	begin, end := t, t // the first and the last ms
	if d > 0 {
		begin, end = t+1, t+d
		if growing(end, d, gs.now) && (g.until == 0 || end < g.until) {
			g.until = end
		}
	}
	g.seek(gs, begin)
	i, stop := g.step, g.stop
	if end <= stop {
		if i >= 0 && i < gs.steps {
			g.sums[i] += float64(v)
			g.counts[i] += n
		}
		return
	}
	perMs := float64(v) / float64(d)
	for at := t; at < end && i < gs.steps; i++ {
		if i >= 0 {
			g.sums[i] += perMs * float64(min(end, stop)-at)
			g.counts[i] += n
		}
		at, stop = stop, stop+gs.step
	}
}

// growing reports whether the next profile of a sender is on the way, whose last one covers
// d ms up to end.
func growing(end, d, now int64) bool {
	return end+2*d > now-lateMs && end+d+min(d, lateMs) > now && end <= now && end%layout.SlotMs != 0
}

// seek finds the step of a time, which most often is that of the last one or the next.
func (g *line) seek(gs *groups, t int64) {
	if t <= g.stop && t > g.stop-gs.step {
		return
	}
	if t > g.stop && t <= g.stop+gs.step {
		g.step++
		g.stop += gs.step
		return
	}
	n := t - gs.first + gs.step - 1
	k := n / gs.step
	if n < 0 && n%gs.step != 0 {
		k--
	}
	g.step, g.stop = int(k), gs.first+k*gs.step
}

// lateMs is how long after its end a profile may arrive.
const lateMs = 5000

// addAll adds points to the only line of a group.
func (gs *groups) addAll(to *group, v rowcodec.PointValues) {
	to.mu.Lock()
	defer to.mu.Unlock()
	g := &to.lines[0]
	// Most points are in the step of the one before and the next, and need no division.
	sums, counts, average, recent := g.sums, g.counts, gs.request.Average, gs.now-lateMs
	k, stop, step := g.step, g.stop, gs.step
	for i, t := range v.Times {
		x, d := v.Values[i], int64(v.Covers[i]>>1)
		end := t + d
		if t >= stop && t < stop+step {
			k, stop = k+1, stop+step
		}
		if t < stop-step || t >= stop || end > stop+step || d == 0 || k < 0 || k+1 >= len(sums) || average || end+2*d > recent {
			gs.put(g, t, x, v.Covers[i], 1)
			k, stop = g.step, g.stop
			continue
		}
		if end <= stop {
			sums[k] += float64(x)
			counts[k]++
			continue
		}
		first := float64(x) / float64(d) * float64(stop-t)
		sums[k] += first
		counts[k]++
		k, stop = k+1, stop+step
		sums[k] += float64(x) - first
		counts[k]++
	}
	g.step, g.stop = k, stop
}

// result returns the series of a line of each group, the largest sums first.
func (gs *groups) result(k int) []Series {
	type sum struct {
		Series
		sum float64
	}
	var all []sum
	for _, g := range gs.by {
		from := &g.lines[k]
		s := sum{Series: Series{Labels: g.labels, Until: from.until}}
		for i, n := range from.counts {
			if n == 0 {
				continue
			}
			v := from.sums[i]
			if gs.request.Average {
				v /= float64(n)
			}
			s.Points = append(s.Points, Point{gs.first + int64(i)*gs.step, v})
			s.sum += v
		}
		if len(s.Points) > 0 {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b sum) int {
		return cmp.Or(cmp.Compare(b.sum, a.sum), labels.Compare(a.Labels, b.Labels))
	})
	if n := gs.request.Limit; n > 0 && int64(len(all)) > n {
		all = all[:n]
	}
	out := make([]Series, len(all))
	for i, s := range all {
		out[i] = s.Series
	}
	return out
}
