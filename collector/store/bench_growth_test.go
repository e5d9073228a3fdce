package store

import (
	"context"
	"fmt"
	"path/filepath"
	runtimemetrics "runtime/metrics"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// The benchmarks of growth hold stores of different sizes against each other.
// Each store is made once, however often a benchmark runs.

// growthBase are the pods and the hours of the smallest store. Its pods send a
// profile of newWorkload's shape every five minutes.
const (
	growthPods  = 1
	growthHours = 1
	growthEvery = 5 * time.Minute
)

// grown is a store that was made, and what that took.
type grown struct {
	dir                 string
	profiles            int
	end                 time.Duration // of the profiles, from midnight
	ingest, maintenance time.Duration // processor time
	disk                uint64
	heap                uint64 // the store's, the most after any hour, bytes
}

// BenchmarkGrowth tells what a query costs when there are more series and more
// time, and what it took to store them.
func BenchmarkGrowth(b *testing.B) {
	for _, series := range []int{1, 4, 16} {
		for _, times := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("series=%dx/time=%dx", series, times), func(b *testing.B) {
				g := growStore(b, growthPods*series, growthHours*times)
				benchmarkGrown(b, g)
			})
		}
	}
}

// growStores remembers the stores of this process.
var growStores = map[string]*grown{}

func growStore(b *testing.B, pods, hours int) *grown {
	b.Helper()
	dir := filepath.Join(fleetDir(), fmt.Sprintf("growth-%d-%d", pods, hours))
	if g := growStores[dir]; g != nil {
		return g
	}
	g := &grown{dir: dir, end: time.Duration(hours) * time.Hour}
	clock := midnight
	w := newWorkload(1, pods)
	made := make([][12]profile.Profile, pods)
	for pod := range made {
		for n := range made[pod] {
			made[pod][n] = w.profile(0, pod, n, midnight)
		}
	}
	before := storetest.HeapInUse()
	db := open(b, dir, func(o *Options) { o.Now = func() time.Time { return clock } })
	for hour := range hours {
		began := cpuTime(b)
		for n := range 12 {
			var ps []profile.Profile
			for pod := range made {
				p := made[pod][n]
				p.Pprof.TimeNanos = clock.Add(time.Duration(n)*growthEvery + time.Duration(1+pod*2111%10000)*time.Millisecond).UnixNano()
				ps = append(ps, p)
			}
			g.profiles += len(ps)
			require.NoError(b, db.Append(context.Background(), ps))
		}
		g.ingest += cpuTime(b) - began
		clock = midnight.Add(time.Duration(hour+1) * time.Hour)
		began = cpuTime(b)
		require.NoError(b, db.maintain(context.Background(), 0))
		g.maintenance += cpuTime(b) - began
		if hour%10 == 0 || hour == hours-1 {
			g.heap = max(g.heap, storetest.HeapInUse()-before)
		}
	}
	require.NoError(b, db.kv.Pebble.Flush())
	require.NoError(b, db.kv.Pebble.Compact(context.Background(), []byte{0}, []byte{255, 255, 255, 255, 255}, true))
	g.disk = db.kv.Pebble.Metrics().DiskSpaceUsage()
	require.NoError(b, db.Close())
	growStores[dir] = g
	return g
}

func benchmarkGrown(b *testing.B, g *grown) {
	now := midnight.Add(g.end + time.Minute)
	db := open(b, g.dir, func(o *Options) { o.Now = func() time.Time { return now } })
	ctx := context.Background()
	// Each run asks for a range that ends and begins elsewhere.
	sel := func(i int) query.Selection {
		s := everything(`{service_name="service-00"}`)
		s.Start, s.End = ms(midnight)+int64(i%59)*1000, ms(midnight.Add(g.end))-int64(i%61)*1000
		s.MaxNodes = 8192
		return s
	}
	b.Run("Store", func(b *testing.B) {
		for range b.N {
			// It is made by now; the metrics say what it took.
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(g.ingest.Microseconds())/1000/float64(g.profiles), "append-cpu-ms/profile")
		b.ReportMetric(float64(g.maintenance.Microseconds())/1000/float64(g.profiles), "merge-cpu-ms/profile")
		b.ReportMetric(float64(g.disk)/float64(g.profiles), "disk-B/profile")
		b.ReportMetric(float64(g.profiles), "profiles")
		b.ReportMetric(float64(g.heap)/1e6, "heap-MB")
	})
	measureQuery(b, db, "FlameGraph", func(i int) error {
		tree, err := db.Tree(ctx, sel(i), nil)
		if err == nil && tree.Total() == 0 {
			err = fmt.Errorf("nothing found")
		}
		return err
	})
	measureQuery(b, db, "Points=240", func(i int) error {
		_, err := db.Points(ctx, query.SeriesRequest{Selection: sel(i), Step: g.end / 240, GroupBy: []string{labelindex.LabelServiceName}})
		return err
	})
	measureQuery(b, db, "LabelValues", func(i int) error {
		s := sel(i)
		_, err := db.LabelValues(ctx, "pod", s.Matchers, s.Start, s.End)
		return err
	})
	require.NoError(b, db.Close())
}

// measureQuery reports what a query reads and the memory that there is while it
// runs, beside its time.
func measureQuery(b *testing.B, db *DB, name string, query func(i int) error) {
	b.Run(name, func(b *testing.B) {
		if err := query(0); err != nil { // warm
			b.Fatal(err)
		}
		heap := storetest.HeapInUse()
		rows, bytes := testutil.ToFloat64(db.metrics.ReadRows), testutil.ToFloat64(db.metrics.ReadBytes)
		peak := watchHeap()
		done := measureCPU(b)
		for i := range b.N {
			if err := query(i); err != nil {
				b.Fatal(err)
			}
		}
		done()
		b.ReportMetric((testutil.ToFloat64(db.metrics.ReadRows)-rows)/float64(b.N), "rows/op")
		b.ReportMetric((testutil.ToFloat64(db.metrics.ReadBytes)-bytes)/float64(b.N)/1000, "read-kB/op")
		b.ReportMetric(float64(heap)/1e6, "heap-MB")
		b.ReportMetric(float64(max(heap, peak()))/1e6, "peak-MB")
	})
}

// watchHeap looks at the memory of objects, dead ones too, every millisecond. The
// returned function ends it and returns the most that there was.
func watchHeap() func() uint64 {
	var most atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		sample := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			runtimemetrics.Read(sample)
			most.Store(max(most.Load(), sample[0].Value.Uint64()))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return most.Load()
	}
}

// churned is a store with a day of 100,000 pods.
func churned(b *testing.B) *grown {
	b.Helper()
	dir := filepath.Join(fleetDir(), "churn")
	if g := growStores[dir]; g != nil {
		return g
	}
	g := &grown{dir: dir, end: 24 * time.Hour}
	clock := midnight
	db := open(b, dir, func(o *Options) { o.Now = func() time.Time { return clock } })
	c := churn{pods: 100_000, services: 20}
	for hour := range 24 {
		began := cpuTime(b)
		g.profiles += c.append(b, db, time.Duration(hour)*time.Hour, time.Duration(hour+1)*time.Hour)
		g.ingest += cpuTime(b) - began
		g.heap = max(g.heap, storetest.HeapInUse())
		clock = clock.Add(time.Hour)
		began = cpuTime(b)
		require.NoError(b, db.maintain(context.Background(), 0))
		g.maintenance += cpuTime(b) - began
	}
	require.NoError(b, db.kv.Pebble.Flush())
	g.disk = db.kv.Pebble.Metrics().DiskSpaceUsage()
	require.NoError(b, db.Close())
	growStores[dir] = g
	return g
}

// BenchmarkGrowthChurn asks about a day in which 100,000 pods came and went.
func BenchmarkGrowthChurn(b *testing.B) {
	g := churned(b)
	b.Run("Store", func(b *testing.B) {
		for range b.N {
			// As above.
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(g.ingest.Microseconds())/1000/float64(g.profiles), "append-cpu-ms/profile")
		b.ReportMetric(g.maintenance.Seconds(), "merge-cpu-s/day")
		b.ReportMetric(float64(g.profiles), "profiles")
		b.ReportMetric(float64(g.disk)/1e6, "disk-MB")
		b.ReportMetric(float64(g.heap)/1e6, "heap-MB")
	})
	now := func(o *Options) { o.Now = func() time.Time { return midnight.Add(25 * time.Hour) } }
	b.Run("Open", func(b *testing.B) {
		defer measureCPU(b)()
		for range b.N {
			db, err := Open(g.dir, Options{MaintenanceInterval: -1, Now: func() time.Time { return midnight.Add(25 * time.Hour) }})
			require.NoError(b, err)
			_, err = db.LabelNames(context.Background(), nil, ms(midnight.Add(23*time.Hour)), ms(midnight.Add(24*time.Hour)))
			require.NoError(b, err)
			require.NoError(b, db.Close())
		}
	})
	db := open(b, g.dir, now)
	for _, length := range []time.Duration{time.Hour, 24 * time.Hour} {
		for _, selector := range []string{`{}`, `{namespace="ns-1"}`, `{pod=~".*-000.*"}`} {
			b.Run(fmt.Sprintf("range=%gh/%s", length.Hours(), selector), func(b *testing.B) {
				benchmarkChurn(b, db, length, selector)
			})
		}
	}
	for _, selector := range []string{`{}`, `{service_name="service-03"}`, `{service_name="service-03",pod!=""}`, `{namespace="ns-3"}`} {
		for _, length := range []time.Duration{time.Hour, 24 * time.Hour} {
			measureQuery(b, db, fmt.Sprintf("FlameGraph/range=%gh/%s", length.Hours(), selector), func(i int) error {
				_, err := db.Tree(context.Background(), churnSelection(i, length, selector), nil)
				return err
			})
		}
	}
	require.NoError(b, db.Close())
}

// churnSelection ends shortly before the day does.
func churnSelection(i int, length time.Duration, selector string) query.Selection {
	sel := everything(selector)
	end := midnight.Add(24*time.Hour - time.Duration(i%60)*10*time.Second)
	sel.Start, sel.End = ms(end.Add(-length)), ms(end)
	return sel
}

func benchmarkChurn(b *testing.B, db *DB, length time.Duration, selector string) {
	ctx := context.Background()
	values := func(name string) func(query.Selection) (int, error) {
		return func(s query.Selection) (int, error) {
			l, err := db.LabelValues(ctx, name, s.Matchers, s.Start, s.End)
			return len(l), err
		}
	}
	series := func(names ...string) func(query.Selection) (int, error) {
		return func(s query.Selection) (int, error) {
			sets, err := db.Labels(ctx, names, s.Matchers, s.Start, s.End)
			if err != nil {
				return 0, err
			}
			return sets.Len(), nil
		}
	}
	for _, call := range []struct {
		name string
		fn   func(query.Selection) (int, error)
	}{
		{"LabelNames", func(s query.Selection) (int, error) {
			l, err := db.LabelNames(ctx, s.Matchers, s.Start, s.End)
			return len(l), err
		}},
		{"LabelValues=pod", values("pod")},
		{"LabelValues=namespace", values("namespace")},
		{"LabelValues=type", values(labelindex.LabelProfileType)},
		{"Series=service_name,type", series(labelindex.LabelServiceName, labelindex.LabelProfileType)},
		{"Series", series()},
	} {
		answers := 0
		b.Run(call.name, func(b *testing.B) {
			done := measureCPU(b)
			for i := range b.N {
				var err error
				if answers, err = call.fn(churnSelection(i, length, selector)); err != nil {
					b.Fatal(err)
				}
			}
			done()
			b.ReportMetric(float64(answers), "answers")
		})
	}
}
