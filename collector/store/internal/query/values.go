package query

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// maxValues bounds what Values hands out.
const maxValues = 4 << 20

// A ValuesRequest asks for profiles, or for the spans within them, one by one.
type ValuesRequest struct {
	Selection
	// GroupBy are the names of the labels that the result is grouped by.
	GroupBy []string
	// BySpan asks for spans in place of profiles.
	BySpan bool
	// Exemplars says that Exemplar is going to be asked, which takes labels.
	Exemplars bool
	// Stack counts only the stacktraces that begin with this call site. It leaves
	// out profiles whose rows were dropped.
	Stack []string
}

// Values are those of one group, in order of time and then of IDs. None is 0.
type Values struct {
	Labels labels.Labels
	Values []Value

	by     []string
	bySpan bool
	sets   []labels.Labels
}

// A Value is the total of a profile, of all its series that are in the group, or
// of one of its spans. Where the rows of single profiles were dropped, it is of
// one series, and there are no spans.
type Value struct {
	Time  int64 // of the profile, ms
	Value int64

	id    uint64 // of the profile or the span, 0 if it is not known
	trace rowcodec.TraceID
	set   int  // in sets: the labels
	part  bool // it goes on with a profile that began in an earlier slot
}

// Identified reports whether the profile, or the span, is known.
func (v *Value) Identified() bool { return v.id != 0 }

// An Exemplar is a profile, or a span of one, as an example of a group.
type Exemplar struct {
	Time    int64 // of the profile, ms
	Value   int64
	Profile ProfileID        // of a profile
	Span    rowcodec.SpanID  // of a span
	Trace   rowcodec.TraceID // of a span, if it has one
	// Labels are those that all its series have, without the group's.
	Labels labels.Labels
}

// ValueBytes is the memory of a value.
const ValueBytes = int64(unsafe.Sizeof(Value{}))

// Values returns what every profile that is selected has, or every span of one,
// by group, in the order of the groups' labels. Too many give ErrLimit.
func (q *Queries) Values(ctx context.Context, r ValuesRequest) (out []Values, err error) {
	if r.Start = max(r.Start, 0); r.Start > r.End {
		return nil, nil
	}
	err = q.e.within(ctx, "values", func(h *budget.Reservation) error {
		out, err = q.e.valuesIn(ctx, h, &r)
		return err
	})
	return out, err
}

// valuesIn is Values with memory of the hold.
func (q *Engine) valuesIn(ctx context.Context, h *budget.Reservation, r *ValuesRequest) ([]Values, error) {
	jobs, err := q.planWith(ctx, r.Selection, &planner{hold: h, names: r.GroupBy, all: r.Exemplars})
	if err != nil {
		return nil, err
	}
	c := valueCollector{request: r, by: map[string]*Values{}, hold: h}
	err = q.Run(ctx, h, jobs, c.addJob)
	if err != nil {
		return nil, err
	}
	out := make([]Values, 0, len(c.by))
	for _, key := range slices.Sorted(maps.Keys(c.by)) {
		v := c.by[key]
		if err := v.join(); err != nil {
			return nil, err
		}
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b Values) int { return labels.Compare(a.Labels, b.Labels) })
	h.Keep(int64(c.count) * ValueBytes)
	return out, nil
}

// join adds up what belongs together: of the same profile, or of the same span at
// the same time.
func (vs *Values) join() error {
	vs.dateParts()
	slices.SortFunc(vs.Values, func(a, b Value) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.id, b.id), bytes.Compare(a.trace[:], b.trace[:]), cmp.Compare(a.Value, b.Value))
	})
	common := map[[2]int]int{}
	n := 0
	for _, v := range vs.Values {
		if n > 0 {
			if last := &vs.Values[n-1]; v.id != 0 && last.Time == v.Time && last.id == v.id && last.trace == v.trace {
				if last.Value = bitpack.AddTotals(last.Value, v.Value); last.Value == bitpack.Overflowed {
					return storeerr.ErrOverflow
				}
				last.set = vs.common(last.set, v.set, common)
				continue
			}
		}
		vs.Values[n] = v
		n++
	}
	vs.Values = vs.Values[:n]
	return nil
}

// dateParts gives the parts of a profile the time at which it began, if that is known.
func (vs *Values) dateParts() {
	if vs.bySpan || !slices.ContainsFunc(vs.Values, func(v Value) bool { return v.part }) {
		return
	}
	began := map[uint64]int64{}
	for _, v := range vs.Values {
		if !v.part && v.id != 0 {
			began[v.id] = v.Time
		}
	}
	for i := range vs.Values {
		if v := &vs.Values[i]; v.part {
			if t, ok := began[v.id]; ok && t < v.Time {
				v.Time = t
			}
		}
	}
}

// common finds the set of the labels that two sets share. known has what was
// found before.
func (vs *Values) common(a, b int, known map[[2]int]int) int {
	if a == b || len(vs.sets) == 0 {
		return a
	}
	key := [2]int{min(a, b), max(a, b)}
	i, ok := known[key]
	if !ok {
		i = len(vs.sets)
		known[key] = i
		common := labels.NewBuilder(vs.sets[a])
		vs.sets[a].Range(func(l labels.Label) {
			if vs.sets[b].Get(l.Name) != l.Value {
				common.Del(l.Name)
			}
		})
		vs.sets = append(vs.sets, common.Labels())
	}
	return i
}

// Exemplar returns a value as an exemplar.
func (vs *Values) Exemplar(v *Value) Exemplar {
	e := Exemplar{Time: v.Time, Value: v.Value, Profile: ProfileID(v.id)}
	if vs.bySpan {
		e.Profile, e.Span, e.Trace = 0, rowcodec.SpanID(v.id), v.trace
	}
	if len(vs.sets) > 0 {
		e.Labels = labels.NewBuilder(vs.sets[v.set]).Del(vs.by...).Labels()
	}
	return e
}
