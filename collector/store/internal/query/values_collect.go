package query

import (
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A valueCollector puts values into groups. It is safe for concurrent use.
type valueCollector struct {
	request *ValuesRequest

	mu    sync.Mutex
	by    map[string]*Values
	count int
	hold  *budget.Reservation
}

// addJob collects what a job has: of profiles by their rows or, where these were dropped,
// by points, or of spans.
func (c *valueCollector) addJob(j *Job, s *JobReader) error {
	r := c.request
	a := valueAdder{to: c}
	err := s.openStacks(j, r.Stack, nil, false, func(stacks *stackSums) error {
		if r.BySpan {
			return a.addSpans(j, s, stacks)
		}
		return s.eachProfile(j, layout.KindRow, &r.Selection, func(st *JobStream, w scan.Window) error {
			values, err := stacks.read(w, st.SampleType)
			if err != nil {
				return err
			}
			return a.add(st, Value{Time: w.End, Value: values[0], id: w.ID, part: stacks.row.Parts > 0})
		})
	})
	before := r.Selection
	before.End = min(before.End, s.Dropped[layout.LevelFine])
	if err != nil {
		return err
	}
	if r.BySpan || len(r.Stack) > 0 || before.Start > before.End {
		return a.flush()
	}
	err = s.points(j, before, func(st *JobStream, v rowcodec.PointValues) error {
		for i, t := range v.Times {
			if before.Start <= t && t <= before.End {
				if err := a.add(st, Value{Time: t, Value: v.Values[i]}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.flush()
}

// A valueAdder gathers values of one stream at a time for a collector.
type valueAdder struct {
	to   *valueCollector
	of   *JobStream
	list []Value
}

// flushValues is how many values an adder gathers at most.
const flushValues = 1024

// addSpans adds the totals of the spans of a job's profiles, or what they have in some
// stacktraces.
func (a *valueAdder) addSpans(j *Job, s *JobReader, stacks *stackSums) error {
	var spans rowcodec.PackedSpans
	totals := map[rowcodec.Tag]int64{}
	return s.eachProfile(j, layout.KindSpans, &a.to.request.Selection, func(st *JobStream, w scan.Window) error {
		if err := spans.Decode(w.Value); err != nil {
			return err
		}
		clear(totals)
		err := spans.Each(st.SampleType, stacks.limit(), &stacks.tmp, func(t *rowcodec.Tag, node uint32, v int64) {
			if t.Span != 0 && stacks.has(node) {
				totals[*t] += v
			}
		})
		if err != nil {
			return err
		}
		for t, v := range totals {
			if err := a.add(st, Value{Time: w.End, Value: v, id: uint64(t.Span), trace: t.Trace}); err != nil {
				return err
			}
		}
		return nil
	})
}

// add adds a value of a stream, unless it is 0.
func (a *valueAdder) add(of *JobStream, v Value) error {
	if v.Value == 0 {
		return nil
	}
	if of != a.of || len(a.list) >= flushValues {
		if err := a.flush(); err != nil {
			return err
		}
		a.of = of
	}
	a.list = append(a.list, v)
	return nil
}

// flush hands on what was gathered.
func (a *valueAdder) flush() error {
	n := len(a.list)
	if n == 0 {
		return nil
	}
	c := a.to
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count += n; c.count > maxValues {
		return fmt.Errorf("%w: more than %d profiles or spans; choose a shorter range", storeerr.ErrLimit, maxValues)
	}
	group, set := c.find(a.of.labels)
	if err := c.room(group, n); err != nil {
		return err
	}
	for i := range a.list {
		a.list[i].set = set
	}
	group.Values = append(group.Values, a.list...)
	a.list = a.list[:0]
	return nil
}

// find returns the group of a stream's labels, and the number of the labels in it.
func (c *valueCollector) find(ls labels.Labels) (vs *Values, set int) {
	group := groupOf(ls, c.request.GroupBy)
	key := string(group.Bytes(nil))
	if vs = c.by[key]; vs == nil {
		vs = &Values{Labels: group, by: c.request.GroupBy, bySpan: c.request.BySpan}
		c.by[key] = vs
	}
	if !c.request.Exemplars {
		return vs, 0
	}
	if n := len(vs.sets); n == 0 || !labels.Equal(vs.sets[n-1], ls) {
		vs.sets = append(vs.sets, ls)
	}
	return vs, len(vs.sets) - 1
}

// room makes room for n values more. While they are copied there is memory for both.
func (c *valueCollector) room(vs *Values, n int) error {
	had := cap(vs.Values)
	if len(vs.Values)+n <= had {
		return nil
	}
	grown := max(len(vs.Values)+n, had+had/4+16)
	if err := c.hold.Take(int64(grown) * ValueBytes); err != nil {
		return err
	}
	vs.Values = append(make([]Value, 0, grown), vs.Values...)
	c.hold.Give(int64(had) * ValueBytes)
	return nil
}
