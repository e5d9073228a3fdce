package store

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// LabelNames returns the names of all labels of the series that match and have
// profiles in the five-minute windows that overlap a time range, in ms, sorted.
// A range from 0 to 0 is all time; so it is for the other calls about labels.
func (db *DB) LabelNames(ctx context.Context, ms []*labels.Matcher, start, end int64) ([]string, error) {
	seen := map[string]struct{}{}
	err := db.eachIndex(ctx, "label_names", ms, start, end, func(x *index, set seriesSet) {
		for name, values := range x.postings {
			if _, ok := seen[name]; ok {
				continue
			}
			for _, list := range values {
				if set.overlaps(list) {
					seen[name] = struct{}{}
					break
				}
			}
		}
	})
	return sorted(seen), err
}

// LabelValues returns the values of a label, sorted.
func (db *DB) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, start, end int64) ([]string, error) {
	if name == "" {
		return nil, fmt.Errorf("%w: label name: missing", ErrInvalid)
	}
	seen := map[string]struct{}{}
	err := db.eachIndex(ctx, "label_values", ms, start, end, func(x *index, set seriesSet) {
		for value, list := range x.postings[name] {
			if _, ok := seen[value]; !ok && set.overlaps(list) {
				seen[value] = struct{}{}
			}
		}
	})
	return sorted(seen), err
}

// Labels returns the distinct label sets of the series, sorted, reduced to the
// given names if there are any. Series that have none of them are left out.
func (db *DB) Labels(ctx context.Context, names []string, ms []*labels.Matcher, start, end int64) ([]labels.Labels, error) {
	seen := map[string]struct{}{}
	var out []labels.Labels
	err := db.eachIndex(ctx, "labels", ms, start, end, func(x *index, set seriesSet) {
		var b labels.ScratchBuilder
		var key []byte
		set.each(func(i uint32) {
			ls := x.series[i].labels
			if len(names) > 0 {
				b.Reset()
				for _, n := range names {
					if v := ls.Get(n); v != "" {
						b.Add(n, v)
					}
				}
				b.Sort()
				if ls = b.Labels(); ls.IsEmpty() {
					return
				}
			}
			key = ls.Bytes(key)
			if _, ok := seen[string(key)]; !ok {
				seen[string(key)] = struct{}{}
				out = append(out, ls)
			}
		})
	})
	slices.SortFunc(out, labels.Compare)
	return out, err
}

// ProfileTypes returns the profile types that have profiles, sorted by ID.
func (db *DB) ProfileTypes(ctx context.Context, start, end int64) ([]profile.Type, error) {
	ids, err := db.LabelValues(ctx, labelProfileType, nil, start, end)
	var out []profile.Type
	for _, id := range ids {
		// A part with a colon in it makes an ID that means nothing.
		if t, err := profile.ParseType(id); err == nil {
			out = append(out, t)
		}
	}
	return out, err
}

// eachIndex calls fn for the index of every epoch in a range, with the set of
// series that match, under the epoch's lock.
func (db *DB) eachIndex(ctx context.Context, call string, ms []*labels.Matcher, start, end int64, fn func(*index, seriesSet)) (err error) {
	defer func() {
		if db.heal(err) {
			err = db.eachIndex(ctx, call, ms, start, end, fn)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return err
	}
	defer leave()
	defer db.metrics.query(call)()
	if start == 0 && end == 0 {
		end = math.MaxInt64
	}
	for _, id := range db.epochsBetween(start, end) {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := db.epoch(id)
		if err != nil {
			return err
		}
		e.value.mu.RLock()
		fn(&e.value.index, e.value.candidates(ms, start, end))
		e.value.mu.RUnlock()
		e.release()
	}
	return nil
}

func sorted(set map[string]struct{}) []string {
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}
