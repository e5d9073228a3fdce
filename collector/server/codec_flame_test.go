package server

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// Every length of a number, at its least and at its most, is a varint as protobuf
// writes it, alone and among others.
func TestNumbersAreVarints(t *testing.T) {
	var all []int64
	var want []byte
	for width := range 65 {
		for _, x := range []uint64{1<<width - 1, 1 << width, 1<<width + 1, 0x5555555555555555 >> (64 - width), ^uint64(0) << width} {
			one := protowire.AppendVarint(nil, x)
			require.Equal(t, one, appendNumbers(nil, []int64{int64(x)}), "%#x", x)
			all, want = append(all, int64(x)), append(want, one...)
		}
	}
	require.Equal(t, want, appendNumbers(make([]byte, 0, 3), all))
}

// Numbers as a flame graph of CPU time has them: offsets and values in nanoseconds.
func BenchmarkAppendNumbers(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	numbers := make([]int64, 32768)
	for i := range numbers {
		if i%4 < 3 && r.IntN(3) > 0 {
			numbers[i] = r.Int64N(1 << (20 + r.IntN(20)))
		} else {
			numbers[i] = r.Int64N(4000)
		}
	}
	var to []byte
	for b.Loop() {
		to = appendNumbers(to[:0], numbers)
	}
}
