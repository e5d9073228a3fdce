package ingest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBytesPerSample samples objects of several sizes as the JVM does, by bytes with an
// exponential distance, and compares the estimate with what was allocated.
func TestBytesPerSample(t *testing.T) {
	const every = 512 << 10
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []uint64{1000, every, 5 * every} {
		allocated, estimate := uint64(0), int64(0)
		for next := r.ExpFloat64() * every; allocated < 20_000*every; allocated += size {
			if float64(size) > next {
				estimate += bytesPerSample(size, every)
				next = r.ExpFloat64() * every
			} else {
				next -= float64(size)
			}
		}
		require.InEpsilon(t, allocated, estimate, 0.03, "objects of %d bytes", size)
	}
	require.Equal(t, int64(1<<50), bytesPerSample(math.MaxUint64, 1))
	require.Positive(t, bytesPerSample(0, 1<<40))
}
