package store

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/repair"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/collector/store/internal/verify"
)

// FuzzRowIdentity encodes rows and reads them as they were.
func FuzzRowIdentity(f *testing.F) {
	f.Add(uint64(1), []byte{3, 1, 0, 7, 200})
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		r := rand.New(rand.NewPCG(seed, 9))
		types := 1 + r.IntN(4)
		in := rowcodec.Row{Profiles: uint64(r.Uint32()) >> r.IntN(32), Duration: r.Uint64() >> r.IntN(64), Totals: make([]int64, types), Values: make([][]int64, types)}
		in.Parts = r.Uint64N(in.Profiles + 1)
		node := uint32(0)
		for _, b := range data {
			node += 1 + uint32(b)
			in.Nodes = append(in.Nodes, node)
			for c := range types {
				v := int64(r.Uint64() >> 1 >> r.IntN(63))
				v -= v % int64(1+b%7)
				in.Values[c] = append(in.Values[c], v)
				in.Totals[c] = (in.Totals[c] + v) & math.MaxInt64
			}
		}
		var p rowcodec.PackedRow
		var tmp rowcodec.Scratch
		require.NoError(t, p.Decode(in.Append(nil)))
		require.Equal(t, in.Profiles, p.Profiles)
		require.Equal(t, in.Parts, p.Parts)
		require.Equal(t, in.Duration, p.Duration)
		require.Equal(t, in.Totals, p.Totals)
		for c := range types {
			got := make([]int64, node+1)
			require.NoError(t, p.AddTo(bitpack.Sums{Values: got}, c, 1, &tmp))
			for i, n := range in.Nodes {
				require.Equal(t, in.Values[c][i], got[n])
			}
		}
	})
}

// FuzzPointsIdentity encodes points and reads them as they were.
func FuzzPointsIdentity(f *testing.F) {
	f.Add(int64(1e12), uint64(1), []byte{1, 0, 250})
	f.Fuzz(func(t *testing.T, start int64, seed uint64, gaps []byte) {
		if start < 0 || start > 1<<50 {
			return
		}
		r := rand.New(rand.NewPCG(seed, 10))
		times, totals := []int64{}, [][]int64{{}, {}}
		at := start
		for _, g := range gaps {
			at += int64(g) * 1000
			times = append(times, at)
			for c := range totals {
				totals[c] = append(totals[c], int64(r.Uint64()>>1>>r.IntN(63)))
			}
		}
		var l rowcodec.PointList
		for c := range totals {
			require.NoError(t, l.Decode(rowcodec.AppendPoints(nil, start, times, totals, make([]uint64, len(times))), start, c))
			require.True(t, slices.Equal(times, l.Times) && slices.Equal(totals[c], l.Values))
		}
	})
}

// FuzzSegmentIdentity reads a segment and writes it as it was.
func FuzzSegmentIdentity(f *testing.F) {
	_, segments := fuzzDictionary()
	f.Add(segments[0])
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(b []byte) (*symdb.Dictionary, error) {
			d := symdb.NewDictionary()
			return d, d.ReadSegment(b)
		}
		first, err := read(data)
		if err != nil {
			return
		}
		second, err := read(first.AppendSegment(nil, symdb.NewDictionary().Sizes()))
		require.NoError(t, err)
		require.Equal(t, first.View, second.View)
	})
}

// FuzzKeys loads and checks an epoch of any keys and values.
func FuzzKeys(f *testing.F) {
	f.Add(layout.PartitionKey(1, 0)[4:], []byte("service"))
	f.Add(layout.StreamKey(1, 0)[4:], []byte{})
	f.Add(append(layout.KindKey(1, layout.KindDirty), 0, 0, 0, 0, 3)[4:], []byte{7})
	f.Add(layout.DirtyKey(1, 0, epochs.WholeDay)[4:], []byte{1})
	f.Add(layout.PendingKey(1, 3, 0)[4:], []byte{7})
	f.Add(layout.FindKey(1, 77)[4:], []byte{2, 0, 9})
	f.Add(layout.TableKey(1, 3, "pod")[4:], []byte{0, 0, 0, 0, 0, 0})
	f.Add(layout.IDKey(1, 0, 5)[4:], []byte{9})
	f.Add(layout.WatermarkKey(1)[4:], []byte{24, 3, 0})
	f.Add(layout.SegmentKey(1, 0, 1)[4:], []byte{1, 1, 1, 0, 1, 0, 0, 0, 0, 0})
	f.Add(layout.WindowKey(1, layout.KindRow, layout.LevelSlot, 0, layout.DayMs+layout.SlotMs)[4:], []byte{1, 0, 0, 0})
	f.Add(layout.WindowKey(1, layout.KindPoints, layout.LevelHour, 0, layout.DayMs+layout.HourMs)[4:], []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, rest, value []byte) {
		key := append(layout.EpochKey(1), rest...)
		corruption.DescribeKey(key)
		corruption.KeyTimes(key, key)
		layout.WindowTime(key)
		if len(rest) == 0 {
			return
		}
		fs := vfs.NewMem()
		db := open(t, "store", func(o *Options) { o.fs = fs })
		b := db.kv.Pebble.NewBatch()
		b.Set(layout.PartitionKey(1, 0), []byte("service"), nil)
		b.Set(layout.StreamKey(1, 0), labelindex.AppendStream(nil, 0, &labelindex.Definition{Types: []labelindex.ValueType{{Name: "cpu", Unit: "ns"}}}), nil)
		b.Set(key, value, nil)
		require.NoError(t, b.Commit(nil))
		if u, err := db.epochs.Acquire(1); err == nil {
			require.LessOrEqual(t, u.Value.Next, uint32(epochs.MaxStreams))
			u.Release()
		}
		require.NoError(t, db.kv.Pebble.Checkpoint("copy"))
		_, err := verify.Verify(context.Background(), fs, "copy")
		require.NoError(t, err)
		_, err = repair.Rebuild(context.Background(), db.epochs)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		v, err := verify.Verify(context.Background(), fs, "store")
		require.NoError(t, err)
		require.Empty(t, v.Damage, "what was rebuilt is in order")
	})
}

// FuzzSortedTable reads tables of any bytes: what is given back is what was there, or
// nothing.
func FuzzSortedTable(f *testing.F) {
	fs := newFaultyFS()
	db := open(f, "store", fs.options)
	for n := range 20 {
		require.NoError(f, appendCrash(db, n))
	}
	require.NoError(f, db.kv.Pebble.Flush())
	files, err := pebblefiles.List(fs, "store")
	require.NoError(f, err)
	whole, err := pebblefiles.ReadFile(fs, "store/"+files.Tables[0])
	require.NoError(f, err)
	there := map[string]bool{}
	s, err := pebblefiles.Open(fs, "store", files.Tables[0], pebblefiles.KeyRange{})
	require.NoError(f, err)
	for e := s.Next(); e != nil; e = s.Next() {
		there[string(e.Key)+"\x00"+string(e.Value)] = true
	}
	require.NoError(f, s.Close())
	f.Add(len(whole), 0, []byte{})
	f.Add(len(whole)/2, 0, []byte{})
	f.Add(len(whole), len(whole)-20, []byte("x"))
	f.Fuzz(func(t *testing.T, size, at int, with []byte) {
		b := bytes.Clone(whole[:min(max(size, 0), len(whole))])
		copy(b[min(max(at, 0), len(b)):], with)
		mem := vfs.NewMem()
		require.NoError(t, writeFile(mem, "000001.sst", b))
		s, err := pebblefiles.Open(mem, "", "000001.sst", pebblefiles.KeyRange{})
		require.NoError(t, err)
		for e := s.Next(); e != nil; e = s.Next() {
			require.True(t, there[string(e.Key)+"\x00"+string(e.Value)], "%x", e.Key)
		}
		require.NoError(t, s.Close())
	})
}
