package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/watermark"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

// The benchmarks run on profiles of the shape that newWorkload describes: 10 s
// each, of some 450 stacks.

func BenchmarkAppend(b *testing.B) {
	run := func(senders int, name string, id func(i int64) string) {
		b.Run(fmt.Sprintf("senders=%d%s", senders, name), func(b *testing.B) {
			db := open(b, b.TempDir())
			w := newWorkload(4, 3)
			n := atomic.Int64{}
			var pool [96]profile.Profile
			for i := range pool {
				pool[i] = w.profile(i%4, i/4%3, i/12, midnight.Add(time.Minute))
			}
			for _, p := range pool { // the dictionaries know most stacks, as they do after minutes
				require.NoError(b, db.Append(context.Background(), []profile.Profile{p}))
			}
			defer measureCPU(b)()
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for {
						i := n.Add(1) - 1
						if i >= int64(b.N) {
							return
						}
						p := pool[i%int64(len(pool))]
						p.ID = id(i)
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
			b.ReportMetric(testutil.ToFloat64(db.metrics.RowBytes)/float64(b.N+len(pool)), "row-B/op")
		})
	}
	for _, senders := range []int{1, 32} {
		run(senders, "", func(int64) string { return "" })
		run(senders, "/ids", func(i int64) string { return fmt.Sprint(i) })
	}
}

// BenchmarkDropHour is the cost of dropping an hour of single profiles, which is a
// deletion for every stream. The profiles of each are few; what they are does not
// matter to it.
func BenchmarkDropHour(b *testing.B) {
	for _, streams := range []int{1000, 20000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			ctx := context.Background()
			now := midnight.Add(24 * time.Hour)
			db := open(b, b.TempDir(), func(o *Options) { o.Now = func() time.Time { return now } })
			for first := 0; first < streams; first += 1000 {
				var ps []profile.Profile
				for i := range 1000 {
					for hour := range 2 {
						p := folded(midnight.Add(time.Duration(hour)*time.Hour+time.Minute), "main 1")
						ps = append(ps, cpu(p, labelindex.LabelServiceName, "app", "pod", fmt.Sprint(first+i)))
					}
				}
				require.NoError(b, db.Append(ctx, ps))
			}
			require.NoError(b, db.maintain(ctx, 0))
			id := layout.EpochOf(ms(midnight) + 1)
			query := func() time.Duration {
				began := time.Now()
				_, err := db.Tree(ctx, everything(`{pod="7"}`), nil)
				require.NoError(b, err)
				return time.Since(began)
			}
			before := query()
			b.ResetTimer()
			for i := range b.N {
				require.NoError(b, db.maintainer.dropLevels(ctx, id, watermark.Hours{uint8(1 + i%23), 0, 0}, "age", now))
				b.StopTimer()
				b.ReportMetric(float64(before.Microseconds()), "µs-query-before")
				b.ReportMetric(float64(query().Microseconds()), "µs-query-after")
				db.epochs.Watermarks.Set(id, watermark.Hours{}) // drop it again
				b.StartTimer()
			}
		})
	}
}

// measureCPU reports the processor time per operation, from now until the
// returned function is called. On a busy machine it says more than wall time.
func measureCPU(b *testing.B) func() {
	b.ResetTimer()
	began := cpuTime(b)
	return func() { b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op") }
}

// cpuTime is the processor time of the process until now.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fleet is a store with profiles of 5 services of 3 pods each over 25 hours. As
// a full day of 10 s profiles would take long to make, only the last hour has
// them; before it there is one every 5 minutes. Every pod has 20 different
// profiles.
func fleet(b *testing.B) *DB {
	b.Helper()
	dir := fleetDir()
	now := func(o *Options) { o.Now = func() time.Time { return midnight.Add(25*time.Hour + time.Minute) } }
	if _, err := os.Stat(dir); err == nil {
		return open(b, dir, now)
	}
	db := open(b, dir, now)
	w := newWorkload(5, 3)
	var made [5][3][20]profile.Profile
	for service := range made {
		for pod := range made[service] {
			for n := range made[service][pod] {
				made[service][pod][n] = w.profile(service, pod, n, midnight)
			}
		}
	}
	add := func(n int, at time.Time) {
		var ps []profile.Profile
		for service := range made {
			for pod := range made[service] {
				p := made[service][pod][n%20]
				p.Pprof.TimeNanos = at.Add(time.Duration((service*997+pod*2111)%10000) * time.Millisecond).UnixNano()
				ps = append(ps, p)
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
	require.NoError(b, db.kv.Pebble.Flush())
	return db
}

func fleetDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("flameline-bench-%d", os.Getpid()))
}

func removeFleet() { os.RemoveAll(fleetDir()) }

// benchSelection ends in the last hour; each run asks for one 10 s earlier, so that
// windows are cut at other places.
func benchSelection(i int, length time.Duration, selectors ...string) query.Selection {
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
				defer measureCPU(b)()
				for i := range b.N {
					sel := benchSelection(i, length, selector)
					sel.MaxNodes = 8192
					tree, err := db.Tree(context.Background(), sel, nil)
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
			defer measureCPU(b)()
			for i := range b.N {
				p, err := db.Pprof(context.Background(), benchSelection(i, time.Hour, selector), nil)
				if err != nil || p.Samples == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFunctions measures the functions of an hour, with the sources of a hundred or
// without, and the ten largest of them by steps of 15 s.
func BenchmarkFunctions(b *testing.B) {
	db := fleet(b)
	ctx := context.Background()
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i
	}
	for name, selector := range map[string]string{"one": `{service_name="service-03"}`, "all": `{}`} {
		for suffix, choose := range map[string]func(*query.Functions) []int{
			"":         nil,
			"/sources": func(*query.Functions) []int { return hundred },
		} {
			b.Run("length=1h/services="+name+suffix, func(b *testing.B) {
				b.ReportAllocs()
				defer measureCPU(b)()
				for i := range b.N {
					f, err := db.Functions(ctx, []query.Selection{benchSelection(i, time.Hour, selector)}, make([][]string, 1), choose)
					if err != nil || len(f.Names) == 0 {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run("length=1h/step=15s/services="+name, func(b *testing.B) {
			f, err := db.Functions(ctx, []query.Selection{benchSelection(0, time.Hour, selector)}, make([][]string, 1), nil)
			if err != nil || len(f.Names) < 10 {
				b.Fatal(err)
			}
			b.ReportAllocs()
			defer measureCPU(b)()
			for i := range b.N {
				r := query.SeriesRequest{Selection: benchSelection(i, time.Hour, selector), Step: 15 * time.Second}
				if _, err := db.FunctionPoints(ctx, r, f.Names[:10]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkView measures options of flame graphs, of an hour.
func BenchmarkView(b *testing.B) {
	db := fleet(b)
	for name, r := range map[string]struct {
		view.Options
		by []string
	}{
		"focus":      {Options: view.Options{Focus: "Type2"}},
		"hide+fold":  {Options: view.Options{Hide: "method2", Fold: []string{"go-runtime"}, CollapseRecursion: true}},
		"reverse":    {Options: view.Options{Reverse: true}},
		"by=service": {by: []string{labelindex.LabelServiceName}},
		"by=pod":     {by: []string{"pod"}},
	} {
		v, err := view.New(r.Options)
		require.NoError(b, err)
		for services, selector := range map[string]string{"one": `{service_name="service-03"}`, "all": `{}`} {
			b.Run("length=1h/"+name+"/services="+services, func(b *testing.B) {
				b.ReportAllocs()
				defer measureCPU(b)()
				for i := range b.N {
					_, err := db.View(context.Background(), query.ViewRequest{
						Selections: []query.Selection{benchSelection(i, time.Hour, selector)}, View: v, GroupBy: r.by, MaxNodes: 8192,
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSeries(b *testing.B) {
	db := fleet(b)
	for name, r := range map[string]query.SeriesRequest{
		"by=service_name": {GroupBy: []string{"service_name"}},
		"by=pod":          {GroupBy: []string{"pod"}},
		"stack":           {Stack: []string{"runtime/internal.(*Type2).method2"}},
	} {
		b.Run("length=1h/step=15s/"+name, func(b *testing.B) {
			b.ReportAllocs()
			defer measureCPU(b)()
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
	for name, call := range map[string]func(sel query.Selection) error{
		"LabelNames": func(s query.Selection) error {
			_, err := db.LabelNames(ctx, nil, s.Start, s.End)
			return err
		},
		"LabelValues": func(s query.Selection) error {
			_, err := db.LabelValues(ctx, "pod", nil, s.Start, s.End)
			return err
		},
		"Labels": func(s query.Selection) error {
			_, err := db.Labels(ctx, nil, nil, s.Start, s.End)
			return err
		},
		"ProfileTypes": func(s query.Selection) error {
			_, err := db.ProfileTypes(ctx, s.Start, s.End)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			defer measureCPU(b)()
			for i := range b.N {
				if err := call(benchSelection(i, time.Hour)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValues(b *testing.B) {
	db := fleet(b)
	for name, exemplars := range map[string]bool{"totals": false, "exemplars": true} {
		for _, length := range []time.Duration{15 * time.Minute, time.Hour} {
			b.Run(fmt.Sprintf("length=%s/%s", length, name), func(b *testing.B) {
				b.ReportAllocs()
				defer measureCPU(b)()
				for i := range b.N {
					_, err := db.Values(context.Background(), query.ValuesRequest{Selection: benchSelection(i, length), Exemplars: exemplars})
					require.NoError(b, err)
				}
			})
		}
	}
}
