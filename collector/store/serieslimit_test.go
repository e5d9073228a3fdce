package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/serieslimit"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// limited opens a store that takes 40 label sets of a service in an hour, and 32
// reduced ones.
func limited(t *testing.T, dir string, log *bytes.Buffer) *DB {
	return open(t, dir, func(o *Options) {
		o.MaxSeriesPerServiceHour = 40
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
}

// series counts the label sets of a store, and those that are reduced.
func seriesIn(t *testing.T, db *DB, matchers ...string) (all int) {
	t.Helper()
	var names []string
	got, err := db.LabelNames(context.Background(), nil, 0, 0)
	require.NoError(t, err)
	for _, n := range got {
		if !strings.HasPrefix(n, "__") || n == labelindex.LabelName {
			names = append(names, n)
		}
	}
	n, err := db.CountLabels(context.Background(), names, everything(matchers...).Matchers, 0, 0)
	require.NoError(t, err)
	return n
}

func totalOf(t *testing.T, db *DB, selectors ...string) int64 {
	t.Helper()
	tree, err := db.Tree(context.Background(), everything(selectors...), nil)
	require.NoError(t, err)
	return tree.Total() / 1e7
}

func TestSeriesOfAServiceAreBounded(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	var log bytes.Buffer
	db := limited(t, dir, &log)
	push := func(db *DB, at time.Time, service, pod string, n int) {
		p := cpu(folded(at, "main;work 2"), labelindex.LabelServiceName, service, "pod", pod, "zone", fmt.Sprint("z", n%3))
		p.ID = fmt.Sprint("profile-", at.Unix(), n%7) // which senders number by themselves
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	at := midnight.Add(time.Hour + time.Minute)
	for i := range 500 {
		push(db, at, "shop", fmt.Sprint("pod-", i), i)
	}
	push(db, at, "other", "pod", 1)
	for i := range 500 { // the same again: none is stored twice
		push(db, at, "shop", fmt.Sprint("pod-", i), i)
	}
	check := func(db *DB) {
		t.Helper()
		require.Equal(t, 40+3, seriesIn(t, db, `{service_name="shop"}`))
		require.Equal(t, 3, seriesIn(t, db, `{flameline_reduced="true"}`), "a reduced label set for each zone")
		require.EqualValues(t, 80, totalOf(t, db, `{service_name="shop",pod!=""}`))
		require.Equal(t, 1, seriesIn(t, db, `{service_name="other"}`))
	}
	check(db)
	// Every profile is there once; IDs count as different where senders differ.
	require.EqualValues(t, 1000, totalOf(t, db, `{service_name="shop"}`))
	require.EqualValues(t, 334, totalOf(t, db, `{service_name="shop",zone="z0"}`))
	points, err := db.Points(ctx, query.SeriesRequest{Selection: everything(`{service_name="shop"}`), Step: 48 * time.Hour, GroupBy: []string{labelindex.LabelServiceName}})
	require.NoError(t, err)
	require.Len(t, points, 1)
	sum := 0.0
	for _, p := range points[0].Points {
		sum += p.Value
	}
	require.EqualValues(t, 1000, sum/1e7)
	require.Equal(t, []Reduction{{
		Service: "shop", Hour: midnight.Add(time.Hour), Series: 40, Labels: []LabelCount{{Name: "pod", Values: 41}, {Name: "zone", Values: 3}},
	}}, db.Reductions())
	require.Equal(t, 1, strings.Count(log.String(), "too many series"), "said once: %s", log.String())
	require.Contains(t, log.String(), "pod")
	require.EqualValues(t, 920, testutil.ToFloat64(db.metrics.Reduced))

	// The next start counts what is there.
	require.NoError(t, db.Close())
	db = limited(t, dir, &log)
	push(db, at.Add(time.Second), "shop", "pod-0", 0)
	push(db, at.Add(time.Second), "shop", "pod-new", 0)
	require.EqualValues(t, 4, totalOf(t, db, `{service_name="shop",pod="pod-0"}`))
	require.EqualValues(t, 0, totalOf(t, db, `{service_name="shop",pod="pod-new"}`))
	require.EqualValues(t, 1004, totalOf(t, db, `{service_name="shop"}`))
	require.Equal(t, 43, seriesIn(t, db, `{service_name="shop"}`))
	// In the next hour there is room again, and a late profile still counts in its own.
	push(db, at.Add(time.Hour), "shop", "pod-later", 0)
	require.EqualValues(t, 2, totalOf(t, db, `{service_name="shop",pod="pod-later"}`))
	push(db, at.Add(2*time.Second), "shop", "pod-late", 0)
	require.EqualValues(t, 0, totalOf(t, db, `{service_name="shop",pod="pod-late"}`))
}

// Samples whose labels make too many series are added up under the labels that are
// left, with their spans.
func TestSeriesOfSamplesAreBounded(t *testing.T) {
	ctx := context.Background()
	var log bytes.Buffer
	db := limited(t, t.TempDir(), &log)
	b := newPprof(midnight.Add(time.Hour + time.Minute))
	for i := range 300 {
		s := b.sample([][]string{{"main"}, {fmt.Sprint("f", i%5)}}, 1, 1e7)
		s.Label = append(s.Label, b.label("request", fmt.Sprint(i)), b.label("span_id", testSpan(i+1).String()), b.label("method", fmt.Sprint("m", i%2)))
		b.p.Sample = append(b.p.Sample[:i], s)
	}
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(b.p, labelindex.LabelServiceName, "shop")}))
	require.Equal(t, 42, seriesIn(t, db))
	require.EqualValues(t, 300, totalOf(t, db))
	require.EqualValues(t, 150, totalOf(t, db, `{method="m1"}`))
	require.EqualValues(t, 260, totalOf(t, db, `{flameline_reduced="true"}`))
	sel := everything()
	sel.Spans = []rowcodec.SpanID{testSpan(1), testSpan(200), testSpan(299)}
	tree, err := db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3e7, tree.Total(), "of spans within and beyond the limit")
	require.Equal(t, []LabelCount{{Name: "request", Values: 300}, {Name: "method", Values: 2}}, db.Reductions()[0].Labels)
}

// Names of labels that are different each time have nothing in common that could be
// kept; those of profile types cannot be left out, and are refused at last.
func TestSeriesOfManyNames(t *testing.T) {
	ctx := context.Background()
	var log bytes.Buffer
	db := limited(t, t.TempDir(), &log)
	at := midnight.Add(time.Hour + time.Minute)
	for i := range 500 {
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(at, "main 1"), labelindex.LabelServiceName, "shop", fmt.Sprint("name", i), "x")}))
	}
	require.LessOrEqual(t, seriesIn(t, db), 40+16+1)
	require.EqualValues(t, 500, totalOf(t, db))

	refused := 0
	for i := range 500 {
		p := cpu(folded(at, "main 1"), labelindex.LabelServiceName, "kinds")
		p.Labels = labels.NewBuilder(p.Labels).Set(labelindex.LabelName, fmt.Sprint("type", i)).Labels()
		if err := db.Append(ctx, []profile.Profile{p}); err != nil {
			require.ErrorIs(t, err, storeerr.ErrLimit)
			require.ErrorContains(t, err, "limits.max_series_per_service_hour")
			refused++
		}
	}
	require.Equal(t, 500-40-32, refused)
	require.Equal(t, 72, seriesIn(t, db, `{service_name="kinds"}`))
}

// The states of senders beyond the limit add up as those within it.
func TestStatesBeyondTheSeriesLimit(t *testing.T) {
	t.Parallel()
	for name, workers := range map[string]int{"pods": 1, "labels of samples": 90} {
		s := newStateStore(t)
		s.db.appender.series = serieslimit.New(30, s.db.epochs, s.db.log)
		pods := 100
		if workers > 1 {
			pods = 2
		}
		for snapshot := range 40 {
			for pod := range pods {
				var stacks []any
				for w := range workers {
					label := ""
					if workers > 1 {
						label = fmt.Sprint("w", w)
					}
					stacks = append(stacks, "work", 10, label)
				}
				s.heap(time.Hour+time.Duration(snapshot)*15*time.Second+time.Duration(pod)*time.Millisecond, 15*time.Second, fmt.Sprint("pod-", pod), stacks...)
			}
		}
		want := float64(10 * pods * workers)
		tree := s.tree(time.Hour+time.Minute, time.Hour+6*time.Minute)
		require.InEpsilon(t, want, float64(tree["main;work"]), 0.01, name)
		for _, points := range s.points(time.Hour+2*time.Minute, time.Hour+6*time.Minute, time.Minute) {
			for _, v := range points {
				require.InEpsilon(t, want, v, 0.01, name)
			}
		}
		require.NotEmpty(t, s.db.Reductions(), name)
	}
}
