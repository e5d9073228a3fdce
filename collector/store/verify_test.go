package store

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// files reads a directory, to see whether anything changed.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			out[e.Name()] = string(b)
		}
	}
	return out
}

func TestVerify(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "LOCK")))
	before := filesOf(t, dir)
	v, err := Verify(ctx, dir)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
	left := 0
	for n := range damageProfiles {
		if damageTime(n).After(midnight.Add(damageDropped)) {
			left++
		}
	}
	require.EqualValues(t, left, v.Profiles)
	require.Equal(t, 3, v.Days)
	require.Positive(t, v.Windows)
	require.Equal(t, before, filesOf(t, dir), "nothing is changed")

	db := open(t, dir)
	_, err = Verify(ctx, dir)
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, db.Close())
	_, err = Verify(ctx, t.TempDir())
	require.ErrorContains(t, err, "holds no store")
	_, err = Verify(ctx, filepath.Join(dir, "nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestVerifyFindsDamage flips a bit in every so many bytes of every file.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	original := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, original)
	for name, content := range filesOf(t, original) {
		if strings.HasPrefix(name, "marker") || name == "LOCK" || strings.HasPrefix(name, pebblefiles.OptionsPrefix) {
			continue
		}
		size := len(content)
		if strings.HasSuffix(name, ".log") {
			size = 20000 // what comes after may be of an earlier log
		}
		for at := 0; at < size-8; at += max(size/storetest.Rounds(12), 1) {
			dir := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
			require.NoError(t, flip(filepath.Join(dir, name), int64(at)))
			before := filesOf(t, dir)
			v, err := Verify(context.Background(), dir)
			require.NoError(t, err)
			require.NotEmpty(t, v.Damage, "%s with a bit flipped at %d of %d", name, at, len(content))
			text := fmt.Sprint(v.Damage)
			require.Contains(t, text, name)
			require.Equal(t, before, filesOf(t, dir), "nothing is changed")
		}
	}
}

// Values that Pebble finds in order, and that are wrong all the same.
func TestVerifyFindsWrongValues(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	original := filepath.Join(t.TempDir(), "store")
	db := open(t, original)
	for n := range 10 {
		p := cpu(folded(midnight.Add(time.Hour+time.Duration(n)*time.Minute), "main;work 3", "main 1"), labelindex.LabelServiceName, "a")
		p.ID = fmt.Sprint(n)
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	require.NoError(t, db.maintain(ctx, 0))
	require.NoError(t, db.Close())
	day := layout.EpochOf(ms(midnight.Add(time.Hour)))
	slot := ms(midnight.Add(time.Hour + 5*time.Minute))
	wrongTotal := rowcodec.Row{Profiles: 1, Totals: []int64{5, 7}, Nodes: []uint32{1}, Values: [][]int64{{5}, {6}}}
	farNode := rowcodec.Row{Profiles: 1, Totals: []int64{5, 6}, Nodes: []uint32{99}, Values: [][]int64{{5}, {6}}}
	for want, change := range map[string]func(b *pebble.Batch){
		"offset": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindRow, layout.LevelSlot, 0, slot), []byte{1, 2}, nil)
		},
		"its values are": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindRow, layout.LevelFine, 0, slot), wrongTotal.Append(nil), nil)
		},
		"node 99, service 0 has": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindRow, layout.LevelFine, 0, slot), farNode.Append(nil), nil)
		},
		"stream 7 is not known": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindRow, layout.LevelFine, 7, slot), farNode.Append(nil), nil)
		},
		"is not marked": func(b *pebble.Batch) { b.Delete(layout.TableKey(day, 1, ""), nil) },
		"a segment is missing": func(b *pebble.Batch) {
			b.Set(layout.SegmentKey(day, 0, 50), []byte{1, 1, 1, 1, 50, 0, 0, 0, 0, 0}, nil)
		},
		"service 3 is missing": func(b *pebble.Batch) {
			b.Set(layout.StreamKey(day, 1), labelindex.AppendStream(nil, 3, &labelindex.Definition{}), nil)
		},
		"service 0 is missing": func(b *pebble.Batch) { b.Delete(layout.PartitionKey(day, 0), nil) },
		"service 4 is missing": func(b *pebble.Batch) { b.Set(layout.SegmentKey(day, 4, 1), []byte{1}, nil) },
		"service 4294967295 of at most": func(b *pebble.Batch) {
			b.Set(layout.PartitionKey(day, math.MaxUint32), []byte("x"), nil)
		},
		"profiles of [": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindRow, layout.LevelSlot, 0, slot), wrongWindow(), nil)
		},
		"points, there are": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindPoints, layout.LevelSlot, 0, slot), wrongPoints(slot), nil)
		},
		"it belongs to is missing": func(b *pebble.Batch) {
			s := rowcodec.Spans{Tags: []rowcodec.Tag{{Span: 5}}, Counts: []int{1}, Nodes: []uint32{1}, Values: [][]int64{{5}, {6}}}
			b.Set(layout.ProfileKey(day, layout.KindSpans, 0, slot+1, 7), s.Append(nil), nil)
		},
		"unknown key": func(b *pebble.Batch) { b.Set(append(layout.KindKey(day, 'y'), 1, 2, 3, 4), nil, nil) },
		"slots":       func(b *pebble.Batch) { b.Set(layout.PendingKey(day, 1, 0), []byte{255, 255, 255}, nil) },
		"none of this day's": func(b *pebble.Batch) {
			b.Set(layout.WindowKey(day, layout.KindRow, layout.LevelFine, 0, slot+layout.DayMs), nil, nil)
		},
		"no format version": func(b *pebble.Batch) { b.Delete(layout.FormatKey(), nil) },
	} {
		t.Run(want, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
			p, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: pebble.DefaultLogger})
			require.NoError(t, err)
			b := p.NewBatch()
			change(b)
			require.NoError(t, b.Commit(pebble.Sync))
			require.NoError(t, p.Close())
			v, err := Verify(ctx, dir)
			require.NoError(t, err)
			require.NotEmpty(t, v.Damage)
			require.Contains(t, fmt.Sprint(v.Damage), want)
		})
	}
}

func wrongWindow() []byte {
	r := rowcodec.Row{Profiles: 2, Totals: []int64{5, 6}, Nodes: []uint32{1}, Values: [][]int64{{5}, {6}}}
	return r.Append(nil)
}

func wrongPoints(end int64) []byte {
	return rowcodec.AppendPoints(nil, end-layout.SlotMs, []int64{end}, [][]int64{{5}, {6}}, []uint64{0})
}
