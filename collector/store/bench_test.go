package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// The benchmarks run on profiles of the shape that newWorkload describes: 10 s
// each, of some 450 stacks.

func BenchmarkAppend(b *testing.B) {
	for _, senders := range []int{1, 32} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			db := open(b, b.TempDir())
			w := newWorkload(4, 3)
			n := atomic.Int64{}
			var pool [256]profile.Profile
			for i := range pool {
				pool[i] = w.profile(i%4, i/4%3, i/12, midnight)
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for {
						i := n.Add(1) - 1
						if i >= int64(b.N) {
							return
						}
						p := pool[i%int64(len(pool))]
						// Times of its own; the samples are shared and only read.
						p.Pprof = p.Pprof.CloneVT()
						p.Pprof.TimeNanos = midnight.Add(time.Hour + time.Duration(i)*100*time.Millisecond).UnixNano()
						if err := db.Append(context.Background(), []profile.Profile{p}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			require.NoError(b, db.pebble.Flush())
			require.NoError(b, db.pebble.Compact(context.Background(), epochKey(0), epochKey(metaEpoch), false))
			b.ReportMetric(float64(db.pebble.Metrics().DiskSpaceUsage())/float64(b.N), "disk-B/profile")
		})
	}
}

// fleet is a store with profiles of 5 services of 3 pods each over 25 hours. As
// a full day of 10 s profiles would take long to make, only the last hour has
// them; before it there is one every 5 minutes.
func fleet(b *testing.B) *DB {
	b.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("flameline-bench-%d", os.Getpid()))
	now := func(o *Options) { o.Now = func() time.Time { return midnight.Add(25*time.Hour + time.Minute) } }
	_, err := os.Stat(dir)
	if err == nil {
		return open(b, dir, now)
	}
	db := open(b, dir, now)
	w := newWorkload(5, 3)
	add := func(n int, at time.Time) {
		var ps []profile.Profile
		for service := range 5 {
			for pod := range 3 {
				ps = append(ps, w.profile(service, pod, n, at.Add(time.Duration((service*997+pod*2111)%10000)*time.Millisecond)))
			}
		}
		require.NoError(b, db.Append(context.Background(), ps))
	}
	for n := range 24 * 12 {
		add(n, midnight.Add(time.Duration(n)*5*time.Minute))
	}
	for n := range 360 {
		add(n, midnight.Add(24*time.Hour+time.Duration(n)*10*time.Second))
	}
	require.NoError(b, db.maintain(context.Background(), 0))
	require.NoError(b, db.pebble.Flush())
	return db
}

func removeFleet() {
	os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("flameline-bench-%d", os.Getpid())))
}

// ranges are ends in the last hour; each run asks for one 10 s earlier, so that
// windows are cut at other places.
func benchSelection(i int, length time.Duration, selectors ...string) Selection {
	sel := everything(selectors...)
	end := midnight.Add(25*time.Hour - time.Duration(i%60)*10*time.Second)
	sel.Start, sel.End = ms(end.Add(-length)), ms(end)
	return sel
}

func BenchmarkMerge(b *testing.B) {
	db := fleet(b)
	for _, length := range []time.Duration{5 * time.Minute, 15 * time.Minute, time.Hour, 24 * time.Hour} {
		for name, selector := range map[string]string{"one": `{service_name="service-03"}`, "all": `{}`} {
			b.Run(fmt.Sprintf("length=%s/services=%s", length, name), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					tree, err := db.Tree(context.Background(), benchSelection(i, length, selector), nil)
					if err != nil || tree.Total() == 0 {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPprof(b *testing.B) {
	db := fleet(b)
	for name, selector := range map[string]string{"one": `{service_name="service-03"}`, "all": `{}`} {
		b.Run("length=1h/services="+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				p, err := db.Pprof(context.Background(), benchSelection(i, time.Hour, selector), nil)
				if err != nil || len(p.Sample) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSeries(b *testing.B) {
	db := fleet(b)
	for name, r := range map[string]SeriesRequest{
		"by=service_name": {GroupBy: []string{"service_name"}},
		"by=pod":          {GroupBy: []string{"pod"}},
		"stack":           {Stack: []string{"runtime/internal.(*Type2).method2"}},
	} {
		b.Run("length=1h/step=15s/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				r.Selection, r.Step = benchSelection(i, time.Hour), 15*time.Second
				if _, err := db.Points(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLabels(b *testing.B) {
	db := fleet(b)
	ctx := context.Background()
	for name, call := range map[string]func(sel Selection) error{
		"LabelNames": func(s Selection) error {
			_, err := db.LabelNames(ctx, nil, s.Start, s.End)
			return err
		},
		"LabelValues": func(s Selection) error {
			_, err := db.LabelValues(ctx, "pod", nil, s.Start, s.End)
			return err
		},
		"Labels": func(s Selection) error {
			_, err := db.Labels(ctx, nil, nil, s.Start, s.End)
			return err
		},
		"ProfileTypes": func(s Selection) error {
			_, err := db.ProfileTypes(ctx, s.Start, s.End)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				if err := call(benchSelection(i, time.Hour)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
