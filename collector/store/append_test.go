package store

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

func TestAppendRefusesBadProfiles(t *testing.T) {
	at := midnight.Add(time.Hour)
	good := func() profile.Profile { return cpu(folded(at, "main;work 1")) }
	tests := []struct {
		field  string
		change func(*profile.Profile)
	}{
		{"pprof: missing", func(p *profile.Profile) { p.Pprof = nil }},
		{"sample_type: missing", func(p *profile.Profile) { p.Pprof.SampleType = nil }},
		{"sample_type[1]: no such string", func(p *profile.Profile) { p.Pprof.SampleType[1].Type = 999 }},
		{"sample_type[0]: type is empty", func(p *profile.Profile) { p.Pprof.SampleType[0].Type = 0 }},
		{"period_type: no such string", func(p *profile.Profile) { p.Pprof.PeriodType.Unit = -1 }},
		{"mapping[0]", func(p *profile.Profile) { p.Pprof.Mapping[0].Filename = 999 }},
		{"function[1]", func(p *profile.Profile) { p.Pprof.Function[1].Name = 999 }},
		{"location[0].mapping_id: no mapping 9", func(p *profile.Profile) { p.Pprof.Location[0].MappingId = 9 }},
		{"location[1].line[0].function_id: no function 0", func(p *profile.Profile) { p.Pprof.Location[1].Line[0].FunctionId = 0 }},
		{"location[1]: no ID", func(p *profile.Profile) { p.Pprof.Location[1].Id = 0 }},
		{"sample[0].value: want 2 values", func(p *profile.Profile) { p.Pprof.Sample[0].Value = []int64{1} }},
		{"sample[0].location_id[1]: no location 77", func(p *profile.Profile) { p.Pprof.Sample[0].LocationId[1] = 77 }},
		{"sample[0].label[0]: no such string", func(p *profile.Profile) {
			p.Pprof.Sample[0].Label = []*googlev1.Label{{Key: 999}}
		}},
		{"sample[1].value[1]: with those before it adds up to more than 9223372036854775807", func(p *profile.Profile) {
			p.Pprof.Sample[0].Value[1] = math.MaxInt64
			p.Pprof.Sample = append(p.Pprof.Sample, &googlev1.Sample{Value: []int64{0, 1}})
		}},
		{"time_nanos: -1 is before 1970", func(p *profile.Profile) { p.Pprof.TimeNanos = -1 }},
		{"time_nanos: 2026-03-03T02:00:00Z is more than 1h0m0s ahead", func(p *profile.Profile) {
			p.Pprof.TimeNanos = midnight.Add(26 * time.Hour).UnixNano()
		}},
		{"time_nanos: 2026-01-01T00:00:00Z is older than the retention", func(p *profile.Profile) {
			p.Pprof.TimeNanos = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
		}},
		{"labels: __name__ is missing", func(p *profile.Profile) { p.Labels = labels.FromStrings("a", "b") }},
		{"labels: \"a\"=\"\\xff\" is not UTF-8", func(p *profile.Profile) { p.Labels = labels.FromStrings(labelindex.LabelName, "cpu", "a", "\xff") }},
	}
	ctx := context.Background()
	db := open(t, t.TempDir(), func(o *Options) { o.Retention = 30 * 24 * time.Hour })
	for _, tt := range tests {
		t.Run(tt.field, func(t *testing.T) {
			bad := good()
			tt.change(&bad)
			err := db.Append(ctx, []profile.Profile{bad})
			require.ErrorIs(t, err, storeerr.ErrInvalid)
			require.ErrorContains(t, err, tt.field)
			// All or nothing.
			err = db.Append(ctx, []profile.Profile{good(), bad})
			require.ErrorContains(t, err, "profile 1: invalid: ")
		})
	}
	s, err := db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, query.Stats{}, s)
}

func TestDuplicatesAreStoredOnce(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	add := func(id string, pod string) {
		p := cpu(folded(midnight.Add(time.Hour), "main 1"), "pod", pod)
		p.ID = id
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	for range 3 {
		add("6f2c", "a")
	}
	add("6f2c", "b") // another series
	add("77aa", "a")
	add("", "a")
	add("", "a") // without an ID none is a duplicate
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 5e7, tree.Total())
	require.NoError(t, db.maintain(ctx, 0))
	add("77aa", "a") // and also when its window was merged
	require.NoError(t, db.maintain(ctx, 0))
	tree, err = db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 5e7, tree.Total())
}

func TestSampleLabelsMakeSeries(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	b := newPprof(midnight.Add(time.Hour))
	label := func(s *googlev1.Sample, pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			s.Label = append(s.Label, &googlev1.Label{Key: b.text(pairs[i]), Str: b.text(pairs[i+1])})
		}
	}
	main := [][]string{{"main"}}
	label(b.sample(main, 1, 10), "endpoint", "/a", "span_id", "0011")
	label(b.sample(main, 1, 20), "endpoint", "/a", "span_id", "0022")
	label(b.sample(main, 1, 30), "endpoint", "/b", "region", "other")
	b.sample(main, 1, 40)
	b.sample(main, 0, 0)
	b.sample(main, 1, -5)
	b.p.Sample = append(b.p.Sample, &googlev1.Sample{LocationId: []uint64{1}, Value: []int64{1, 7}, Label: []*googlev1.Label{{Key: b.text("bytes"), Num: 64}}})
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(b.p, "region", "eu")}))
	got, err := db.Points(ctx, query.SeriesRequest{
		Selection: everything(), Step: 48 * time.Hour, GroupBy: []string{"endpoint", "region"},
	})
	require.NoError(t, err)
	require.Equal(t, []query.Series{
		{Labels: labels.FromStrings("region", "eu"), Points: []query.Point{{Time: ms(midnight.Add(48 * time.Hour)), Value: 47}}},
		{Labels: labels.FromStrings("endpoint", "/a", "region", "eu"), Points: []query.Point{{Time: ms(midnight.Add(48 * time.Hour)), Value: 30}}},
		{Labels: labels.FromStrings("endpoint", "/b", "region", "eu"), Points: []query.Point{{Time: ms(midnight.Add(48 * time.Hour)), Value: 30}}},
	}, got)
}

func TestLabelsAreThoseOfPyroscope(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	require.NoError(t, db.Append(ctx, []profile.Profile{
		cpu(folded(midnight.Add(time.Hour), "main 1"), labelindex.LabelServiceName, "app", "__delta__", "false", "__type__", "mine", "empty", ""),
	}))
	got, err := db.Labels(ctx, nil, everything(`{__type__="cpu"}`).Matchers, 0, 0)
	require.NoError(t, err)
	require.Equal(t, []labels.Labels{labels.FromStrings(
		"__name__", "process_cpu", "__period_type__", "cpu", "__period_unit__", "nanoseconds",
		"__profile_type__", "process_cpu:cpu:nanoseconds:cpu:nanoseconds", "__service_name__", "app",
		"__type__", "cpu", "__unit__", "nanoseconds", "service_name", "app",
	)}, got.All())
}

func TestConcurrentAppendsAndQueries(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir, func(o *Options) { o.CacheBytes = 1 << 20 }) // evicts all the time
	w := newWorkload(3, 2)
	each := storetest.Rounds(12)
	var wg sync.WaitGroup
	for pod := range 2 {
		for service := range 3 {
			wg.Go(func() {
				for n := range each {
					at := midnight.Add(time.Hour + time.Duration(n)*10*time.Second)
					if err := db.Append(ctx, []profile.Profile{w.profile(service, pod, n, at)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 2 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if i == 0 {
					if err := db.maintain(ctx, 0); err != nil {
						t.Error(err)
					}
				}
				if _, err := db.Tree(ctx, everything(), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	others.Wait()
	want := int64(0)
	for pod := range 2 {
		for service := range 3 {
			for n := range each {
				for _, s := range w.profile(service, pod, n, midnight).Pprof.Sample {
					want += s.Value[1]
				}
			}
		}
	}
	check := func(db *DB) {
		tree, err := db.Tree(ctx, everything(), nil)
		require.NoError(t, err)
		require.Equal(t, want, tree.Total())
	}
	check(db)
	require.NoError(t, db.maintain(ctx, 0))
	check(db)
	require.NoError(t, db.Close())
	db = open(t, dir)
	check(db)
	require.EqualValues(t, 0, db.epochs.Cache.Evictions.Load())
}

func TestCallsAfterCloseFail(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	require.NoError(t, db.Close())
	require.ErrorIs(t, db.Append(ctx, nil), ErrClosed)
	_, err := db.Tree(ctx, everything(), nil)
	require.ErrorIs(t, err, ErrClosed)
	_, err = db.LabelNames(ctx, nil, 0, 0)
	require.ErrorIs(t, err, ErrClosed)
}

func TestCanceledCalls(t *testing.T) {
	db := open(t, t.TempDir())
	for i := range 5 {
		p := cpu(folded(midnight.Add(time.Hour), "main 1"), labelindex.LabelServiceName, fmt.Sprint(i))
		require.NoError(t, db.Append(context.Background(), []profile.Profile{p}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := db.Tree(ctx, everything(), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = db.Pprof(ctx, everything(), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = db.Points(ctx, query.SeriesRequest{Selection: everything(), Step: time.Hour})
	require.ErrorIs(t, err, context.Canceled)
	_, err = db.LabelNames(ctx, nil, 1, math.MaxInt64)
	require.ErrorIs(t, err, context.Canceled)
	err = db.Append(ctx, []profile.Profile{cpu(folded(midnight.Add(time.Hour), "main 1"))})
	require.ErrorIs(t, err, context.Canceled)
}
