package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// TestRebuild takes keys away of which others say enough: after the rebuild, everything
// is found, merged and dropped as if nothing were missing.
func TestRebuild(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	original := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, original)
	first := layout.EpochOf(ms(midnight) + 1)
	days := []uint32{first, first + 1, first + 2}
	lose := func(kind byte, which func(day uint32, key, value []byte) bool) func(*testing.T, *DB) {
		return func(t *testing.T, db *DB) {
			lost := 0
			for _, day := range days {
				require.NoError(t, db.kv.Each(layout.KindKey(day, kind), func(key, value []byte) error {
					if which != nil && !which(day, key, value) {
						return nil
					}
					lost++
					return db.kv.Pebble.Delete(bytes.Clone(key), pebble.NoSync)
				}))
			}
			require.Positive(t, lost)
		}
	}
	level := func(n byte) func(uint32, []byte, []byte) bool {
		// Of the first hours single profiles are not there to make windows of.
		return func(_ uint32, key, _ []byte) bool {
			at, _ := layout.WindowTime(key)
			return key[5] == n && at > ms(midnight.Add(damageDropped))
		}
	}
	damages := map[string]func(*testing.T, *DB){
		"horizons": lose(layout.KindWatermark, nil),
		"streams": lose(layout.KindStream, func(day uint32, _, value []byte) bool {
			_, def, err := labelindex.ReadStream(value)
			return day < first+2 && err == nil && !def.IsAggregate()
		}),
		"services":          lose(layout.KindPartition, nil),
		"hashes":            lose(layout.KindFind, nil),
		"tables":            lose(layout.KindLabels, nil),
		"heads of tables":   lose(layout.KindLabels, func(_ uint32, key, _ []byte) bool { return len(key) == 6 }),
		"columns of tables": lose(layout.KindLabels, func(_ uint32, key, _ []byte) bool { return string(key[6:]) == "pod" }),
		"pending":           lose(layout.KindPending, nil),
		"marks":             lose(layout.KindDirty, nil),
		"5 minutes":         lose(layout.KindRow, level(layout.LevelSlot)),
		"hours":             lose(layout.KindRow, level(layout.LevelHour)),
		"days":              lose(layout.KindRow, func(_ uint32, key, _ []byte) bool { return key[5] == layout.LevelDay }),
		"points":            lose(layout.KindPoints, level(layout.LevelHour)),
		"a deletion of points": func(t *testing.T, db *DB) {
			end := layout.EpochStart(days[1]) + 10*layout.HourMs
			stale := rowcodec.AppendPoints(nil, end-layout.HourMs, nil, [][]int64{{}, {}}, nil)
			require.NoError(t, db.kv.Pebble.Set(layout.WindowKey(days[1], layout.KindPoints, layout.LevelHour, 0, end), stale, nil))
		},
		"a deletion": func(t *testing.T, db *DB) {
			stale := rowcodec.Row{Profiles: 0, Totals: []int64{0, 0}}
			require.NoError(t, db.kv.Pebble.Set(layout.WindowKey(days[1], layout.KindRow, layout.LevelHour, 0, layout.EpochStart(days[1])+10*layout.HourMs), stale.Append(nil), nil))
		},
	}
	for n, name := range slices.Sorted(maps.Keys(damages)) {
		if testing.Short() && n%4 != 0 {
			continue
		}
		damage := damages[name]
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
			db := open(t, dir, damageOptions)
			damage(t, db)
			db = rebuilt(t, db, func() *DB { return open(t, dir, damageOptions) })
			complete := func() {
				t.Helper()
				require.Len(t, found(t, db), damageProfiles)
				series, err := db.Points(ctx, query.SeriesRequest{
					Selection: query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(72 * time.Hour))}, Step: time.Hour,
				})
				require.NoError(t, err)
				sum := 0.0
				for _, p := range series[0].Points {
					sum += p.Value
				}
				tree, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(72 * time.Hour))}, nil)
				require.NoError(t, err)
				require.EqualValues(t, tree.Total(), sum)
				pods, err := db.LabelValues(ctx, "pod", nil, 0, 0)
				require.NoError(t, err)
				require.Len(t, pods, 5)
			}
			complete()
			late := damageProfile(3)
			late.ID = "late"
			require.ErrorIs(t, db.Append(ctx, []profile.Profile{late}), storeerr.ErrInvalid, "of an hour that was dropped")
			require.NoError(t, db.maintain(ctx, 0))
			complete()
			require.NoError(t, db.Close())
			v, err := Verify(ctx, dir)
			require.NoError(t, err)
			require.Empty(t, v.Damage)
			db = open(t, dir, damageOptions, func(o *Options) { o.RetentionRaw = 10 * time.Hour })
			require.NoError(t, db.maintain(ctx, 0))
			complete()
		})
	}
}

// A service without a name is served, and takes profiles, before and after a rebuild.
func TestServiceWithoutName(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, dir)
	day := layout.EpochOf(ms(midnight.Add(71 * time.Hour)))
	db := open(t, dir, damageOptions)
	value, closer, err := db.kv.Pebble.Get(layout.PartitionKey(day, 1))
	require.NoError(t, err)
	name := bytes.Clone(value)
	require.NoError(t, closer.Close())
	require.NoError(t, db.kv.Pebble.Delete(layout.PartitionKey(day, 1), pebble.Sync))
	long := append(layout.StreamKey(day, epochs.MaxStreams-1), 0) // which is the key of none
	require.NoError(t, db.kv.Pebble.Set(long, nil, pebble.Sync))
	require.NoError(t, db.Close())
	db = open(t, dir, damageOptions)
	require.Len(t, found(t, db), damageProfiles)
	want := int64(0)
	add := func(services ...string) {
		t.Helper()
		for _, name := range services {
			want++
			late := cpu(folded(midnight.Add(69*time.Hour).Add(time.Duration(want)*time.Second), "main;late 1"), labelindex.LabelServiceName, name)
			require.NoError(t, db.Append(ctx, []profile.Profile{late}))
		}
		for range 2 {
			require.Len(t, found(t, db), damageProfiles)
			selected := everything("{}")
			selected.End = ms(midnight.Add(72 * time.Hour))
			tree, err := db.Tree(ctx, selected, []string{"main", "late"})
			require.NoError(t, err)
			require.Equal(t, want*1e7, tree.Total())
			require.NoError(t, db.maintain(ctx, 0))
		}
	}
	add(string(name))
	db = rebuilt(t, db, func() *DB { return open(t, dir, damageOptions) })
	add(string(name), "new")
}

// Where profiles are missing that are in a merged row, it is the one to go on with.
func TestRebuildKeepsMergedRows(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "store")
	makeDamageStore(t, dir)
	db := open(t, dir, damageOptions)
	day := layout.EpochOf(ms(midnight.Add(40 * time.Hour)))
	hours := everything(`{pod="1"}`) // not what the service's rows serve
	hours.Start, hours.End = ms(midnight.Add(40*time.Hour))+1, ms(midnight.Add(46*time.Hour))
	want, err := db.Tree(ctx, hours, nil)
	require.NoError(t, err)
	for level, kinds := range map[int][]byte{layout.LevelFine: {layout.KindRow}, layout.LevelHour: {layout.KindRow, layout.KindPoints}, layout.LevelDay: {layout.KindRow}} {
		for _, kind := range kinds {
			require.NoError(t, db.kv.Each(layout.LevelPrefix(day, kind, level), func(key, _ []byte) error {
				// Up to where there are windows of five minutes.
				if at, _ := layout.WindowTime(key); at > ms(midnight.Add(40*time.Hour)) && (at <= ms(midnight.Add(46*time.Hour)) || level == layout.LevelDay) {
					return db.kv.Pebble.Delete(bytes.Clone(key), pebble.NoSync)
				}
				return nil
			}))
		}
	}
	db = rebuilt(t, db, func() *DB { return open(t, dir, damageOptions) })
	require.Len(t, found(t, db), damageProfiles)
	db.epochs.Retention.Raw = 10 * time.Hour
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, uint8(layout.HoursPerEpoch), db.epochs.Watermarks.Of(day)[layout.LevelFine])
	require.Len(t, found(t, db), damageProfiles)
	db.epochs.Retention.Slot = 11 * time.Hour
	require.NoError(t, db.maintain(ctx, 0))
	require.Len(t, found(t, db), damageProfiles)
	got, err := db.Tree(ctx, hours, nil)
	require.NoError(t, err)
	require.Equal(t, draw(want), draw(got))
}

// A profile that is missing can be sent again under its ID.
func TestRebuildForgetsIDsOfMissingProfiles(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	ps := []profile.Profile{identified("kept", midnight.Add(time.Hour)), identified("lost", midnight.Add(2*time.Hour))}
	require.NoError(t, db.Append(ctx, ps))
	day := layout.EpochOf(ms(midnight) + 1)
	gone := errors.New("gone")
	err := db.kv.Each(layout.LevelPrefix(day, layout.KindRow, layout.LevelFine), func(key, _ []byte) error {
		if at, _ := layout.WindowTime(key); at == ms(midnight.Add(2*time.Hour)) {
			return errors.Join(gone, db.kv.Pebble.Delete(bytes.Clone(key), pebble.NoSync))
		}
		return nil
	})
	require.ErrorIs(t, err, gone)
	db = rebuilt(t, db, func() *DB { return open(t, db.kv.Dir) })
	ids := 0
	require.NoError(t, db.kv.Each(layout.KindKey(day, layout.KindID), func(_, value []byte) error {
		at, _ := binary.Uvarint(value)
		require.EqualValues(t, ms(midnight.Add(time.Hour)), at)
		ids++
		return nil
	}))
	require.Equal(t, 1, ids)
	require.NoError(t, db.Append(ctx, ps[1:]))
	require.EqualValues(t, 2, storedProfiles(t, db))
}
