package store

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// TestOpensFormat1 reads a store that was written when the format had version 1,
// and upgrades it. The directory must stay as it is.
func TestOpensFormat1(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/format1")))
	v, err := Verify(context.Background(), dir)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	db := open(t, dir)
	got := ask(t, db, ms(midnight), ms(midnight)+dayMs)
	require.Equal(t, []string{
		"main;idle 170000000", "main;work 10000000", "main;work;hash 340000000", "start 50000000",
	}, got.tree)
	require.Len(t, got.series, 3)
	names, err := db.LabelNames(context.Background(), nil, 0, 0)
	require.NoError(t, err)
	require.Contains(t, names, "pod")
	at := midnight.Add(20 * time.Hour)
	require.NoError(t, db.Append(context.Background(), []profile.Profile{cpu(folded(at, "main;idle 1"))}), "and goes on")
	for _, id := range db.epochsBetween(0, 1<<62) {
		require.NoError(t, db.each(db.pebble, kindKey(id, kindActive1), func(key, _ []byte) error {
			return fmt.Errorf("%x is left of format 1", key)
		}))
	}
	require.NoError(t, db.Close())
	db = open(t, dir)
	require.Equal(t, got.tree, ask(t, db, ms(midnight), ms(midnight)+dayMs/2).tree, "and opens again")
	for range 2 { // upgraded, then merged again
		require.NoError(t, db.Close())
		v, err := Verify(context.Background(), dir)
		require.NoError(t, err)
		require.Empty(t, v.Damage)
		require.Positive(t, v.Profiles)
		db = open(t, dir)
		require.NoError(t, db.maintain(context.Background(), 0))
	}
}

func TestRefusesOtherFormats(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	require.NoError(t, db.pebble.Set(formatKey(), []byte{9}, pebble.Sync))
	require.NoError(t, db.Close())
	_, err := Open(dir, Options{})
	require.ErrorContains(t, err, "format version 09, this program reads 3")
}

// TestReadsFormat2 reads a store that was written when the format had version 2, whose
// profiles of 10 s count at their time, and goes on with it. The directory must stay
// as it is.
func TestReadsFormat2(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/format2")))
	v, err := Verify(ctx, dir)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	db := open(t, dir)
	total := func(from, to time.Duration) int64 {
		sel := everything()
		sel.Start, sel.End = ms(midnight.Add(from))+1, ms(midnight.Add(to))
		tree, err := db.Tree(ctx, sel, nil)
		require.NoError(t, err)
		points, err := db.Points(ctx, SeriesRequest{Selection: Selection{Type: cpuType, Start: sel.End, End: sel.End}, Step: to - from})
		require.NoError(t, err)
		require.InDelta(t, tree.Total(), points[0].Points[0].Value, 1)
		return tree.Total()
	}
	ask := func() {
		t.Helper()
		require.EqualValues(t, 1.99e9, total(0, 24*time.Hour))
		require.EqualValues(t, 4e7, total(time.Hour-time.Second, time.Hour+5*time.Second))
		require.EqualValues(t, 5e7, total(time.Hour+5*time.Second, time.Hour+20*time.Second))
	}
	ask()
	require.NoError(t, db.maintain(ctx, 0))
	ask()
	require.NoError(t, db.Close())
	v, err = Verify(ctx, dir)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
}
