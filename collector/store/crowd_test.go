package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// What an answer takes stays counted until its request has ended, and is none that other
// calls of the request wait for.
func TestAnswersAreCounted(t *testing.T) {
	db := crowded(t, 16<<20)
	ctx, done := budget.Holding(t.Context())
	sel := everything()
	r := query.SeriesRequest{Selection: sel, Step: time.Minute, GroupBy: []string{"pod"}}
	series, err := db.Points(ctx, r)
	require.NoError(t, err)
	points := 0
	for _, s := range series {
		points += len(s.Points)
	}
	used, _, _ := db.queries.Memory.State()
	require.GreaterOrEqual(t, used, int64(points)*query.PointBytes)
	_, err = db.Values(ctx, query.ValuesRequest{Selection: sel, GroupBy: []string{"pod"}})
	require.NoError(t, err)
	more, _, _ := db.queries.Memory.State()
	require.Greater(t, more, used)
	_, err = db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	done()
	requireIdle(t, db)
	// Without, they are the caller's.
	_, err = db.Points(t.Context(), r)
	require.NoError(t, err)
	requireIdle(t, db)
}

// crowded is a store of services with large trees and of many pods, with CPU time and
// memory in use, over two hours.
func crowded(t *testing.T, queryBytes int64) *DB {
	t.Helper()
	ctx := context.Background()
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes, o.Concurrency = queryBytes, 2 })
	r := rand.New(rand.NewPCG(1, 2))
	for service := range 4 {
		for pod := range 5 {
			for minute := range 12 {
				at := midnight.Add(time.Duration(minute*10)*time.Minute + time.Duration(pod+1)*time.Second)
				var stacks []string
				for range 60 {
					stacks = append(stacks, fmt.Sprintf("main;a%d;b%d;c%d %d", r.IntN(20), r.IntN(50), r.IntN(300), 1+r.IntN(9)))
				}
				ls := []string{labelindex.LabelServiceName, fmt.Sprint("s", service), "pod", fmt.Sprintf("s%d-%d", service, pod)}
				p := folded(at, stacks...)
				p.DurationNanos = int64(10 * time.Second)
				require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, ls...)}))
				states := stateStore{t, db}
				for n := range 5 {
					states.heap(at.Sub(midnight)+time.Duration(n)*time.Minute, time.Minute, fmt.Sprintf("s%d-%d", service, pod), fmt.Sprint("f", r.IntN(50)), 100, "")
				}
			}
		}
	}
	require.NoError(t, db.maintain(ctx, 0))
	return db
}

// A dashboard of 30 panels that 10 people open at once: every query is answered, or
// refused with the reason, what is counted keeps to the budget, and the process to a
// multiple of it.
func TestACrowdIsAnswered(t *testing.T) {
	if !alone(t) {
		return
	}
	const budgetLocal = 3 << 20
	db := crowded(t, budgetLocal)
	sel := everything()
	sel.Start, sel.End = ms(midnight), ms(midnight.Add(2*time.Hour))
	one := sel
	one.Matchers = everything(`{service_name="s1"}`).Matchers
	states := sel
	states.Type = inuseType
	cut := sel
	cut.MaxNodes, cut.Functions = 500, true
	queries := []func(context.Context) error{
		func(ctx context.Context) error { _, err := db.Tree(ctx, sel, nil); return err },
		func(ctx context.Context) error { _, err := db.Tree(ctx, cut, nil); return err },
		func(ctx context.Context) error { _, err := db.Tree(ctx, states, nil); return err },
		func(ctx context.Context) error {
			_, err := db.Diff(ctx, [2]query.Selection{one, sel}, [2][]string{}, 1000)
			return err
		},
		func(ctx context.Context) error { _, err := db.Pprof(ctx, sel, nil); return err },
		func(ctx context.Context) error {
			// 20 series of 1201 points: 0.7 MB of work, and 2.3 MB with the answer.
			_, err := db.Points(ctx, query.SeriesRequest{Selection: sel, Step: 6 * time.Second, GroupBy: []string{"pod"}})
			return err
		},
		func(ctx context.Context) error {
			_, err := db.Points(ctx, query.SeriesRequest{Selection: states, Step: 12 * time.Second, GroupBy: []string{"pod"}})
			return err
		},
		func(ctx context.Context) error {
			_, err := db.Values(ctx, query.ValuesRequest{Selection: sel, GroupBy: []string{labelindex.LabelServiceName}, Exemplars: true})
			return err
		},
		func(ctx context.Context) error {
			return db.UseLabels(ctx, nil, nil, 0, 0, func(*labelindex.LabelSets) error { return nil })
		},
		func(ctx context.Context) error { _, err := db.LabelValues(ctx, "pod", nil, 0, 0); return err },
	}
	for i, query := range queries { // each alone
		require.NoError(t, query(t.Context()), "query %d", i)
		requireIdle(t, db)
	}
	before := storetest.HeapInUse()
	most := watchHeap()
	var answered, refused atomic.Int64
	var g sync.WaitGroup
	for i := range 300 {
		g.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ctx, done := budget.Holding(ctx)
			defer done()
			switch err := queries[i%len(queries)](ctx); {
			case err == nil:
				answered.Add(1)
			case errors.Is(err, storeerr.ErrLimit):
				refused.Add(1)
			default:
				t.Errorf("query %d: %s", i%len(queries), err)
			}
		})
	}
	g.Wait()
	requireIdle(t, db)
	_, peak, _ := db.queries.Memory.State()
	require.LessOrEqual(t, peak, int64(budgetLocal))
	require.EqualValues(t, 300, answered.Load()+refused.Load())
	require.Positive(t, answered.Load())
	heap := most()
	t.Logf("%d were answered and %d refused; %d kB were counted, the heap grew by %d kB", answered.Load(), refused.Load(), peak>>10, (heap-before)>>10)
	// Dead objects, pools, and the partitions and blocks of the cache are on top.
	require.Less(t, heap, before+8*budgetLocal+32<<20)
}

// Panels that need a third of the memory each take turns; none that has a part of what
// it needs waits for the rest.
func TestLargePanelsTakeTurns(t *testing.T) {
	ctx := context.Background()
	const pods, steps, together = 50, 600, 6
	// A panel's groups take 0.35 of the memory.
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes = pods * steps * query.StepBytes * 20 / 7 })
	for pod := range pods {
		p := cpu(folded(midnight.Add(time.Hour), "main 1"), labelindex.LabelServiceName, "app", "pod", fmt.Sprint(pod))
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	r := query.SeriesRequest{Selection: everything(), GroupBy: []string{"pod"}, Step: time.Minute}
	r.Start, r.End = ms(midnight), ms(midnight.Add(steps*time.Minute))-1
	var g sync.WaitGroup
	for range together {
		g.Go(func() {
			for range 5 {
				ctx, done := budget.Holding(ctx)
				series, err := db.Points(ctx, r)
				done()
				if err != nil || len(series) != pods {
					t.Errorf("%d series: %v", len(series), err)
				}
			}
		})
	}
	g.Wait()
	requireIdle(t, db)
}
