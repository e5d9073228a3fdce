package forward

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		" 7 ":                           7 * time.Second,
		"-7":                            0,
		"1.5":                           0,
		"soon":                          0,
		"2000000000":                    maxRetryAfter,
		"99999999999999999999999":       0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"Fri, 02 Jan 2099 03:04:00 GMT": maxRetryAfter,
	} {
		require.Equal(t, want, retryAfter(text, now), text)
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second}
	seen := map[time.Duration]bool{}
	for i := range 1000 {
		most := min(time.Second<<min(i, 10), maxPause)
		d := b.next(0)
		require.LessOrEqual(t, d, most)
		require.GreaterOrEqual(t, d, most/2)
		seen[d] = true
	}
	require.Greater(t, len(seen), 900, "pauses differ, so that agents do not come at once")
	for range 100 {
		d := b.next(5 * time.Minute)
		require.GreaterOrEqual(t, d, 5*time.Minute)
		require.LessOrEqual(t, d, 6*time.Minute)
	}
	require.LessOrEqual(t, b.next(100*time.Hour), maxRetryAfter+maxRetryAfter/10)
	b.reset()
	require.LessOrEqual(t, b.next(0), time.Second)
}
