package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// A lockedLog is a log that is read while it may be written.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lockedLog) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// jobsOfNobody is an empty list, of which the compiler does not know that.
var jobsOfNobody []*query.Job

// A panic of a goroutine that works for a call is an error of the call, with the stack
// in the log, and leaves nothing locked.
func TestPanicsAreErrorsOfTheirCall(t *testing.T) {
	ctx := context.Background()
	log := &lockedLog{}
	db := open(t, t.TempDir(), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	for i := range 3 {
		p := cpu(folded(midnight.Add(time.Minute), "main;work 1"), labelindex.LabelServiceName, fmt.Sprint("s", i))
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	boom := func() error {
		return fmt.Errorf("item %d", make([]int, len(jobsOfNobody))[len(jobsOfNobody)])
	}
	jobs, err := db.queries.Plan(ctx, nil, everything())
	require.NoError(t, err)
	require.Len(t, jobs, 3)
	count := 0.0
	for name, call := range map[string]func() error{
		"one job": func() error {
			return db.queries.Run(ctx, nil, jobs[:1], func(*query.Job, *query.JobReader) error { return boom() })
		},
		"several jobs": func() error {
			return db.queries.Run(ctx, nil, jobs, func(*query.Job, *query.JobReader) error { return boom() })
		},
		"a write": func() error { return db.kv.Await(boom) },
	} {
		log.Reset()
		err := call()
		require.ErrorIs(t, err, storeerr.ErrInternal, name)
		require.Equal(t, storeerr.ErrInternal.Error(), err.Error(), name)
		require.Contains(t, log.String(), "index out of range", name)
		require.Contains(t, log.String(), "panicked_test.go", name+": the log has no stack of the panic")
		require.Greater(t, testutil.ToFloat64(db.metrics.Panics), count, name)
		count = testutil.ToFloat64(db.metrics.Panics)
	}

	// What panics while it is loaded is loaded again by the next call.
	key := budget.Key{Epoch: 1, Partition: 2}
	require.Panics(t, func() { db.epochs.Cache.Acquire(key, func() (budget.Item, error) { panic("load") }) })
	u, err := budget.Acquire[*calltree.ServiceTrie](db.epochs.Cache, key, func() (budget.Item, error) { return calltree.NewServiceTrie(), nil })
	require.NoError(t, err)
	u.Release()

	// A panic while a table in memory is looked at leaves the epoch unlocked.
	e, err := db.epochs.Acquire(jobs[0].Epoch)
	require.NoError(t, err)
	defer e.Release()
	require.Panics(t, func() { _ = db.epochs.EachIndexOf(e.Value, 0, func(*labelindex.HourIndex) error { return boom() }) })
	require.True(t, e.Value.Mu.TryLock())
	e.Value.Mu.Unlock()

	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 3*1e7, tree.Total())
}

// The number of steps of a range may be one more than an int64 holds.
func TestPointsOfEndlessRangesAreRefused(t *testing.T) {
	db := open(t, t.TempDir())
	p := cpu(folded(midnight.Add(time.Minute), "main 1"), labelindex.LabelServiceName, "a")
	require.NoError(t, db.Append(context.Background(), []profile.Profile{p}))
	sel := everything()
	for _, start := range []int64{-1 << 63, -1, 0, 1} {
		for _, end := range []int64{1<<63 - 1, 1<<63 - 2, 1 << 62} {
			sel.Start, sel.End = start, end
			for _, step := range []time.Duration{time.Millisecond, time.Second} {
				_, err := db.Points(context.Background(), query.SeriesRequest{Selection: sel, Step: step})
				require.ErrorIs(t, err, storeerr.ErrLimit)
			}
			// Whatever the range, what is in it is found.
			tree, err := db.Tree(context.Background(), sel, nil)
			require.NoError(t, err)
			require.EqualValues(t, 1e7, tree.Total())
		}
	}
	// A time that has no day is in none.
	sel.Start, sel.End = ms(midnight)+int64(1<<32)*layout.DayMs, 1<<63-1
	tree, err := db.Tree(context.Background(), sel, nil)
	require.NoError(t, err)
	require.Zero(t, tree.Total())
	require.Empty(t, db.epochs.Between(sel.Start, sel.End))
}
