package store

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two columns at a time are what they are one by one, also where they are cut.
func TestDecodePairIsDecodeTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		n := 1 + r.IntN(200)
		var columns [2]column
		var want [2][]uint64
		for i := range columns {
			for range n {
				want[i] = append(want[i], r.Uint64()>>(1+r.UintN(63)))
			}
			b := append(appendColumn(nil, want[i]), make([]byte, r.IntN(12))...)
			rd := reader{data: b}
			columns[i] = rd.column("test")
			require.NoError(t, rd.err)
		}
		got, other := make([]uint64, n), make([]uint64, n)
		require.True(t, decodePair(columns[0], columns[1], got, other))
		require.Equal(t, want[0], got)
		require.Equal(t, want[1], other)
		for i := range columns {
			if columns[i].size == 0 {
				continue
			}
			cut := columns
			cut[i].size = r.IntN(cut[i].size)
			cut[i].tail = cut[i].tail[:cut[i].size]
			require.Equal(t, cut[0].decode(got) && cut[1].decode(other), decodePair(cut[0], cut[1], got, other))
		}
	}
}
