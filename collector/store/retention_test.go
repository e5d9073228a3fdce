package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/watermark"
	"github.com/flameline/flameline/pkg/profile"
)

func TestRetentionByAge(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	now := midnight.Add(96 * time.Hour)
	change := func(o *Options) {
		o.Now, o.Retention = func() time.Time { return now }, 49*time.Hour
	}
	db := open(t, dir, func(o *Options) { o.Now = func() time.Time { return now } })
	for day := range 4 {
		p := folded(midnight.Add(time.Duration(day)*24*time.Hour+time.Hour), "main 1")
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}))
	}
	require.NoError(t, db.Close())
	db = open(t, dir, change)
	require.NoError(t, db.maintain(ctx, 0))
	stats, err := db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, ms(midnight.Add(25*time.Hour)), stats.Oldest)
	tree, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: 1, End: ms(now)}, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3e7, tree.Total())

	now = now.Add(1000 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	stats, err = db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, query.Stats{}, stats)
	p := folded(now.Add(-time.Minute), "main 1")
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}), "a dropped store goes on")
	require.NoError(t, db.Close())
	db = open(t, dir, change)
	require.Len(t, db.epochs.Between(0, 1<<62), 1)
}

func keptBytes(t *testing.T, db *DB) (total int64) {
	t.Helper()
	for _, id := range db.epochs.Between(0, 1<<62) {
		n, err := db.maintainer.keptBytes(id)
		require.NoError(t, err)
		total += n
	}
	return total
}

// TestRetentionBySize fails if history goes before resolution, if the days of the
// last 24 hours lose any, or if a query that runs meanwhile misses a profile.
func TestRetentionBySize(t *testing.T) {
	ctx := context.Background()
	w := newWorkload(2, 1)
	var made [80]profile.Profile // of a day
	for n := range made {
		made[n] = w.profile(n%2, 0, n/2, midnight)
	}
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return midnight.Add(96 * time.Hour) } })
	for day := range 4 {
		var ps []profile.Profile
		for n, p := range made {
			p.Pprof = sameAt(p.Pprof, midnight.Add(time.Duration(day)*24*time.Hour+time.Duration(n/2+1)*10*time.Second))
			ps = append(ps, p)
		}
		require.NoError(t, db.Append(ctx, ps))
	}
	require.NoError(t, db.maintain(ctx, 0))
	require.NoError(t, db.kv.Pebble.Flush())
	size := func() int64 { return keptBytes(t, db) }
	all := query.Selection{Type: cpuType, Start: 1, End: ms(midnight) + 10*layout.DayMs}
	want, err := db.Tree(ctx, all, nil)
	require.NoError(t, err)
	first := layout.EpochOf(ms(midnight) + 1)
	// Serve while rows are dropped.
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			got, err := db.Tree(ctx, all, nil)
			if err == nil && got.Total() != want.Total() {
				err = fmt.Errorf("a query gave %d, want %d", got.Total(), want.Total())
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	db.epochs.Retention.MaxBytes.Store(size() - 1)
	require.NoError(t, db.maintain(ctx, 0))
	require.Len(t, db.epochs.Between(0, 1<<62), 4)
	require.Equal(t, watermark.Hours{24, 0, 0}, db.epochs.Watermarks.Of(first))
	require.Zero(t, db.epochs.Watermarks.Of(first+1), "no more than need be")
	require.LessOrEqual(t, size(), db.epochs.Retention.MaxBytes.Load())

	// Little by little, each time what is worth least.
	for _, after := range [][3]watermark.Hours{
		{{24, 0, 0}, {24, 0, 0}}, {{24, 0, 0}, {24, 0, 0}, {24, 0, 0}},
		{{24, 24, 0}, {24, 0, 0}, {24, 0, 0}}, {{24, 24, 0}, {24, 24, 0}, {24, 0, 0}}, {{24, 24, 0}, {24, 24, 0}, {24, 24, 0}},
	} {
		db.epochs.Retention.MaxBytes.Store(size() - 1)
		require.NoError(t, db.maintain(ctx, 0))
		require.Len(t, db.epochs.Between(0, 1<<62), 4)
		for day, h := range after {
			id := first + uint32(day)
			require.Equal(t, h, db.epochs.Watermarks.Of(id))
		}
	}
	require.Zero(t, db.epochs.Watermarks.Of(first+3), "of the last day every profile stays")
	got, err := db.Tree(ctx, all, nil)
	require.NoError(t, err)
	require.Equal(t, draw(want), draw(got))
	err = db.Append(ctx, []profile.Profile{w.profile(0, 0, 1, midnight.Add(time.Hour))})
	require.ErrorIs(t, err, storeerr.ErrInvalid)
	require.ErrorContains(t, err, "storage.max_bytes")
	close(stop)
	require.NoError(t, <-done)

	db.epochs.Retention.MaxBytes.Store(1)
	require.NoError(t, db.maintain(ctx, 0))
	require.Len(t, db.epochs.Between(0, 1<<62), 1, "the newest day stays")
	stats, err := db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, ms(midnight.Add(72*time.Hour+400*time.Second)), stats.Newest)
	require.Zero(t, testutil.ToFloat64(db.metrics.Corrupt))
}

// TestDroppedRowsGiveTheirSpaceBack fails if the space of rows that retention
// dropped stays in use, or if a drop that a query delays makes retention by size
// drop more.
func TestDroppedRowsGiveTheirSpaceBack(t *testing.T) {
	ctx := context.Background()
	perDay := 1200 // so that they are more than all else, whose compression differs from run to run
	if testing.Short() {
		perDay = 400
	}
	w := newWorkload(2, 1)
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return midnight.Add(97 * time.Hour) } })
	var made [60]profile.Profile
	for n := range made {
		made[n] = w.profile(n%2, 0, n, midnight)
	}
	for day := range 4 {
		var ps []profile.Profile
		for n := range perDay {
			at := midnight.Add(time.Duration(day)*24*time.Hour + time.Duration(n+1)*10*time.Second)
			p := made[n%len(made)]
			p.Pprof = sameAt(p.Pprof, at)
			ps = append(ps, p)
		}
		require.NoError(t, db.Append(ctx, ps))
	}
	require.NoError(t, db.maintain(ctx, 0))
	require.NoError(t, db.kv.Pebble.Flush())
	require.NoError(t, db.kv.Pebble.Compact(ctx, []byte{0}, []byte{0xff}, false))
	tables := func() (bytes int64) {
		for _, l := range db.kv.Pebble.Metrics().Levels {
			bytes += l.TablesSize
		}
		return bytes
	}
	first := layout.EpochOf(ms(midnight) + 1)
	fine, err := db.maintainer.usage(prefixRange(layout.LevelPrefix(first, layout.KindRow, layout.LevelFine)))
	require.NoError(t, err)
	before := tables()
	require.Positive(t, fine)
	query := db.epochs.Snapshot()
	db.epochs.Retention.MaxBytes.Store(keptBytes(t, db) - fine/2)
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, watermark.Hours{24, 0, 0}, db.epochs.Watermarks.Of(first))
	require.NoError(t, db.maintain(ctx, 0))
	require.Zero(t, db.epochs.Watermarks.Of(first+1), "what a query still sees counts as dropped")
	require.NoError(t, query.Close())

	db.epochs.Retention.MaxBytes.Store(0)
	db.epochs.Retention.Raw = 25 * time.Hour
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, watermark.Hours{24, 0, 0}, db.epochs.Watermarks.Of(first+2))
	left, err := db.maintainer.usage(prefixRange(layout.LevelPrefix(first+2, layout.KindRow, layout.LevelFine)))
	require.NoError(t, err)
	require.LessOrEqual(t, left, int64(33<<10), "the size of a range is an estimate, of a block more or less")
	require.Less(t, tables(), before-fine/2)
	t.Logf("tables had %d bytes, %d of them single profiles of a day; after three such days went %d", before, fine, tables())
}
