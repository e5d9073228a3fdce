package query

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// values collects what a job has: of profiles by their rows or, where these were
// dropped, by points, or of spans.
func (q *Engine) values(j *Job, s *JobReader, to *valueCollector) error {
	r := to.request
	kind := byte(layout.KindRow)
	if r.BySpan {
		kind = layout.KindSpans
	}
	sum := rowSum{bySpan: r.BySpan, nodes: 1 << 32}
	if len(r.Stack) > 0 {
		part, err := s.dictionary(j.partition)
		if err != nil {
			return err
		}
		defer part.Release()
		v, _, err := q.named(s.hold, part.Value.View())
		if err != nil {
			return err
		}
		sum.nodes, sum.in = len(v.Nodes), v.Within(v.CallOf, r.Stack)
	}
	list := valueList{to: to}
	err := s.eachProfile(j, kind, &r.Selection, func(st *JobStream, w scan.Window) error {
		if err := sum.read(st.SampleType, w.Value); err != nil {
			return err
		}
		if !r.BySpan {
			return list.add(st, Value{Time: w.End, Value: sum.total, id: w.ID, part: sum.row.Parts > 0})
		}
		for i, v := range sum.totals {
			if t := &sum.spans.Tags[i]; t.Span != 0 {
				if err := list.add(st, Value{Time: w.End, Value: v, id: uint64(t.Span), trace: t.Trace}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	before := r.Selection
	before.End = min(before.End, s.Dropped[layout.LevelFine])
	if !r.BySpan && len(r.Stack) == 0 && before.Start <= before.End {
		var failed error
		err := q.points(j, s, before, func(st *JobStream) func(rowcodec.PointValues) {
			return func(v rowcodec.PointValues) {
				for i, t := range v.Times {
					if failed == nil && before.Start <= t && t <= before.End {
						failed = list.add(st, Value{Time: t, Value: v.Values[i]})
					}
				}
			}
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	return list.flush()
}

// A rowSum reads the total of a row, or of each tag of spans.
type rowSum struct {
	bySpan bool
	nodes  int                    // how many there are
	in     func(node uint32) bool // those that count; nil for all

	total  int64
	totals []int64 // of Spans.Tags
	spans  rowcodec.PackedSpans
	row    rowcodec.PackedRow
	tmp    rowcodec.Scratch
}

func (s *rowSum) read(sampleType int, value []byte) error {
	s.total = 0
	switch {
	case s.bySpan:
		return s.readSpans(sampleType, value)
	case s.in != nil:
		return s.readNodes(sampleType, value)
	}
	if err := s.row.DecodeHead(&bitpack.Decoder{Data: value}); err != nil {
		return err
	}
	var err error
	s.total, err = s.row.Total(layout.LevelFine, sampleType)
	return err
}

func (s *rowSum) readSpans(sampleType int, value []byte) error {
	if err := s.spans.Decode(value); err != nil {
		return err
	}
	s.totals = reuse.Zeroed(s.totals, len(s.spans.Tags))
	i := 0
	return s.spans.Each(sampleType, s.nodes, &s.tmp, func(t *rowcodec.Tag, node uint32, v int64) {
		for t != &s.spans.Tags[i] {
			i++
		}
		if s.in == nil || s.in(node) {
			s.totals[i] += v
		}
	})
}

func (s *rowSum) readNodes(sampleType int, value []byte) error {
	if err := s.row.Decode(value); err != nil {
		return err
	}
	_, err := s.row.Total(layout.LevelFine, sampleType)
	if err != nil {
		return err
	}
	s.total, err = s.row.SumOf(sampleType, s.nodes, &s.tmp, s.in)
	return err
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
