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
)

// FuzzRowIdentity encodes rows and reads them as they were.
func FuzzRowIdentity(f *testing.F) {
	f.Add(uint64(1), []byte{3, 1, 0, 7, 200})
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		r := rand.New(rand.NewPCG(seed, 9))
		types := 1 + r.IntN(4)
		in := row{profiles: uint64(r.Uint32()) >> r.IntN(32), duration: r.Uint64() >> r.IntN(64), totals: make([]int64, types), values: make([][]int64, types)}
		in.parts = r.Uint64N(in.profiles + 1)
		node := uint32(0)
		for _, b := range data {
			node += 1 + uint32(b)
			in.nodes = append(in.nodes, node)
			for c := range types {
				v := int64(r.Uint64() >> 1 >> r.IntN(63))
				v -= v % int64(1+b%7)
				in.values[c] = append(in.values[c], v)
				in.totals[c] = (in.totals[c] + v) & math.MaxInt64
			}
		}
		var p packedRow
		var tmp scratch
		require.NoError(t, p.decode(in.append(nil)))
		require.Equal(t, in.profiles, p.profiles)
		require.Equal(t, in.parts, p.parts)
		require.Equal(t, in.duration, p.duration)
		require.Equal(t, in.totals, p.totals)
		for c := range types {
			got := make([]int64, node+1)
			require.NoError(t, p.addTo(nodeSums{values: got}, c, 1, &tmp))
			for i, n := range in.nodes {
				require.Equal(t, in.values[c][i], got[n])
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
		var l pointList
		for c := range totals {
			require.NoError(t, l.decode(appendPoints(nil, start, times, totals, make([]uint64, len(times))), start, c))
			require.True(t, slices.Equal(times, l.times) && slices.Equal(totals[c], l.values))
		}
	})
}

// FuzzSegmentIdentity reads a segment and writes it as it was.
func FuzzSegmentIdentity(f *testing.F) {
	_, segments := fuzzDictionary()
	f.Add(segments[0])
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(b []byte) (*dictionary, error) {
			d := newDictionary()
			d.lookup = &lookup{}
			d.findCalls()
			return d, d.readSegment(b)
		}
		first, err := read(data)
		if err != nil {
			return
		}
		second, err := read(first.appendSegment(nil, newDictionary().sizes()))
		require.NoError(t, err)
		require.Equal(t, first.view, second.view)
	})
}

// FuzzKeys loads and checks an epoch of any keys and values.
func FuzzKeys(f *testing.F) {
	f.Add(partitionKey(1, 0)[4:], []byte("service"))
	f.Add(streamKey(1, 0)[4:], []byte{})
	f.Add(append(kindKey(1, kindDirty), 0, 0, 0, 0, 3)[4:], []byte{7})
	f.Add(dirtyKey(1, 0, wholeDay)[4:], []byte{1})
	f.Add(pendingKey(1, 3, 0)[4:], []byte{7})
	f.Add(findKey(1, 77)[4:], []byte{2, 0, 9})
	f.Add(tableKey(1, 3, "pod")[4:], []byte{0, 0, 0, 0, 0, 0})
	f.Add(idKey(1, 0, 5)[4:], []byte{9})
	f.Add(horizonKey(1)[4:], []byte{24, 3, 0})
	f.Add(segmentKey(1, 0, 1)[4:], []byte{1, 1, 1, 0, 1, 0, 0, 0, 0, 0})
	f.Add(windowKey(1, kindRow, levelSlot, 0, dayMs+slotMs)[4:], []byte{1, 0, 0, 0})
	f.Add(windowKey(1, kindPoints, levelHour, 0, dayMs+hourMs)[4:], []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, rest, value []byte) {
		key := append(epochKey(1), rest...)
		describeKey(key)
		keyTimes(key, key)
		windowTime(key)
		if len(rest) == 0 {
			return
		}
		var v Verification
		e := newEpochCheck(&checker{v: &v}, 1)
		e.add(partitionKey(1, 0), []byte("service"))
		e.add(key, value)
		e.end()

		db := open(t, "store", func(o *Options) { o.fs = vfs.NewMem() })
		b := db.pebble.NewBatch()
		b.Set(partitionKey(1, 0), []byte("service"), nil)
		b.Set(streamKey(1, 0), appendStream(nil, 0, &definition{types: []valueType{{"cpu", "ns"}}}), nil)
		b.Set(key, value, nil)
		require.NoError(t, b.Commit(nil))
		if u, err := db.epoch(1); err == nil {
			require.LessOrEqual(t, u.value.next, uint32(maxStreams))
			u.release()
		}
		_, err := db.rebuildAll(context.Background())
		require.NoError(t, err)
		v = Verification{}
		require.NoError(t, (&checker{ctx: context.Background(), v: &v, pebble: db.pebble}).values())
		require.Empty(t, v.Damage, "what was rebuilt is in order")
		require.NoError(t, db.Close())
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
	require.NoError(f, db.pebble.Flush())
	files, err := listFiles(fs, "store")
	require.NoError(f, err)
	whole, err := readFile(fs, "store/"+files.tables[0])
	require.NoError(f, err)
	there := map[string]bool{}
	s, err := openTable(fs, "store", files.tables[0], tableRange{})
	require.NoError(f, err)
	for e := s.next(); e != nil; e = s.next() {
		there[string(e.key)+"\x00"+string(e.value)] = true
	}
	require.NoError(f, s.close())
	f.Add(len(whole), 0, []byte{})
	f.Add(len(whole)/2, 0, []byte{})
	f.Add(len(whole), len(whole)-20, []byte("x"))
	f.Fuzz(func(t *testing.T, size, at int, with []byte) {
		b := bytes.Clone(whole[:min(max(size, 0), len(whole))])
		copy(b[min(max(at, 0), len(b)):], with)
		mem := vfs.NewMem()
		require.NoError(t, writeFile(mem, "000001.sst", b))
		s, err := openTable(mem, "", "000001.sst", tableRange{})
		require.NoError(t, err)
		for e := s.next(); e != nil; e = s.next() {
			require.True(t, there[string(e.key)+"\x00"+string(e.value)], "%x", e.key)
		}
		require.NoError(t, s.close())
	})
}
