package store

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// What the points of functions take until they are sent stays counted, with their encoding
// as in TestAnswersAreCounted, for each function.
func TestFunctionPointsAreCounted(t *testing.T) {
	const functions, pods, steps = query.MaxFunctions, 5, 200
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes = 64 << 20 })
	var names, stacks []string
	for i := range functions {
		names = append(names, fmt.Sprint("f", i))
		stacks = append(stacks, fmt.Sprintf("main;f%d 1", i))
	}
	var ps []profile.Profile
	for pod := range pods {
		for step := range steps {
			ps = append(ps, cpu(folded(midnight.Add(time.Duration(step)*time.Minute), stacks...), labelindex.LabelServiceName, "app", "pod", fmt.Sprint(pod)))
		}
	}
	require.NoError(t, db.Append(t.Context(), ps))
	r := query.SeriesRequest{Selection: everything(), Step: time.Minute, GroupBy: []string{"pod"}}
	r.Start, r.End = ms(midnight), ms(midnight.Add((steps-1)*time.Minute))
	held := func(ask func(*testing.T, func(...[]query.Series))) (points, used int64) {
		ask(t, func(lists ...[]query.Series) {
			for _, list := range lists {
				for _, s := range list {
					points += int64(len(s.Points))
				}
			}
		})
		used, _, _ = db.queries.Memory.State()
		return points, used
	}
	ctx, done := budget.Holding(t.Context())
	defer done()
	points, used := held(func(t *testing.T, count func(...[]query.Series)) {
		series, err := db.Points(ctx, r)
		require.NoError(t, err)
		count(series)
	})
	require.EqualValues(t, pods*steps, points)
	each := used / points
	done()
	ctx, done = budget.Holding(t.Context())
	defer done()
	points, used = held(func(t *testing.T, count func(...[]query.Series)) {
		series, err := db.FunctionPoints(ctx, r, names)
		require.NoError(t, err)
		count(series...)
	})
	require.EqualValues(t, functions*pods*steps, points)
	require.GreaterOrEqual(t, used, points*each)
	done()
	requireIdle(t, db)
}

// Queries of functions that need more memory than there is are refused before they take it,
// and give back what they had; others that fit take turns.
func TestFunctionQueriesAreRefused(t *testing.T) {
	const most = 4 << 20
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes, o.Concurrency = most, 2 })
	var large, names []string
	for i := range 40000 {
		large = append(large, fmt.Sprintf("main;a%d;b%d;c%d 1", i%50, i%700, i))
	}
	for i := range query.MaxFunctions {
		names = append(names, fmt.Sprint("b", i))
	}
	ps := []profile.Profile{cpu(folded(midnight.Add(time.Minute), large...), labelindex.LabelServiceName, "large")}
	for i := range 300 {
		ps = append(ps, cpu(folded(midnight.Add(time.Minute), "main;b1 1"), labelindex.LabelServiceName, "small", "pod", fmt.Sprint(i)))
	}
	require.NoError(t, db.Append(t.Context(), ps))
	r := query.SeriesRequest{Step: time.Minute}
	refused := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, storeerr.ErrLimit)
		_, peak, _ := db.queries.Memory.State()
		require.LessOrEqual(t, peak, int64(most))
		requireIdle(t, db)
	}
	// 300 pods x 64 functions x 1440 steps.
	r.Selection, r.GroupBy = everything(`{service_name="small"}`), []string{"pod"}
	r.Start, r.End = ms(midnight), ms(midnight.Add(24*time.Hour))
	_, err := db.FunctionPoints(t.Context(), r, names)
	refused(err)
	// The dictionary.
	_, err = db.Functions(t.Context(), []query.Selection{everything(`{service_name="large"}`)}, make([][]string, 1), nil)
	refused(err)
	r.Selection, r.GroupBy = everything(`{service_name="large"}`), nil
	r.Start, r.End = ms(midnight), ms(midnight.Add(time.Hour))
	db.queries.Memory.Grow(most - 256<<10)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // others have the rest
	_, err = db.FunctionPoints(ctx, r, names)
	cancel()
	require.ErrorIs(t, err, storeerr.ErrLimit)
	db.queries.Memory.Free(most - 256<<10)
	requireIdle(t, db)

	// In the future, and at the ends of time.
	for _, at := range [][2]int64{{ms(midnight.Add(1000 * 24 * time.Hour)), ms(midnight.Add(1001 * 24 * time.Hour))}, {math.MaxInt64 - 1000, math.MaxInt64}, {math.MinInt64, 0}} {
		r.Start, r.End = at[0], at[1]
		series, err := db.FunctionPoints(t.Context(), r, names)
		require.NoError(t, err, at)
		for _, list := range series {
			require.Empty(t, list)
		}
	}

	var panels sync.WaitGroup
	r.Selection, r.GroupBy = everything(`{service_name="small"}`), []string{"pod", "", "none", "{}", "pod"}
	r.Start, r.End = ms(midnight), ms(midnight.Add(10*time.Minute))
	for range 8 {
		panels.Go(func() {
			for range 3 {
				ctx, done := budget.Holding(t.Context())
				series, err := db.FunctionPoints(ctx, r, []string{"b1", "main", "b1", "nobody"})
				done()
				if err != nil || len(series) != 4 || len(series[0]) != 300 || len(series[3]) != 0 {
					t.Errorf("%d: %v", len(series), err)
				}
			}
		})
	}
	panels.Wait()
	requireIdle(t, db)
}
