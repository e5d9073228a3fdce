package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
)

// maxValues bounds the profiles that Values hands out, 16 bytes each.
const maxValues = 4 << 20

// Values returns the time and the total of every profile that is selected: one
// Series for each group of groupBy's labels, in the order of their labels, with
// a Point per profile in order of time. Too many profiles give ErrLimit.
func (db *DB) Values(ctx context.Context, sel Selection, groupBy []string) (out []Series, err error) {
	defer func() {
		if db.heal(err) {
			out, err = db.Values(ctx, sel, groupBy)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("values")()
	if sel.Start = max(sel.Start, 0); sel.Start > sel.End {
		return nil, nil
	}
	jobs, err := db.planBy(ctx, sel, groupBy)
	if err != nil {
		return nil, err
	}
	var (
		mu    sync.Mutex
		by    = map[string]*Series{}
		count int
	)
	err = db.run(ctx, jobs, func(j *job, s *scanner) error {
		return db.points(j, s, sel, func(series labels.Labels) func([]int64, []int64) {
			group := groupOf(series, groupBy)
			key := string(group.Bytes(nil))
			return func(times, values []int64) {
				mu.Lock()
				defer mu.Unlock()
				for i, t := range times {
					if t < sel.Start || t > sel.End {
						continue
					}
					if count++; count > maxValues {
						return
					}
					if by[key] == nil {
						by[key] = &Series{Labels: group}
					}
					by[key].Points = append(by[key].Points, Point{t, float64(values[i])})
				}
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if count > maxValues {
		return nil, fmt.Errorf("%w: more than %d profiles; choose a shorter range", ErrLimit, maxValues)
	}
	out = make([]Series, 0, len(by))
	for _, s := range by {
		slices.SortStableFunc(s.Points, func(a, b Point) int { return cmp.Compare(a.Time, b.Time) })
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
	return out, nil
}
