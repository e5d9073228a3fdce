package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
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
	// the value of a window counts at the window's end.
	Stack []string
	// Function counts only the stacktraces that have this function, or with Own those
	// that end in it, in the way that Stack does. Only one of the two may be set.
	Function string
	Own      bool
}

// selective reports whether some stacktraces do not count.
func (r *SeriesRequest) selective() bool { return len(r.Stack) > 0 || r.Function != "" }

// within tells which nodes of a dictionary count. It must be selective.
func (r *SeriesRequest) within(v *symdb.View) func(node uint32) bool {
	if r.Function == "" {
		return v.Within(v.CallOf, r.Stack)
	}
	in, _ := v.Having([]string{r.Function}, r.Own)
	return func(node uint32) bool { return in[v.CallOf[node]] != 0 }
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

// Points is DB.Points.
func (q *Engine) Points(ctx context.Context, r SeriesRequest) (out []Series, err error) {
	sel, err := r.prepare()
	if err != nil || r.Start > r.End {
		return nil, err
	}
	err = q.Memory.Within(ctx, func(h *budget.Reservation) error {
		gs := q.newGroups(&r, &sel, h)
		if err := q.pointsIn(ctx, sel, gs); err != nil {
			return err
		}
		out = gs.result()
		h.Keep(int64(len(gs.by)*gs.steps) * (PointBytes + encodedPointBytes))
		return nil
	})
	return out, err
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
func (q *Engine) newGroups(r *SeriesRequest, sel *Selection, h *budget.Reservation) *groups {
	step := r.Step.Milliseconds()
	return &groups{
		request: r, now: q.Now().UnixMilli(), steps: int((sel.End-r.Start)/step) + 1, first: r.Start, step: step,
		by: map[string]*group{}, hold: h,
	}
}

// pointsIn adds the values of a selection to groups. There is memory for all of them
// before anything is read.
func (q *Engine) pointsIn(ctx context.Context, sel Selection, gs *groups) error {
	h, r := gs.hold, gs.request
	jobs, err := q.planWith(ctx, sel, &planner{hold: h, names: r.GroupBy})
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
	if err := h.Expect(q.expectPoints(jobs, gs)); err != nil {
		return err
	}
	if !sel.Type.Cumulative() {
		return q.statePoints(ctx, jobs, sel, gs)
	}
	return q.Run(ctx, h, jobs, func(j *Job, s *JobReader) error {
		if r.selective() {
			return q.stackPoints(j, s, sel, gs)
		}
		return q.points(j, s, sel, func(st *JobStream) func(rowcodec.PointValues) {
			return func(v rowcodec.PointValues) { gs.addAll(st.group, v) }
		})
	})
}

// points hands out the times and the totals of a job's profiles, which need no
// samples. to is asked at least once for each stream; what it returns does not
// keep the slices.
//
// Profiles that cover a part of the selection are among them, also if they began
// before it.
func (q *Engine) points(j *Job, s *JobReader, sel Selection, to func(*JobStream) func(rowcodec.PointValues)) error {
	lo, hi := sel.Times(j.Epoch)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	p, list := &b.row, &b.list
	single := b.single.Empty() // profiles of last that add has not got yet
	defer func() { b.single = single }()
	var last *JobStream
	var add func(rowcodec.PointValues)
	flush := func() {
		if len(single.Times) > 0 {
			add(single)
		}
		single = single.Empty()
	}
	err := s.Each(j, layout.KindPoints, lo, hi, func(st *JobStream, w scan.Window) error {
		if st != last {
			flush()
			last, add = st, to(st)
		}
		if w.Level == layout.LevelFine {
			if err := p.DecodeHead(&bitpack.Decoder{Data: w.Value}); err != nil {
				return err
			}
			v, err := p.Total(w.Level, st.SampleType)
			if err != nil {
				return err
			}
			if single.Add(w.End, v, s.coversOf(p)); len(single.Times) == 1024 {
				flush()
			}
			return nil
		}
		if err := list.Decode(w.Value, w.End-layout.WindowMs[w.Level], st.SampleType); err != nil {
			return err
		}
		add(list.Within(lo-s.Longest, hi))
		return nil
	})
	flush()
	return err
}

// coversOf is what a profile's row covers, as PointList.Covers. Rows of format 2 were
// not cut, and count at their time.
func (s *JobReader) coversOf(p *rowcodec.PackedRow) uint64 {
	if s.Longest == 0 {
		return 0
	}
	return p.Covers()
}

// stackPoints adds the values of a job's profiles at a call site, or of a function.
func (q *Engine) stackPoints(j *Job, s *JobReader, sel Selection, groups *groups) error {
	part, err := s.dictionary(j.partition)
	if err != nil {
		return err
	}
	defer part.Release()
	v, _, err := q.named(s.hold, part.Value.View())
	if err != nil {
		return err
	}
	in := groups.request.within(&v)
	lo, hi := sel.Times(j.Epoch)
	var p rowcodec.PackedRow
	var tmp rowcodec.Scratch
	for _, st := range j.Streams {
		g := st.group
		from, to := s.Within(st.span, lo, hi)
		err := s.Stream(layout.KindRow, layout.LevelFine, st.ID, from, to, func(w scan.Window) error {
			if err := p.Decode(w.Value); err != nil {
				return err
			}
			if _, err := p.Total(w.Level, st.SampleType); err != nil {
				return err
			}
			sum, err := p.SumOf(st.SampleType, len(v.Nodes), &tmp, in)
			if err != nil {
				return err
			}
			if w.Level == layout.LevelFine {
				groups.add(g, w.End, sum, s.coversOf(&p), 1)
			} else {
				groups.add(g, w.End, sum, 0, uint32(p.Profiles))
			}
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
	now     int64 // ms

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
		if err := gs.hold.Take(int64(gs.steps)*StepBytes + int64(len(b))*2 + groupBytes); err != nil {
			return err
		}
		st.group = gs.newGroup(ls)
		gs.by[string(b)] = st.group
	}
	return nil
}

func (gs *groups) newGroup(ls labels.Labels) *group {
	return &group{labels: ls, sums: make([]float64, gs.steps), counts: make([]uint32, gs.steps), stop: gs.first}
}

// groupBytes is what a group takes beside its steps and labels.
const groupBytes = int64(unsafe.Sizeof(group{})) + 64

// stepOf numbers the step (t-step, t] that a time falls into.
func (gs *groups) stepOf(t int64) int {
	t += gs.step - 1 - gs.first
	if t < 0 {
		return -1
	}
	return int(t / gs.step)
}

// add adds the value of n profiles, which cover what covers says.
func (gs *groups) add(g *group, t, v int64, covers uint64, n uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gs.put(g, t, v, covers, n)
}

func (gs *groups) put(g *group, t, v int64, covers uint64, n uint32) {
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
func (g *group) seek(gs *groups, t int64) {
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

func (gs *groups) addAll(g *group, v rowcodec.PointValues) {
	g.mu.Lock()
	defer g.mu.Unlock()
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

func (gs *groups) result() []Series {
	type sum struct {
		Series
		sum float64
	}
	var all []sum
	for _, g := range gs.by {
		s := sum{Series: Series{Labels: g.labels, Until: g.until}}
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
