package kv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/storetest"
)

func open(t *testing.T, dir string) *pebble.DB {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	fs := guardfs.New(vfs.Default, dir, 0, log, guardfs.NewFailure(log))
	o := kv.PebbleOptions(fs, 0, kv.Logger{Log: log})
	o.DisableAutomaticCompactions = true
	o.EventListener = &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) { fs.Bad.Find(fs.FS, info.Path) }}
	db, err := pebble.Open(dir, o)
	require.NoError(t, err)
	return db
}

func testKey(n int) []byte {
	return binary.BigEndian.AppendUint64(bytes.Repeat([]byte{1}, 10), uint64(n))
}

// TestCorruptTables flips bits in some of the tables of a database, which lie beside and
// upon each other: every key of the other tables is found, from wherever one looks.
func TestCorruptTables(t *testing.T) {
	original := filepath.Join(t.TempDir(), "db")
	db := open(t, original)
	r := rand.New(rand.NewPCG(3, 9))
	groups := [][3]int{{0, 100, 1}, {300, 400, 2}, {301, 401, 2}, {600, 700, 1}} // first, end and step of keys
	in := map[int]int{}                                                          // group by key
	for g, group := range groups {
		for n := group[0]; n < group[1]; n += group[2] {
			value := make([]byte, 3000)
			for i := range value {
				value[i] = byte(r.Uint32())
			}
			require.NoError(t, db.Set(testKey(n), value, pebble.NoSync))
			in[n] = g
		}
		require.NoError(t, db.Flush())
		if g == 0 {
			require.NoError(t, db.Compact(context.Background(), []byte{0}, []byte{255}, false))
		}
	}
	tables := make([]string, len(groups))
	levels, err := db.SSTables()
	require.NoError(t, err)
	for _, level := range levels {
		for _, info := range level {
			first := int(binary.BigEndian.Uint64(info.Smallest.UserKey[10:]))
			g := slices.IndexFunc(groups, func(g [3]int) bool { return g[0] == first })
			require.GreaterOrEqual(t, g, 0)
			tables[g] = fmt.Sprintf("%06d.sst", info.BackingSSTNum)
		}
	}
	require.NotContains(t, tables, "")
	require.NoError(t, db.Close())

	for round := range storetest.Rounds(16) {
		dir := filepath.Join(t.TempDir(), "db")
		require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
		damaged := map[int]bool{} // by group
		for range 1 + round%3 {
			g := r.IntN(len(tables))
			name := tables[g]
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			at := r.IntN(len(b))
			if round%2 == 0 {
				at = len(b) - 1 - r.IntN(1000) // its index and what it says of itself
			}
			b[at] ^= 1
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			damaged[g] = true
		}
		db := open(t, dir)
		for _, from := range []int{0, 50, 200, 350, 500, 650} {
			got := map[int]bool{}
			gaps := 0
			it, err := kv.NewIterator(db, testKey(0), testKey(1000), func(g corruption.Gap, err error) {
				require.Error(t, err)
				require.Less(t, bytes.Compare(g.From, g.To), 0)
				gaps++
			})
			require.NoError(t, err)
			last := -1
			for ok := it.SeekGE(testKey(from)); ok; ok = it.Next() {
				n := int(binary.BigEndian.Uint64(it.Key()[10:]))
				require.Greater(t, n, last)
				last = n
				got[n] = true
			}
			require.NoError(t, it.Error())
			missing := 0
			for n, group := range in {
				if n < from || got[n] {
					continue
				}
				missing++
				// A gap of one of two tables may hide keys of the other between.
				hidden := n >= 300 && n <= 400 && (damaged[1] || damaged[2])
				require.True(t, damaged[group] || hidden, "key %d of group %d, from %d, damaged are %v", n, group, from, damaged)
			}
			if missing > 0 {
				require.Positive(t, gaps)
			}
			// Seeks one after the other find the same.
			for n := from; n < 700; n += 7 {
				if it.SeekGE(testKey(n)) {
					k := int(binary.BigEndian.Uint64(it.Key()[10:]))
					// Of two gaps that are close to each other one may be taken for both.
					require.True(t, got[k] || len(damaged) > 1, "round %d from %d: a seek to %d finds %d, damaged are %v", round, from, n, k, damaged)
					for between := n; between < k; between++ {
						require.False(t, got[between], "round %d: %d after a seek to %d, damaged are %v", round, between, n, damaged)
					}
				}
			}
			require.NoError(t, it.Close())
		}
		require.NoError(t, db.Close())
	}
}
