package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The page takes every form of a time that pkg/timeexpr reads, for both ends.
func TestQueryTimes(t *testing.T) {
	now := time.Date(2024, 2, 28, 13, 14, 15, 678e6, time.UTC)
	hour := now.Add(-time.Hour)
	for text, want := range map[string][2]time.Time{
		"1709122455678":                 {hour, hour},
		"1709122455":                    {hour.Truncate(time.Second), hour.Truncate(time.Second)},
		"now-1h":                        {hour, hour},
		"now-30min30m":                  {hour, hour},
		"1h":                            {hour, hour},
		"now-1d/d":                      {now.Truncate(24*time.Hour).AddDate(0, 0, -1), now.Truncate(24 * time.Hour).Add(-time.Millisecond)},
		"20240228":                      {now.Truncate(24 * time.Hour), now.Truncate(24 * time.Hour)},
		"2024-02-28T14:14:15.678+02:00": {hour, hour},
	} {
		req, err := readQueries(strings.NewReader(fmt.Sprintf(`{"from":%q,"to":%q,"queries":[{}]}`, text, text)), now)
		require.NoError(t, err, text)
		got := req.Queries[0].TimeRange
		require.True(t, want[0].Equal(got.From), "%s: %s, want %s", text, got.From, want[0])
		require.True(t, want[1].Equal(got.To), "%s: %s, want %s", text, got.To, want[1])
	}
	for body, want := range map[string]string{
		`{"from":"","to":"now","queries":[{}]}`:       `from: "" is not a time: want `,
		`{"from":"now","to":"now-1x","queries":[{}]}`: `to: "now-1x" is not a time: "x" is not a unit`,
	} {
		_, err := readQueries(strings.NewReader(body), now)
		require.ErrorContains(t, err, want)
	}
}
