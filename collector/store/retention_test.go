package store

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
	tree, err := db.Tree(ctx, Selection{Type: cpuType, Start: 1, End: ms(now)}, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3e7, tree.Total())

	now = now.Add(1000 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	stats, err = db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, Stats{}, stats)
	p := folded(now.Add(-time.Minute), "main 1")
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}), "a dropped store goes on")
	require.NoError(t, db.Close())
	db = open(t, dir, change)
	require.Len(t, db.epochsBetween(0, 1<<62), 1)
}

func TestRetentionBySize(t *testing.T) {
	ctx := context.Background()
	w := newWorkload(2, 1)
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return midnight.Add(96 * time.Hour) } })
	for day := range 4 {
		for n := range 20 {
			at := midnight.Add(time.Duration(day)*24*time.Hour + time.Duration(n+1)*10*time.Second)
			for service := range 2 {
				require.NoError(t, db.Append(ctx, []profile.Profile{w.profile(service, 0, n, at)}))
			}
		}
	}
	require.NoError(t, db.pebble.Flush())
	total := int64(0)
	for _, id := range db.epochsBetween(0, 1<<62) {
		n, err := db.pebble.EstimateDiskUsage(epochKey(id), epochKey(id+1))
		require.NoError(t, err)
		total += int64(n)
	}
	// Serve while days are dropped.
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
				if _, err := db.Tree(ctx, Selection{Type: cpuType, Start: 1, End: ms(midnight) + 10*dayMs}, nil); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	db.options.MaxBytes = total / 2
	require.NoError(t, db.maintain(ctx, 0))
	days := len(db.epochsBetween(0, 1<<62))
	require.Positive(t, days)
	require.LessOrEqual(t, days, 2)
	db.options.MaxBytes = 1
	require.NoError(t, db.maintain(ctx, 0))
	close(stop)
	require.NoError(t, <-done)
	require.Len(t, db.epochsBetween(0, 1<<62), 1, "the newest day stays")
	stats, err := db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, ms(midnight.Add(72*time.Hour+200*time.Second)), stats.Newest)
}
