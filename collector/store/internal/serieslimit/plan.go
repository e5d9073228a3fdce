package serieslimit

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// planReduction chooses the labels of reduced label sets, once the service of a stream has
// reached the limit: all but those with the most values, of which as many are left out as
// it takes for the label sets of the hour to be few without them. Labels that come later
// are not among them. The caller holds the lock.
func (l *Limit) planReduction(c *serviceSeries, t int64, def *labelindex.Definition, others iter.Seq2[int64, *labelindex.Definition]) error {
	id, hour, service := layout.EpochOf(t), layout.HourOf(t), def.Labels.Get(labelindex.LabelServiceName)
	var sets []labels.Labels
	err := l.epochs.EachStreamOf(id, hour, service, func(d *labelindex.Definition) {
		if !d.Labels.Has(labelReduced) {
			sets = append(sets, d.Labels)
		}
	})
	if err != nil {
		return err
	}
	for t, o := range others {
		if layout.EpochOf(t) == id && layout.HourOf(t) == hour && o.Labels.Get(labelindex.LabelServiceName) == service {
			sets = append(sets, o.Labels)
		}
	}
	counts := countValues(append(sets, def.Labels))
	c.keep = keptLabels(counts, sets, l.share())
	r := Reduction{
		Service: strings.Clone(service),
		Hour:    time.UnixMilli(layout.EpochStart(id) + int64(hour)*layout.HourMs).UTC(),
		Series:  len(c.seen),
		Labels:  counts[:min(len(counts), maxReductionLabels)],
	}
	l.log.Warn("a service has too many series in an hour; profiles of further ones are stored with fewer labels (limits.max_series_per_service_hour)",
		"service", r.Service, "hour", r.Hour, "series", r.Series, "labels_by_values", r.Labels)
	if l.reductions = append(l.reductions, r); len(l.reductions) > maxReductions {
		l.reductions = slices.Delete(l.reductions, 0, 1)
	}
	return nil
}

// countValues counts the values of each label but __name__ and the service's, those
// with the most first.
func countValues(sets []labels.Labels) []LabelCount {
	values := map[string]map[uint64]struct{}{}
	for _, ls := range sets {
		ls.Range(func(l labels.Label) {
			if l.Name == labelindex.LabelName || l.Name == labelindex.LabelServiceName || l.Name == labelReduced || labelindex.IsCapture(l) {
				return
			}
			of := values[l.Name]
			if of == nil {
				of = map[uint64]struct{}{}
				values[l.Name] = of
			}
			of[xxhash.Sum64String(l.Value)] = struct{}{}
		})
	}
	out := make([]LabelCount, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, LabelCount{strings.Clone(name), len(values[name])})
	}
	slices.SortStableFunc(out, func(a, b LabelCount) int { return cmp.Compare(b.Values, a.Values) })
	return out
}

// keptLabels are the labels that make no more than most label sets together. Of the
// others, which have the most values, there are 1, 2, 4, 8 and so on.
func keptLabels(counts []LabelCount, sets []labels.Labels, most int) map[string]bool {
	for dropped := 1; dropped < len(counts); dropped *= 2 {
		keep, names := map[string]bool{}, []string{labelindex.LabelName}
		for _, c := range counts[dropped:] {
			keep[c.Name] = true
			names = append(names, c.Name)
		}
		slices.Sort(names)
		seen := map[uint64]struct{}{}
		var b []byte
		for i := 0; i < len(sets) && len(seen) <= most; i++ {
			var hash uint64
			hash, b = sets[i].HashForLabels(b, names...)
			seen[hash] = struct{}{}
		}
		if len(seen) <= most {
			return keep
		}
	}
	return map[string]bool{}
}
