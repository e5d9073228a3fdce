package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// LabelNames returns the names of all labels of the series that match and have
// profiles in the five-minute windows that overlap a time range, in ms, sorted.
// A range from 0 to 0 is all time; so it is for the other calls about labels.
func (q *Queries) LabelNames(ctx context.Context, ms []*labels.Matcher, start, end int64) ([]string, error) {
	var seen map[string]struct{}
	err := q.e.within(ctx, "label_names", func(h *budget.Reservation) error {
		seen = map[string]struct{}{}
		counted := 0
		return q.e.EachPick(ctx, ms, start, end, func(_ uint32, t *labelindex.HourIndex, p *labelindex.Pick) error {
			err := errors.Join(t.LabelNames(p, seen), h.Take(int64(len(seen)-counted)*nameBytes))
			counted = len(seen)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// nameBytes is what the name of a label takes, of which there are few.
const nameBytes = 128

// LabelValues returns the values of a label, sorted.
func (q *Queries) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, start, end int64) ([]string, error) {
	if name == "" {
		return nil, fmt.Errorf("%w: label name: missing", storeerr.ErrInvalid)
	}
	var out []string
	err := q.e.within(ctx, "label_values", func(h *budget.Reservation) error {
		var lists [][]string
		err := q.e.EachPick(ctx, ms, start, end, func(_ uint32, t *labelindex.HourIndex, p *labelindex.Pick) error {
			values, err := t.LabelValues(p, name)
			if len(values) > 0 {
				lists = append(lists, values)
			}
			return errors.Join(err, h.Take(int64(len(values))*valueHeader))
		})
		if err != nil {
			return err
		}
		out = labelindex.MergeSorted(lists)
		// The answer has the texts, once as they are and once encoded.
		answer := int64(len(out)) * valueHeader
		for _, v := range out {
			answer += 2 * int64(len(v)+4)
		}
		h.Keep(answer)
		return h.Expect(answer)
	})
	return out, err
}

// valueHeader is what a text takes in a list, beside its bytes.
const valueHeader = 16

// Labels returns the distinct label sets of the series, reduced to the given names
// if there are any. Series that have none of them are left out.
func (q *Queries) Labels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64) (sets *labelindex.LabelSets, err error) {
	return sets, q.UseLabels(ctx, names, ms, start, end, func(s *labelindex.LabelSets) error {
		sets = s
		return nil
	})
}

// UseLabels calls use with what Labels returns. It is for answers that are as large
// as all sets written out: there is memory for one until use returns, also if it
// is somewhat more than queries may take together.
func (q *Queries) UseLabels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64, use func(*labelindex.LabelSets) error) error {
	return q.e.labelSets(ctx, names, ms, start, end, func(h *budget.Reservation, sets *labelindex.LabelSets) error {
		const most = 2 // times the memory of all queries
		n := sets.Bytes()
		if n/most > h.Most() {
			return fmt.Errorf("%w: %d label sets are %d bytes, at most twice %d (limits.max_query_bytes); choose labels, a shorter range or fewer series",
				storeerr.ErrLimit, sets.Len(), n, h.Most())
		}
		if err := h.Expect(n); err != nil {
			return err
		}
		h.Keep(n)
		return use(sets)
	})
}

// CountLabels is the number of sets that Labels returns.
func (q *Queries) CountLabels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64) (n int, err error) {
	return n, q.e.labelSets(ctx, names, ms, start, end, func(_ *budget.Reservation, sets *labelindex.LabelSets) error {
		n = sets.Len()
		return nil
	})
}

func (q *Engine) labelSets(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64, use func(*budget.Reservation, *labelindex.LabelSets) error) error {
	return q.within(ctx, "labels", func(h *budget.Reservation) error {
		c := labelindex.SetCollector{Names: names, Hold: h, Streams: labelindex.StreamSet{}}
		if err := q.EachPick(ctx, ms, start, end, c.Add); err != nil {
			return err
		}
		if err := h.Take(c.Bytes() - c.Used); err != nil {
			return err
		}
		return use(h, c.Sets())
	})
}

// ProfileTypes returns the profile types that have profiles, sorted by ID.
func (q *Queries) ProfileTypes(ctx context.Context, start, end int64) ([]profile.Type, error) {
	ids, err := q.LabelValues(ctx, labelindex.LabelProfileType, nil, start, end)
	var out []profile.Type
	for _, id := range ids {
		// A part with a colon in it makes an ID that means nothing.
		if t, err := profile.ParseType(id); err == nil {
			out = append(out, t)
		}
	}
	return out, err
}

// EachPick calls fn for every table of a range, with the series that match.
func (q *Engine) EachPick(ctx context.Context, ms []*labels.Matcher, start, end int64, fn func(epoch uint32, t *labelindex.HourIndex, p *labelindex.Pick) error) error {
	if start == 0 && end == 0 {
		end = math.MaxInt64
	}
	return q.Epochs.EachIndex(ctx, start, end, false, func(epoch uint32, t *labelindex.HourIndex, slots uint16, _ uint8) error {
		p, err := t.Pick(ms, slots)
		if err != nil {
			return err
		}
		return fn(epoch, t, &p)
	})
}
