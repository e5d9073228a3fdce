package bitpack

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/storetest"
)

// Two columns at a time add up to what they are one by one, also where they are
// cut, and where numbers are long.
func TestAddPairIsDecodeTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range storetest.Rounds(3000) {
		n, room, width := 1+r.IntN(200), 0, r.UintN(12)
		var columns [2]Column
		var want [2][]uint64
		for i := range columns {
			for range n {
				x := r.Uint64() >> (64 - r.UintN(width+1))
				if i == 0 {
					room += int(x) + 1
				} else if r.IntN(10) == 0 {
					x = r.Uint64() >> (1 + r.UintN(63))
				}
				want[i] = append(want[i], x)
			}
			b := append(AppendColumn(nil, want[i]), make([]byte, r.IntN(12))...)
			rd := Decoder{Data: b}
			columns[i] = rd.Column("test")
			require.NoError(t, rd.Err)
		}
		sums := func() []int64 { // which are changed where nothing is added, too
			s := make([]int64, room)
			for i := range s {
				s[i] = int64(i)
			}
			return s
		}
		wantSums, at := sums(), -1
		for i, step := range want[0] {
			at += int(step) + 1
			wantSums[at] += int64(want[1][i]+1) * 3
		}
		got := sums()
		added, ok := AddPairs(columns[0], columns[1], n, Sums{Values: got}, 3)
		require.True(t, ok)
		require.Equal(t, n, added)
		require.Equal(t, wantSums, got)
		added, ok = AddPairs(columns[0], columns[1], n, Sums{Values: got}, -3)
		require.True(t, ok)
		require.Equal(t, n, added)
		require.Equal(t, sums(), got)

		undone := func(steps, values Column, s []int64) {
			before := slices.Clone(s)
			added, ok := AddPairs(steps, values, n, Sums{Values: s}, 3)
			require.False(t, ok)
			require.LessOrEqual(t, added, n)
			AddPairs(steps, values, added, Sums{Values: s}, -3)
			require.Equal(t, before, s)
		}
		undone(columns[0], columns[1], sums()[:room-1])
		for i := range columns {
			if columns[i].size == 0 {
				continue
			}
			cut := columns
			cut[i].size = r.IntN(cut[i].size)
			undone(cut[0], cut[1], sums()) // the bits are there, but not the column's
			cut[i].tail = cut[i].tail[:cut[i].size]
			undone(cut[0], cut[1], sums())
			require.False(t, cut[i].Decode(make([]uint64, n)))
		}
	}
}
