//go:build linux && (amd64 || arm64)

package sample

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/times"
)

// Samples after a sleep of the machine are of the time after it.
func TestWallClock(t *testing.T) {
	var wall, kernel, offset int64 = 1_700_000_000e9, 5e9, 0
	measured := 0
	c := &wallClock{
		now:     func() (int64, int64) { return wall, kernel },
		measure: func() { offset = wall - kernel; measured++ },
	}
	run := func(d time.Duration) { wall, kernel = wall+int64(d), kernel+int64(d) }
	follow := func() {
		c.follow()
		require.InDelta(t, wall, kernel+offset, float64(clockStep))
	}
	follow()
	require.Equal(t, 1, measured)
	for range 100 {
		run(time.Second)
		wall += int64(100 * time.Microsecond) // the clocks drift
		follow()
	}
	require.Equal(t, 1, measured)
	wall += int64(10 * time.Minute) // the machine sleeps
	follow()
	require.Equal(t, 2, measured)
	wall -= int64(time.Hour) // the clock is set
	follow()
	require.Equal(t, 3, measured)
}

func TestWallClockSetsTheUnwinders(t *testing.T) {
	c := newWallClock(t.Context())
	before := time.Now()
	c.follow()
	at := times.GetKTime().Time()
	require.False(t, at.Before(before.Add(-clockStep)), "%s is before %s", at, before)
	require.False(t, at.After(time.Now().Add(clockStep)))
}
