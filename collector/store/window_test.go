package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// countRows counts rows by level.
func countRows(t *testing.T, db *DB) (n [layout.Levels]int) {
	t.Helper()
	for _, id := range db.epochs.Between(0, 1<<62) {
		require.NoError(t, db.kv.Each(layout.KindKey(id, layout.KindRow), func(key, _ []byte) error {
			n[key[5]]++
			return nil
		}))
	}
	return n
}

// dropWindows deletes all merged rows and points, so that answers come from the
// profiles alone.
func dropWindows(t *testing.T, db *DB) {
	t.Helper()
	for _, id := range db.epochs.Between(0, 1<<62) {
		rows := layout.KindKey(id, layout.KindRow)
		require.NoError(t, db.kv.Pebble.DeleteRange(append(bytes.Clone(rows), layout.LevelSlot), layout.After(rows), pebble.Sync))
		points := layout.KindKey(id, layout.KindPoints)
		require.NoError(t, db.kv.Pebble.DeleteRange(points, layout.After(points), pebble.Sync))
	}
}

type answer struct {
	tree   []string
	series []query.Series
	pprof  map[string]int64
}

func ask(t *testing.T, db *DB, start, end int64) (a answer) {
	t.Helper()
	ctx := context.Background()
	sel := query.Selection{Type: cpuType, Start: start, End: end}
	tree, err := db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	a.tree = draw(tree)
	a.series, err = db.Points(ctx, query.SeriesRequest{Selection: sel, Step: time.Duration(max((end-start)/20, 1)) * time.Millisecond, GroupBy: []string{"pod"}})
	require.NoError(t, err)
	p, err := mergePprof(ctx, db, sel, nil)
	require.NoError(t, err)
	a.pprof = stacks(googleOf(t, p), 0)
	return a
}

func TestWindowsEqualProfiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ pods, days int }{
		"streams":    {1, 2},
		"aggregates": {7, 2 * (7 + 1)}, // enough for windows of the service
	} {
		t.Run(name, func(t *testing.T) { testWindowsEqualProfiles(t, c.pods, 2*c.days) })
	}
}

// testWindowsEqualProfiles checks that there are as many rows of days as wanted.
func testWindowsEqualProfiles(t *testing.T, pods, days int) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(8, 8))
	now := midnight.Add(60 * time.Hour)
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return now } })
	add := func(n int) {
		for range n {
			// Many at the very edges of windows, and a quiet stretch in between.
			at := time.Duration(r.Int64N(int64(36 * time.Hour)))
			switch r.IntN(3) {
			case 0:
				at = at.Truncate(5 * time.Minute)
			case 1:
				at = at.Truncate(time.Hour) + time.Millisecond
			}
			if at > 5*time.Hour && at < 9*time.Hour {
				at += 4 * time.Hour
			}
			p := folded(midnight.Add(time.Millisecond+at), fmt.Sprintf("main;f%d;g%d %d", r.IntN(9), r.IntN(9), 1+r.IntN(5)), "main 1")
			require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, labelindex.LabelServiceName, fmt.Sprint("s", r.IntN(2)), "pod", fmt.Sprint(r.IntN(pods)))}))
		}
	}
	type question struct{ start, end int64 }
	questions := []question{{ms(midnight), ms(now)}, {ms(midnight) + 1, ms(midnight) + layout.DayMs}, {ms(midnight) + layout.HourMs, ms(midnight) + 2*layout.HourMs}}
	for range storetest.Rounds(40) {
		a, b := ms(midnight)+r.Int64N(36*layout.HourMs), ms(midnight)+r.Int64N(36*layout.HourMs)
		questions = append(questions, question{min(a, b), max(a, b)})
	}
	var answers []answer
	compare := func(name string) {
		t.Helper()
		for i, q := range questions {
			require.Equal(t, answers[i], ask(t, db, q.start, q.end), "%s: question %d", name, i)
		}
	}
	learn := func() {
		answers = nil
		for _, q := range questions {
			answers = append(answers, ask(t, db, q.start, q.end))
		}
	}
	add(1500)
	learn()
	require.Zero(t, countRows(t, db)[layout.LevelSlot])
	require.NoError(t, db.maintain(ctx, 0))
	rows := countRows(t, db)
	require.NotZero(t, rows[layout.LevelSlot])
	require.NotZero(t, rows[layout.LevelHour])
	// The first day is over, so all its streams have a row; the second is too,
	// though profiles fill half of it.
	require.Equal(t, days, rows[layout.LevelDay])
	compare("merged")

	add(60) // late
	require.Less(t, countRows(t, db)[layout.LevelSlot], rows[layout.LevelSlot])
	late := answers
	learn()
	require.NotEqual(t, late, answers)
	require.NoError(t, db.maintain(ctx, 0))
	require.GreaterOrEqual(t, countRows(t, db)[layout.LevelSlot], rows[layout.LevelSlot])
	compare("late")
	dropWindows(t, db)
	compare("profiles alone")
}

// TestWindowsAreUsed fails if answers come from profiles where a merged row could
// serve.
func TestWindowsAreUsed(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return midnight.Add(30 * time.Hour) } })
	for i := range 24 * 60 {
		p := folded(midnight.Add(time.Duration(i)*time.Minute+time.Second), "main 1")
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}))
	}
	require.NoError(t, db.maintain(ctx, 0))
	read := func(start, end time.Duration) (n [layout.Levels]int) {
		from := db.epochs.Snapshot()
		s := scan.New(ctx, db.kv, from, layout.EpochOf(ms(midnight)+1))
		err := s.Stream(layout.KindRow, layout.LevelDay, 0, ms(midnight.Add(start)), ms(midnight.Add(end)), func(w scan.Window) error {
			n[w.Level]++
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, from.Close())
		return n
	}
	require.Equal(t, [layout.Levels]int{0, 0, 0, 1}, read(0, 24*time.Hour))
	require.Equal(t, [layout.Levels]int{0, 0, 23, 0}, read(0, 23*time.Hour))
	require.Equal(t, [layout.Levels]int{5, 11 + 4, 2, 0}, read(3*time.Minute, 200*time.Minute+3*time.Minute))
	require.Equal(t, [layout.Levels]int{2, 0, 0, 0}, read(time.Minute, 3*time.Minute))
}

func TestOpenHoursSurviveReopening(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	now := midnight.Add(10*time.Hour + 7*time.Minute)
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	db := open(t, dir, clock)
	for i := range 7 {
		p := folded(midnight.Add(10*time.Hour+time.Duration(i)*time.Minute+time.Second), "main 1")
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}))
	}
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, [layout.Levels]int{7, 1, 0, 0}, countRows(t, db))
	require.NoError(t, db.Close())

	db = open(t, dir, clock)
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, [layout.Levels]int{7, 1, 0, 0}, countRows(t, db))
	now = midnight.Add(11 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, [layout.Levels]int{7, 2, 1, 0}, countRows(t, db))
	require.NoError(t, db.Close())

	db = open(t, dir, clock)
	now = midnight.Add(24 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, [layout.Levels]int{7, 2, 1, 1}, countRows(t, db))
	require.Empty(t, db.epochs.Cache.Peek(budget.Key{Epoch: layout.EpochOf(ms(midnight) + 1), Partition: budget.EpochItself}).Value.(*epochs.Epoch).Unmerged)
}

// TestDamagedValuesAreLeftOut overwrites values with parts of themselves and
// with noise. Answers must not fail, and must have what is whole.
func TestDamagedValuesAreLeftOut(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := rand.New(rand.NewPCG(9, 9))
	noise := func(v []byte) []byte {
		switch r.IntN(3) {
		case 0:
			return bytes.Clone(v[:r.IntN(len(v)+1)])
		case 1:
			v = bytes.Clone(v)
			v[r.IntN(len(v))] ^= 1 << r.IntN(8)
			return v
		}
		out := make([]byte, r.IntN(50))
		binary.LittleEndian.PutUint64(append(out, 1, 2, 3, 4, 5, 6, 7, 8)[:8], r.Uint64())
		return out
	}
	for _, kind := range []byte{layout.KindStream, layout.KindFind, layout.KindLabels, layout.KindPending, layout.KindDirty, layout.KindSegment, layout.KindRow, layout.KindPoints} {
		t.Run(string(kind), func(t *testing.T) {
			for range 6 {
				dir := t.TempDir()
				clock := func(o *Options) { o.Now = func() time.Time { return midnight.Add(2 * time.Hour) } }
				db := open(t, dir, clock)
				add := func(service string, n int) error {
					p := folded(midnight.Add(time.Duration(n)*time.Minute+time.Second), fmt.Sprintf("main;f%d;g%d 2", n, n), "main;f0 1")
					return db.Append(ctx, []profile.Profile{cpu(p, labelindex.LabelServiceName, service)})
				}
				for n := range 20 {
					require.NoError(t, add("damaged", n))
					require.NoError(t, add("whole", n))
				}
				if kind != layout.KindPending { // they go then
					require.NoError(t, db.maintain(ctx, 0))
				}
				var keys, values [][]byte
				require.NoError(t, db.kv.Each(layout.KindKey(layout.EpochOf(ms(midnight)+1), kind), func(key, value []byte) error {
					// Numbers of the damaged service are even ones: it came first.
					// Tables and hashes are of both.
					id := key[len(layout.KindKey(0, kind)):]
					switch kind {
					case layout.KindRow, layout.KindPoints, layout.KindPending:
						id = id[1:]
					case layout.KindLabels, layout.KindFind:
						id = make([]byte, 4)
					}
					if binary.BigEndian.Uint32(id) == 0 {
						keys, values = append(keys, bytes.Clone(key)), append(values, bytes.Clone(value))
					}
					return nil
				}))
				require.NotEmpty(t, keys)
				for i, k := range keys {
					if i == 0 || r.IntN(2) == 0 {
						require.NoError(t, db.kv.Pebble.Set(k, noise(values[i]), pebble.Sync))
					}
				}
				require.NoError(t, db.Close())
				db = open(t, dir, clock)
				tree, err := db.Tree(ctx, everything(`{service_name="whole"}`), nil)
				require.NoError(t, err)
				require.EqualValues(t, 20*3e7, tree.Total())
				ask(t, db, ms(midnight), ms(midnight)+layout.DayMs)
				_, err = db.Stats(ctx)
				require.NoError(t, err)
				require.NoError(t, db.maintain(ctx, 0))
				require.NoError(t, add("damaged", 70))
				require.NoError(t, add("whole", 70))
				tree, err = db.Tree(ctx, query.Selection{Type: cpuType, Start: ms(midnight) + layout.HourMs, End: ms(midnight) + 2*layout.HourMs}, nil)
				require.NoError(t, err)
				require.EqualValues(t, 2*3e7, tree.Total())
			}
		})
	}
}
