package store

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

func TestRefusesOtherFormats(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	for _, version := range []byte{1, 9} {
		require.NoError(t, db.kv.Pebble.Set(layout.FormatKey(), []byte{version}, pebble.Sync))
		require.NoError(t, db.Close())
		_, err := Open(dir, Options{})
		require.ErrorContains(t, err, fmt.Sprintf("format version 0%d, this program reads 4", version))
		p, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: pebble.DefaultLogger})
		require.NoError(t, err)
		require.NoError(t, p.Set(layout.FormatKey(), []byte{kv.FormatVersion}, pebble.Sync))
		require.NoError(t, p.Close())
		db = open(t, dir)
	}
}

// Rows of format 3 are those of format 4 without times.
func TestReadsFormat3(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	require.NoError(t, db.Append(t.Context(), []profile.Profile{cpu(folded(midnight.Add(time.Minute), "main 3"))}))
	require.NoError(t, db.kv.Pebble.Set(layout.FormatKey(), []byte{3}, pebble.Sync))
	require.NoError(t, db.Close())
	v, err := Verify(t.Context(), dir)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	db = open(t, dir)
	tree, err := db.Tree(t.Context(), everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 3e7, tree.Total())
	version, closer, err := db.kv.Pebble.Get(layout.FormatKey())
	require.NoError(t, err)
	require.Equal(t, []byte{kv.FormatVersion}, version)
	require.NoError(t, closer.Close())
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
		points, err := db.Points(ctx, query.SeriesRequest{Selection: query.Selection{Type: cpuType, Start: sel.End, End: sel.End}, Step: to - from})
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
