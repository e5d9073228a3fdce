package query

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/scan"
)

// The sums of ranges are those that a pass over all snapshots gives.
func TestCoverage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var times []int64
		var covers []uint64
		t0 := int64(1_700_000_000_000)
		for range r.IntN(30) {
			t0 += r.Int64N(20)
			times, covers = append(times, t0), append(covers, uint64(r.IntN(40)<<1|r.IntN(2)))
		}
		s := ofSnapshots(times, covers)
		for range 50 {
			lo := int64(1_700_000_000_000) + r.Int64N(400) - 20
			hi := lo + r.Int64N(100)
			sum, covered := int64(0), int64(0)
			for at := lo; at < hi; at++ {
				n := int64(0)
				for i, from := range times {
					if from <= at && at < from+int64(covers[i]>>1) {
						n++
					}
				}
				sum += n
				covered += min(n, 1)
			}
			gotSum, gotCovered := s.within(lo, hi)
			require.Equal(t, [2]int64{sum, covered}, [2]int64{gotSum, gotCovered})
		}
	}
}

// Steps end with their query, also where there are many of them for each of many
// senders.
func TestStepsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := statePointer{groups: &groups{steps: 10000, step: 1}, scanner: &JobReader{Scanner: &scan.Scanner{Ctx: ctx}}, epoch: 1}
	require.ErrorIs(t, p.findSteps(&jobSender{several: 2}, nil), context.Canceled)
}
