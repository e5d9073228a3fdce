package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// churnStore is a day of 100,000 pods, made once for all benchmarks.
func churnStore(b *testing.B) (*DB, func(*Options)) {
	b.Helper()
	dir := filepath.Join(fleetDir(), "churn")
	now := func(o *Options) { o.Now = func() time.Time { return midnight.Add(25 * time.Hour) } }
	if _, err := os.Stat(dir); err == nil {
		return open(b, dir, now), now
	}
	clock := midnight
	db := open(b, dir, func(o *Options) { o.Now = func() time.Time { return clock } })
	c := churn{pods: 100_000, services: 20}
	began, used := time.Now(), cpuTime(b)
	var maintained time.Duration
	for clock.Sub(midnight) < 24*time.Hour {
		from := clock.Sub(midnight)
		clock = clock.Add(time.Hour)
		c.append(b, db, from, from+time.Hour)
		m := cpuTime(b)
		require.NoError(b, db.maintain(context.Background(), 0))
		maintained += cpuTime(b) - m
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		if clock.Hour()%6 == 0 {
			fmt.Println(clock.Format("15:04"), "heap MB", mem.HeapAlloc>>20, "cache MB", db.cache.bytes()>>20)
		}
	}
	clock = clock.Add(time.Hour)
	m := cpuTime(b)
	require.NoError(b, db.maintain(context.Background(), 0))
	fmt.Println("day maintenance", cpuTime(b)-m)
	maintained += cpuTime(b) - m
	fmt.Println("built in", time.Since(began), "cpu", cpuTime(b)-used, "maintenance", maintained)
	require.NoError(b, db.Close())
	db = open(b, dir, now)
	return db, now
}

func BenchmarkGrowthLabels(b *testing.B) {
	db, _ := churnStore(b)
	ctx := context.Background()
	for _, length := range []time.Duration{time.Hour, 24 * time.Hour} {
		for _, q := range []string{`{}`, `{namespace="ns-1"}`, `{pod=~".*-000.*"}`} {
			for name, call := range map[string]func(sel Selection) (int, error){
				"LabelNames": func(s Selection) (int, error) {
					l, err := db.LabelNames(ctx, s.Matchers, s.Start, s.End)
					return len(l), err
				},
				"LabelValues=pod": func(s Selection) (int, error) {
					l, err := db.LabelValues(ctx, "pod", s.Matchers, s.Start, s.End)
					return len(l), err
				},
				"LabelValues=namespace": func(s Selection) (int, error) {
					l, err := db.LabelValues(ctx, "namespace", s.Matchers, s.Start, s.End)
					return len(l), err
				},
				"Series=service_name,type": func(s Selection) (int, error) {
					l, err := db.Labels(ctx, []string{labelServiceName, labelProfileType}, s.Matchers, s.Start, s.End)
					return len(l), err
				},
				"Series": func(s Selection) (int, error) {
					l, err := db.Labels(ctx, nil, s.Matchers, s.Start, s.End)
					return len(l), err
				},
				"ProfileTypes": func(s Selection) (int, error) {
					l, err := db.ProfileTypes(ctx, s.Start, s.End)
					return len(l), err
				},
			} {
				b.Run(fmt.Sprintf("%s/%s/%s", name, length, q), func(b *testing.B) {
					defer measureCPU(b)()
					n := 0
					for i := range b.N {
						sel := everything(q)
						end := midnight.Add(24*time.Hour - time.Duration(i%60)*10*time.Second)
						sel.Start, sel.End = ms(end.Add(-length)), ms(end)
						var err error
						if n, err = call(sel); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(n), "answers")
				})
			}
		}
	}
}
