package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
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
	// Average makes a point the mean of its profiles' values, not the sum.
	Average bool
	// Stack counts only the stacktraces that begin with this call site, from the
	// outermost function inwards. Where the rows of single profiles were dropped,
	// the value of a window counts at the window's end.
	Stack []string
}

// A Series is one group's points, in order of time. Steps without profiles have
// no point.
type Series struct {
	Labels labels.Labels
	Points []Point
}

// A Point is the value of the profiles in the step that ends at Time, in ms: of
// those at times in (Time-Step, Time].
type Point struct {
	Time  int64
	Value float64
}

// The most points of a series.
const maxPoints = 1 << 20

// Points returns the series of a request, the largest sums first.
func (db *DB) Points(ctx context.Context, r SeriesRequest) (out []Series, err error) {
	defer func() {
		if db.heal(err) {
			out, err = db.Points(ctx, r)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("points")()
	step := r.Step.Milliseconds()
	if step < 1 {
		return nil, fmt.Errorf("%w: step: %s is less than a millisecond", ErrInvalid, r.Step)
	}
	if r.Start = max(r.Start, 0); r.Start > r.End {
		return nil, nil
	}
	steps := (r.End-r.Start)/step + 1
	if steps > maxPoints {
		return nil, fmt.Errorf("%w: %d points per series, at most %d", ErrLimit, steps, maxPoints)
	}
	sel := r.Selection
	sel.Start, sel.End = r.Start-step+1, r.Start+(steps-1)*step
	jobs, err := db.planBy(ctx, sel, r.GroupBy)
	if err != nil {
		return nil, err
	}
	groups := &groups{request: &r, steps: int(steps), first: r.Start, step: step, by: map[string]*group{},
		ctx: ctx, hold: db.memory.hold()}
	defer groups.hold.release()
	err = db.run(ctx, jobs, func(j *job, s *scanner) error {
		if len(r.Stack) > 0 {
			return db.stackPoints(j, s, sel, groups)
		}
		return db.points(j, s, sel, func(series labels.Labels) func([]int64, []int64) {
			g := groups.of(series)
			return func(times, values []int64) { groups.addAll(g, times, values) }
		})
	})
	if err != nil {
		return nil, err
	}
	if groups.err != nil {
		return nil, groups.err
	}
	return groups.result(), nil
}

// points hands out the times and the totals of a job's profiles, which need no
// samples. to is asked at least once for each stream; what it returns does not
// keep the slices.
func (db *DB) points(j *job, s *scanner, sel Selection, to func(series labels.Labels) func(times, values []int64)) error {
	lo, hi := sel.times(j.epoch)
	var p packedRow
	var list pointList
	time, total := make([]int64, 1), make([]int64, 1)
	var last *jobStream
	var add func(times, values []int64)
	return s.coverJob(j, kindPoints, lo, hi, func(st *jobStream, level int, end int64, value []byte) error {
		if st != last {
			last, add = st, to(st.labels)
		}
		if level == levelFine {
			if err := p.decodeHead(&reader{data: value}); err != nil {
				return err
			}
			v, err := p.total(level, st.sampleType)
			if err != nil {
				return err
			}
			time[0], total[0] = end, v
			add(time, total)
			return nil
		}
		if err := list.decode(value, end-windowMs[level], st.sampleType); err != nil {
			return err
		}
		add(list.within(lo, hi))
		return nil
	})
}

// stackPoints adds the values of a job's profiles at a call site.
func (db *DB) stackPoints(j *job, s *scanner, sel Selection, groups *groups) error {
	part, err := s.partition(j.partition)
	if err != nil {
		return err
	}
	defer part.release()
	v := part.value.view()
	in := v.below(groups.request.Stack)
	lo, hi := sel.times(j.epoch)
	var p packedRow
	var tmp scratch
	for _, st := range j.streams {
		g := groups.of(st.labels)
		from, to := st.span.within(s, lo, hi)
		err := s.cover(kindRow, levelFine, st.id, from, to, func(level int, t int64, value []byte) error {
			if err := p.decode(value); err != nil {
				return err
			}
			if _, err := p.total(level, st.sampleType); err != nil {
				return err
			}
			sum, err := p.sumOf(st.sampleType, len(v.nodes), &tmp, func(n uint32) bool { return in[v.callOf[n]] })
			if err != nil {
				return err
			}
			groups.add(g, t, sum, uint32(p.profiles))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// groups collect values by group and step. They are safe for concurrent use.
type groups struct {
	request *SeriesRequest
	steps   int
	first   int64 // time of the first step, ms
	step    int64 // ms

	mu   sync.Mutex
	by   map[string]*group
	ctx  context.Context
	hold hold
	err  error // why a group could not be made
}

type group struct {
	labels labels.Labels
	mu     sync.Mutex
	sums   []float64
	counts []uint32
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

// of returns the group of a series, or nil if there is no memory for it.
func (gs *groups) of(series labels.Labels) *group {
	ls := groupOf(series, gs.request.GroupBy)
	key := string(ls.Bytes(nil))
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.by[key]
	if g == nil {
		if gs.err != nil {
			return nil
		}
		const bytesPerStep = 8 + 4 + 16 // a sum, a count and a point of the result
		if gs.err = gs.hold.wait(gs.ctx, int64(gs.steps)*bytesPerStep); gs.err != nil {
			return nil
		}
		g = &group{labels: ls, sums: make([]float64, gs.steps), counts: make([]uint32, gs.steps)}
		gs.by[key] = g
	}
	return g
}

// stepOf numbers the step (t-step, t] that a time falls into.
func (gs *groups) stepOf(t int64) int { return int((t - gs.first + gs.step - 1) / gs.step) }

// add adds the value of n profiles.
func (gs *groups) add(g *group, t, v int64, n uint32) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gs.put(g, t, v, n)
}

func (gs *groups) put(g *group, t, v int64, n uint32) {
	// Times before the first step are at most a step before it.
	if i := gs.stepOf(t); i >= 0 && i < gs.steps {
		g.sums[i] += float64(v)
		g.counts[i] += n
	}
}

func (gs *groups) addAll(g *group, times []int64, values []int64) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, t := range times {
		gs.put(g, t, values[i], 1)
	}
}

func (gs *groups) result() []Series {
	type sum struct {
		Series
		sum float64
	}
	var all []sum
	for _, g := range gs.by {
		s := sum{Series: Series{Labels: g.labels}}
		for i, n := range g.counts {
			if n == 0 {
				continue
			}
			v := g.sums[i]
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

// A pointList holds the times and the totals of the profiles in a window.
type pointList struct {
	times  []int64
	values []int64 // of one sample type
	tmp    []uint64
}

// appendPoints encodes points of several sample types: totals[c][i] is at
// times[i]. Times are ascending and after start.
func appendPoints(b []byte, start int64, times []int64, totals [][]int64) []byte {
	b = binary.AppendUvarint(b, uint64(len(totals)))
	b = binary.AppendUvarint(b, uint64(len(times)))
	tmp := make([]uint64, 0, len(times))
	last := start
	for _, t := range times {
		tmp, last = append(tmp, uint64(t-last)), t
	}
	b = appendColumn(b, tmp)
	for _, vs := range totals {
		d := commonDivisor(vs)
		b = binary.AppendUvarint(b, uint64(d))
		tmp = tmp[:0]
		for _, v := range vs {
			tmp = append(tmp, uint64(v/d))
		}
		b = appendColumn(b, tmp)
	}
	return b
}

// within returns the points at times in (lo, hi].
func (l *pointList) within(lo, hi int64) (times, values []int64) {
	first := sort.Search(len(l.times), func(i int) bool { return l.times[i] > lo })
	end := sort.Search(len(l.times), func(i int) bool { return l.times[i] > hi })
	return l.times[first:end], l.values[first:end]
}

// decode reads the points of one sample type of a window that begins at start.
func (l *pointList) decode(value []byte, start int64, sampleType int) error {
	r := reader{data: value}
	types := r.count(2, "sample type count")
	count := r.uvarint("point count")
	if r.err == nil && count > uint64(len(value))*8 {
		r.fail("point count")
	}
	times := r.column("times")
	var values column
	divisor := uint64(1)
	for c := range types {
		d := r.uvarint("divisor")
		col := r.column("totals")
		if c == sampleType {
			divisor, values = d, col
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	if sampleType >= types || divisor == 0 || divisor > math.MaxInt64 {
		return fmt.Errorf("%w: sample type %d of %d", ErrCorrupt, sampleType, types)
	}
	n := int(count)
	l.tmp, l.times, l.values = grow(l.tmp, n), slices.Grow(l.times[:0], n)[:n], slices.Grow(l.values[:0], n)[:n]
	if !times.decode(l.tmp) {
		return fmt.Errorf("%w: times end early", ErrCorrupt)
	}
	t := start
	for i, d := range l.tmp {
		if d > dayMs {
			return fmt.Errorf("%w: time %d ms after the one before", ErrCorrupt, d)
		}
		t += int64(d)
		l.times[i] = t
	}
	if !values.decode(l.tmp) {
		return fmt.Errorf("%w: totals end early", ErrCorrupt)
	}
	for i, v := range l.tmp {
		l.values[i] = int64(v * divisor)
	}
	return nil
}
