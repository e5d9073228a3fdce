package query

import (
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// values collects what a job has: of profiles by their rows or, where these were
// dropped, by points, or of spans.
func (c *valueCollector) addJob(j *Job, s *JobReader) error {
	r := c.request
	list := valueList{to: c}
	collect := func(stacks *stackSums) error {
		if r.BySpan {
			return list.addSpans(j, s, stacks)
		}
		return list.addProfiles(j, s, stacks)
	}
	if len(r.Stack) == 0 {
		if err := collect(nil); err != nil {
			return err
		}
	} else if err := s.openStacks(j, r.Stack, nil, false, collect); err != nil {
		return err
	}
	before := r.Selection
	before.End = min(before.End, s.Dropped[layout.LevelFine])
	if !r.BySpan && len(r.Stack) == 0 && before.Start <= before.End {
		err := s.points(j, before, func(st *JobStream, v rowcodec.PointValues) error {
			for i, t := range v.Times {
				if before.Start <= t && t <= before.End {
					if err := list.add(st, Value{Time: t, Value: v.Values[i]}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return list.flush()
}

// addProfiles adds the totals of a job's profiles, or what they have in some stacktraces.
func (l *valueList) addProfiles(j *Job, s *JobReader, stacks *stackSums) error {
	var row rowcodec.PackedRow
	return s.eachProfile(j, layout.KindRow, &l.to.request.Selection, func(st *JobStream, w scan.Window) error {
		if stacks != nil {
			lines, err := stacks.read(w, st.SampleType)
			if err != nil {
				return err
			}
			return l.add(st, Value{Time: w.End, Value: lines[0], id: w.ID, part: stacks.row.Parts > 0})
		}
		if err := row.DecodeHead(&bitpack.Decoder{Data: w.Value}); err != nil {
			return err
		}
		total, err := row.Total(layout.LevelFine, st.SampleType)
		if err != nil {
			return err
		}
		return l.add(st, Value{Time: w.End, Value: total, id: w.ID, part: row.Parts > 0})
	})
}

// addSpans adds the totals of the spans of a job's profiles, or what they have in some
// stacktraces.
func (l *valueList) addSpans(j *Job, s *JobReader, stacks *stackSums) error {
	var spans rowcodec.PackedSpans
	var tmp rowcodec.Scratch
	limit := 1 << 32
	if stacks != nil {
		limit = stacks.Limit()
	}
	totals := map[rowcodec.Tag]int64{}
	return s.eachProfile(j, layout.KindSpans, &l.to.request.Selection, func(st *JobStream, w scan.Window) error {
		if err := spans.Decode(w.Value); err != nil {
			return err
		}
		clear(totals)
		err := spans.Each(st.SampleType, limit, &tmp, func(t *rowcodec.Tag, node uint32, v int64) {
			if t.Span != 0 && (stacks == nil || stacks.Place[node] != 0) {
				totals[*t] += v
			}
		})
		if err != nil {
			return err
		}
		for t, v := range totals {
			if err := l.add(st, Value{Time: w.End, Value: v, id: uint64(t.Span), trace: t.Trace}); err != nil {
				return err
			}
		}
		return nil
	})
}

// A valueCollector puts values into groups. It is safe for concurrent use.
type valueCollector struct {
	request *ValuesRequest

	mu    sync.Mutex
	by    map[string]*Values
	count int
	hold  *budget.Reservation
}

// A valueList gathers values of one series at a time for a collector.
type valueList struct {
	to   *valueCollector
	of   *JobStream
	list []Value
}

// flushValues is how many values of a series a list gathers at most.
const flushValues = 1024

// add adds a value of a series, unless it is 0.
func (l *valueList) add(of *JobStream, v Value) error {
	if v.Value == 0 {
		return nil
	}
	if of != l.of || len(l.list) >= flushValues {
		if err := l.flush(); err != nil {
			return err
		}
		l.of = of
	}
	l.list = append(l.list, v)
	return nil
}

// flush hands on what the list has.
func (l *valueList) flush() error {
	n := len(l.list)
	if n == 0 {
		return nil
	}
	c := l.to
	group := groupOf(l.of.labels, c.request.GroupBy)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count += n; c.count > maxValues {
		return fmt.Errorf("%w: more than %d profiles or spans; choose a shorter range", storeerr.ErrLimit, maxValues)
	}
	key := string(group.Bytes(nil))
	vs := c.by[key]
	if vs == nil {
		vs = &Values{Labels: group, by: c.request.GroupBy, bySpan: c.request.BySpan}
		c.by[key] = vs
	}
	if err := c.room(vs, n); err != nil {
		return err
	}
	set := 0
	if c.request.Exemplars {
		if n := len(vs.sets); n == 0 || !labels.Equal(vs.sets[n-1], l.of.labels) {
			vs.sets = append(vs.sets, l.of.labels)
		}
		set = len(vs.sets) - 1
	}
	for i := range l.list {
		l.list[i].set = set
	}
	vs.Values = append(vs.Values, l.list...)
	l.list = l.list[:0]
	return nil
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
