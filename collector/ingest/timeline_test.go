package ingest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

func TestWindowAt(t *testing.T) {
	for at, want := range map[int64]int64{1: 0, 5e9: 0, 5e9 + 1: 5e9, 10e9: 5e9, -7: 0, 0: 0} {
		assert.Equal(t, window{want, 5e9}, windowAt(at, 5e9), at)
	}
	w := windowAt(math.MaxInt64, windowLength)
	assert.Greater(t, w.end(), w.start)
	assert.Greater(t, windowAt(w.end(), longestWindow).end(), int64(0))
}

// Shares of an event add up to all of it, and each is that of its window.
func TestTimelineSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		ts := timelines{}
		line := ts.newTimeline(1)
		from := r.Int64N(1 << 61)
		to := from + r.Int64N(int64(1)<<r.IntN(60)+1)
		v := r.Int64N(int64(1)<<r.IntN(62) + 1)
		require.NoError(t, line.spread(0, from, to, v))
		sum := int64(0)
		from = max(from, to-spreadOver*longestWindow)
		for i, c := range line.cells {
			sum += line.sums[i]
			covered := min(to, c.window.end()) - max(from, c.window.start)
			want := float64(v)
			if to > from {
				want *= float64(covered) / float64(to-from)
			}
			require.InDelta(t, want, float64(line.sums[i]), 2+want*1e-6, "%d to %d: %v", from, to, c.window)
		}
		require.Equal(t, v, sum)
		require.LessOrEqual(t, len(line.cells), spreadOver+32)
	}
}

// Where samples that keep their times are too many, they lose them before windows get longer.
func TestTimelineDropsTimes(t *testing.T) {
	const events = 1000
	ts := timelines{ticks: true, cells: maxCells - events/2} // as by others
	line := ts.newTimeline(1)
	for i := range int64(events) {
		require.NoError(t, line.add(uint32(i%40), 1+i*tickLength, 1))
	}
	require.False(t, ts.ticks)
	require.Equal(t, windowLength, ts.length)
	sum := int64(0)
	for i, c := range line.cells {
		require.Zero(t, c.tick)
		sum += line.sums[i]
	}
	require.EqualValues(t, events, sum)
}

// However many windows there are: the sums stay, and the bounds hold.
func TestTimelineLengthens(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ts := timelines{}
	lines := []*timeline{}
	sums := map[int]int64{}
	for i := range 20 {
		lines = append(lines, ts.newTimeline(2))
		for range 4000 {
			v := r.Int64N(1000)
			require.NoError(t, lines[i].add(uint32(r.IntN(3)), 1_700_000_000e9+r.Int64N(int64(30*24*time.Hour)), v, 1))
			sums[i] += v
		}
	}
	windows := 0
	for i, line := range lines {
		whole := &googlev1.Profile{StringTable: []string{""}, TimeNanos: 5, DurationNanos: 6, Sample: []*googlev1.Sample{
			{LocationId: []uint64{1}, Value: []int64{0, 0}}, {LocationId: []uint64{2}, Value: []int64{0, 0}}, {LocationId: []uint64{3}, Value: []int64{0, 0}},
		}}
		for k, c := range line.cells {
			for j := range 2 {
				whole.Sample[c.sample].Value[j] += line.sums[2*k+j]
			}
		}
		whole.Sample[2].Value[0] += 77 // at no time of its own
		ps := line.cut(whole)
		require.LessOrEqual(t, len(ps), maxWindows+1)
		require.Equal(t, int64(5), ps[0].TimeNanos)
		require.Equal(t, []int64{77, 0}, ps[0].Sample[0].Value)
		sum, events := int64(0), int64(0)
		for _, p := range ps[1:] {
			require.Zero(t, (p.TimeNanos-1e6)%ts.length)
			require.Equal(t, ts.length, p.DurationNanos)
			for _, s := range p.Sample {
				sum, events = sum+s.Value[0], events+s.Value[1]
			}
		}
		assert.Equal(t, sums[i], sum)
		assert.Equal(t, int64(4000), events)
		windows += len(ps) - 1
	}
	assert.Equal(t, windows, ts.windows)
	assert.LessOrEqual(t, windows, maxBodyWindows)
	assert.Greater(t, windows, maxBodyWindows/4)
}

func TestTimelineRefusesEndlessTimes(t *testing.T) {
	ts := timelines{}
	line := ts.newTimeline(1)
	var err error
	for i := int64(0); err == nil && i < 2000; i++ {
		err = line.add(0, i*2*longestWindow, 1)
	}
	require.ErrorContains(t, err, fmt.Sprintf("samples: their times are too far apart: more than %d windows of 22h45m20s", maxWindows))
}
