package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// TestMemoryIsCapped stores and asks for much more than the cache may hold: days,
// services with large tries, and pods that come and go.
func TestMemoryIsCapped(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it fills much memory, of which the race detector takes more")
	}
	if !alone(t) {
		return
	}
	ctx := context.Background()
	days, pods := 8, 2000
	const (
		services = 6
		capBytes = 16 << 20
		// The database's memtables, and what is not counted in the cache.
		margin = 16 << 20
	)
	clock := midnight
	db := open(t, t.TempDir(), func(o *Options) {
		o.Now, o.CacheBytes = func() time.Time { return clock }, capBytes
	})
	w := newWorkload(services, 1)
	var made [services][6]profile.Profile
	for s := range made {
		for n := range made[s] {
			made[s][n] = w.profile(s, 0, n, midnight)
		}
	}
	before := storetest.HeapInUse()
	most := uint64(0)
	check := func() {
		heap := storetest.HeapInUse()
		most = max(most, heap-min(before, heap))
	}
	c := churn{pods: pods, services: 3}
	uncapped := int64(0)
	for day := range days {
		offset := time.Duration(day) * 24 * time.Hour
		for s := range made {
			for n := range made[s] {
				p := made[s][n]
				p.Pprof.TimeNanos = midnight.Add(offset + time.Duration(n+1)*time.Hour).UnixNano()
				clock = midnight.Add(offset + 7*time.Hour)
				require.NoError(t, db.Append(ctx, []profile.Profile{p}))
			}
		}
		clock = midnight.Add(offset + 24*time.Hour)
		if day == days-1 {
			for hour := range 24 {
				clock = midnight.Add(offset + time.Duration(hour+1)*time.Hour)
				c.appendOn(t, db, midnight.Add(offset), time.Duration(hour)*time.Hour, time.Duration(hour+1)*time.Hour)
				require.NoError(t, db.maintain(ctx, 0))
			}
		}
		require.NoError(t, db.maintain(ctx, 0))
		check()
		for id := range uint32(services) {
			u, err := db.epochs.AcquirePartition(layout.EpochOf(ms(midnight.Add(offset))+1), id)
			require.NoError(t, err)
			uncapped += u.Value.Size()
			u.Release()
		}
	}
	require.Greater(t, uncapped, int64(3*(capBytes+margin)/2), "the test must hold more than the cap allows")
	sel := everything()
	sel.End = ms(clock)
	sel.MaxNodes = 1000
	for range 3 {
		_, err := db.Tree(ctx, sel, nil)
		require.NoError(t, err)
		_, err = db.Points(ctx, query.SeriesRequest{Selection: sel, Step: time.Hour, GroupBy: []string{labelindex.LabelServiceName}})
		require.NoError(t, err)
		for _, name := range []string{"pod", "instance", "node", "version"} {
			_, err = db.LabelValues(ctx, name, nil, 0, 0)
			require.NoError(t, err)
		}
		_, err = db.Labels(ctx, []string{"pod"}, nil, 0, 0)
		require.NoError(t, err)
		check()
	}
	require.LessOrEqual(t, db.epochs.Cache.Bytes(), int64(capBytes))
	require.Less(t, most, uint64(capBytes+margin))
	t.Logf("%d MB of tries under a cap of %d MB took %d MB at most", uncapped>>20, capBytes>>20, most>>20)
}

// The texts of a profile that was pushed are parts of it. A stream that has come to
// be with a profile must not keep all of that.
func TestStreamsKeepNothingOfTheirProfiles(t *testing.T) {
	if !alone(t) {
		return
	}
	db := open(t, t.TempDir())
	const streams, bytes = 200, 1 << 20
	push := func(i int) {
		p := folded(midnight.Add(time.Minute), "main;work 3")
		var all strings.Builder
		for _, s := range p.StringTable {
			all.WriteString(s)
		}
		all.WriteString(strings.Repeat("x", bytes))
		text := all.String()
		for j, s := range p.StringTable {
			p.StringTable[j], text = text[:len(s)], text[len(s):]
		}
		require.NoError(t, db.Append(t.Context(), []profile.Profile{cpu(p, labelindex.LabelServiceName, "app", "pod", fmt.Sprint(i))}))
	}
	push(0)
	before := storetest.HeapInUse()
	for i := range streams {
		push(1 + i)
	}
	require.Less(t, storetest.HeapInUse(), before+streams*bytes/10)
}

// What an export holds of the memory of queries is what it needs, whatever the one
// before needed, whose memory it may have.
func TestPprofHoldsWhatItNeeds(t *testing.T) {
	ctx := context.Background()
	const all = 64 << 20
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes = all })
	var large []string
	for i := range 30000 {
		large = append(large, fmt.Sprintf("main;a%d;b%d;c%d 1", i%50, i%700, i))
	}
	require.NoError(t, db.Append(ctx, []profile.Profile{
		cpu(folded(midnight.Add(time.Minute), large...), labelindex.LabelServiceName, "large"),
		cpu(folded(midnight.Add(time.Minute), "main;x 1"), labelindex.LabelServiceName, "small"),
	}))
	small := func() {
		require.True(t, db.queries.Memory.Grow(all-1<<20))
		defer db.queries.Memory.Free(all - 1<<20)
		_, err := db.Pprof(ctx, everything(`{service_name="small"}`), nil)
		require.NoError(t, err)
	}
	small()
	for _, selector := range []string{`{service_name="large"}`, `{}`} {
		_, err := db.Pprof(ctx, everything(selector), nil)
		require.NoError(t, err)
		small()
	}
}

// Label sets that take all the memory there is wait for one another.
func TestLargeLabelSetsTakeTurns(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes = 600 << 10 })
	var ps []profile.Profile
	for i := range 1500 {
		ps = append(ps, cpu(folded(midnight.Add(time.Minute), "main 1"), labelindex.LabelServiceName, "app", "pod", fmt.Sprintf("pod-%d", i)))
	}
	require.NoError(t, db.Append(ctx, ps))
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 10 {
				if err := db.UseLabels(ctx, nil, nil, 0, 0, func(*labelindex.LabelSets) error { return nil }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	g.Wait()
	n, err := db.CountLabels(ctx, nil, nil, 0, 0)
	require.NoError(t, err)
	require.Equal(t, 3000, n)
}

// Days with label names of their own make a table of all names, which has to be
// counted before it is made.
func TestMemoryOfLabelSetsIsCounted(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return midnight.Add(40 * 24 * time.Hour) } })
	for day := range 10 {
		var ps []profile.Profile
		for i := range 20 {
			ls := []string{labelindex.LabelServiceName, fmt.Sprint("s", i)}
			for j := range 40 {
				ls = append(ls, fmt.Sprintf("l_%d_%d", day, j), "v")
			}
			ps = append(ps, cpu(folded(midnight.Add(time.Minute+time.Duration(day)*24*time.Hour), "main 1"), ls...))
		}
		require.NoError(t, db.Append(ctx, ps))
	}
	require.NoError(t, db.queries.Memory.Within(ctx, func(h *budget.Reservation) error {
		c := labelindex.SetCollector{Hold: h, Streams: labelindex.StreamSet{}}
		require.NoError(t, db.queries.EachPick(ctx, nil, 0, 0, c.Add))
		counted := c.Bytes()
		require.Greater(t, counted, int64(len(c.Sets().Of)*4)+c.Used)
		return nil
	}))
}

// requireIdle checks that queries that have ended gave back all their memory.
func requireIdle(t *testing.T, db *DB) {
	t.Helper()
	used, _, waiting := db.queries.Memory.State()
	require.Zero(t, used, "memory was not given back")
	require.Zero(t, waiting)
}
