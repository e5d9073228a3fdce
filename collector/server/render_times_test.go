package server

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// /render takes every form of a time that pkg/timeexpr reads, for both ends.
func TestRenderTimes(t *testing.T) {
	now := time.Date(2024, 2, 28, 13, 14, 15, 678e6, time.UTC)
	r := &renderer{querier: &querier{}, now: func() time.Time { return now }}
	names := renderNames{from: parameter{"from"}, until: parameter{"until"}}
	hour := now.Add(-time.Hour)
	for from, want := range map[string]time.Time{
		"now-1h":                        hour,
		"now-30min30m":                  hour,
		"-60min":                        hour,
		"1h":                            hour,
		"now/h":                         now.Truncate(time.Hour),
		"1709122455":                    hour.Truncate(time.Second),
		"1709122455.678":                hour,
		"1709122455678":                 hour,
		"1709122455678000":              hour,
		"1709122455678000000":           hour,
		"20240228":                      now.Truncate(24 * time.Hour),
		"2024-02-28":                    now.Truncate(24 * time.Hour),
		"2024-02-28T12:14":              hour.Truncate(time.Minute),
		"2024-02-28T12:14:15.678":       hour,
		"2024-02-28T14:14:15.678+02:00": hour,
		"2024-02-28T14:14:15.678 02:00": hour,
	} {
		start, end, err := r.times(url.Values{"from": {from}}, names)
		require.NoError(t, err, from)
		require.True(t, want.Equal(start), "%s: %s, want %s", from, start, want)
		require.Equal(t, now, end, from)
		start, end, err = r.times(url.Values{"from": {"now-2d"}, "until": {from}}, names)
		require.NoError(t, err, from)
		require.Equal(t, now.AddDate(0, 0, -2), start)
		if from == "now/h" {
			want = want.Add(time.Hour - time.Millisecond)
		}
		require.True(t, want.Equal(end), "%s: %s, want %s", from, end, want)
	}
}
