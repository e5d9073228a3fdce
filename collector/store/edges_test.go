package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

// Profiles every 10 s of two pods over three slots, in which the n-th of a pod
// has n samples of its own stacktrace.
func edgesStore(t *testing.T) (db *DB, total func(lo, hi int, pods int, without ...int) int64) {
	db = open(t, t.TempDir())
	var ps []profile.Profile
	for n := 1; n <= 90; n++ {
		for pod := range 2 {
			p := folded(midnight.Add(time.Duration(n)*10*time.Second), fmt.Sprintf("main;f%d %d", n%7, n))
			ps = append(ps, cpu(p, labelindex.LabelServiceName, "app", "pod", fmt.Sprint(pod)))
		}
	}
	require.NoError(t, db.Append(context.Background(), ps))
	require.NoError(t, db.maintain(context.Background(), 0))
	return db, func(lo, hi, pods int, without ...int) (sum int64) {
		for n := lo + 1; n <= hi; n++ {
			sum += int64(n) * int64(pods)
		}
		for _, n := range without {
			if n > lo && n <= hi {
				sum -= int64(n) // of one pod
			}
		}
		return sum * 1e7
	}
}

// between selects the profiles after the lo-th up to the hi-th.
func between(lo, hi int, selectors ...string) query.Selection {
	sel := everything(selectors...)
	at := func(n int) int64 { return ms(midnight.Add(time.Duration(n) * 10 * time.Second)) }
	sel.Start, sel.End = at(lo)+1, at(hi)
	return sel
}

func TestEndsOfRanges(t *testing.T) {
	t.Parallel()
	db, total := edgesStore(t)
	rows := func() float64 { return testutil.ToFloat64(db.metrics.ReadRows) }
	for _, c := range []struct {
		selector string
		pods     int
	}{{`{}`, 2}, {`{pod="0"}`, 1}} {
		step := 1
		if testing.Short() {
			step = 7
		}
		for lo := 0; lo < 90; lo += step {
			for hi := lo + 1; hi <= 90; hi++ {
				before := rows()
				tree, err := db.Tree(context.Background(), between(lo, hi, c.selector), nil)
				require.NoError(t, err)
				require.Equal(t, total(lo, hi, c.pods), tree.Total(), "%s from %d to %d", c.selector, lo, hi)
				// 18 of the 30 profiles of a slot at most, at either end, and three windows.
				require.LessOrEqual(t, rows()-before, float64(2*18*c.pods+3), "%s from %d to %d", c.selector, lo, hi)
			}
		}
	}
}

// A damaged row is left out where it is in the range and no window serves, and does
// no harm where it is not. Damaged windows are left out for rows.
func TestEndsOfRangesWithDamage(t *testing.T) {
	t.Parallel()
	const bad = 5 // of the first slot's 30
	for name, c := range map[string]struct {
		damage func(t *testing.T, key []byte) bool
		lost   []int
	}{
		"profile": {func(_ *testing.T, key []byte) bool {
			at, _ := layout.WindowTime(key)
			return key[5] == layout.LevelFine && layout.KeyStream(key) == 0 && at == ms(midnight.Add(bad*10*time.Second))
		}, []int{bad}},
		"windows": {func(_ *testing.T, key []byte) bool { return key[5] == layout.LevelSlot }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			db, total := edgesStore(t)
			var keys [][]byte
			require.NoError(t, db.kv.Each(layout.KindKey(layout.EpochOf(ms(midnight)+1), layout.KindRow), func(key, _ []byte) error {
				if c.damage(t, key) {
					keys = append(keys, append([]byte(nil), key...))
				}
				return nil
			}))
			require.NotEmpty(t, keys)
			for _, key := range keys {
				require.NoError(t, db.kv.Pebble.Set(key, []byte{0xff}, pebble.Sync))
			}
			for lo := range 30 {
				for hi := lo + 1; hi <= 60; hi++ {
					lost := c.lost
					if min(hi, 30)-lo > 18 && lo < bad && hi >= bad {
						lost = nil // the window has what the row had
					}
					tree, err := db.Tree(context.Background(), between(lo, hi), nil)
					require.NoError(t, err)
					require.Equal(t, total(lo, hi, 2, lost...), tree.Total(), "from %d to %d", lo, hi)
				}
			}
			require.NotZero(t, testutil.ToFloat64(db.metrics.Corrupt))
		})
	}
}

// A window may have what was lost of its rows. It is in the ranges that have all of
// the window, and in no others.
func TestEndsOfRangesWithLostRows(t *testing.T) {
	t.Parallel()
	db, total := edgesStore(t)
	const lost = 29 // of the first slot's 30
	epoch := layout.EpochOf(ms(midnight) + 1)
	var keys [][]byte
	require.NoError(t, db.kv.Each(layout.KindKey(epoch, layout.KindRow), func(key, _ []byte) error {
		at, _ := layout.WindowTime(key)
		if key[5] == layout.LevelFine && layout.KeyStream(key) == 0 && at == ms(midnight.Add(lost*10*time.Second)) {
			keys = append(keys, append([]byte(nil), key...))
		}
		return nil
	}))
	require.Len(t, keys, 1)
	require.NoError(t, db.kv.Pebble.Delete(keys[0], pebble.Sync))
	db = rebuilt(t, db, func() *DB { return open(t, db.kv.Dir, func(o *Options) { o.fs = db.options.fs }) })
	for lo := range 30 {
		for hi := lo + 1; hi <= 60; hi++ {
			if lo == 0 && hi >= 30 {
				continue
			}
			tree, err := db.Tree(context.Background(), between(lo, hi), nil)
			require.NoError(t, err)
			require.Equal(t, total(lo, hi, 2, lost), tree.Total(), "from %d to %d", lo, hi)
			p, err := mergePprof(context.Background(), db, between(lo, hi), nil)
			require.NoError(t, err)
			sum := int64(0)
			for _, s := range p.Sample {
				sum += s.Value[0]
			}
			require.Equal(t, tree.Total(), sum, "from %d to %d", lo, hi)
		}
	}
}
