package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Wednesday.
var testNow = time.Date(2024, 2, 28, 13, 14, 15, 678e6, time.UTC)

func TestParseTime(t *testing.T) {
	for in, want := range map[string][2]string{ // as a begin, and as an end if it differs
		"now":                           {"2024-02-28T13:14:15.678Z"},
		" now ":                         {"2024-02-28T13:14:15.678Z"},
		"now-5m":                        {"2024-02-28T13:09:15.678Z"},
		"now-1h":                        {"2024-02-28T12:14:15.678Z"},
		"now-90m+30s":                   {"2024-02-28T11:44:45.678Z"},
		"now+1h":                        {"2024-02-28T14:14:15.678Z"},
		"now 1h":                        {"2024-02-28T14:14:15.678Z"}, // an unescaped +
		"now-2d":                        {"2024-02-26T13:14:15.678Z"},
		"now-1w":                        {"2024-02-21T13:14:15.678Z"},
		"now-1M":                        {"2024-01-28T13:14:15.678Z"},
		"now-1y":                        {"2023-02-28T13:14:15.678Z"},
		"now/d":                         {"2024-02-28T00:00:00Z", "2024-02-28T23:59:59.999Z"},
		"now-1d/d":                      {"2024-02-27T00:00:00Z", "2024-02-27T23:59:59.999Z"},
		"now/h":                         {"2024-02-28T13:00:00Z", "2024-02-28T13:59:59.999Z"},
		"now/w":                         {"2024-02-26T00:00:00Z", "2024-03-03T23:59:59.999Z"},
		"now/M":                         {"2024-02-01T00:00:00Z", "2024-02-29T23:59:59.999Z"},
		"now-1d/d+8h":                   {"2024-02-27T08:00:00Z", "2024-02-28T07:59:59.999Z"},
		"1709126055":                    {"2024-02-28T13:14:15Z"},
		"1709126055678":                 {"2024-02-28T13:14:15.678Z"},
		"1709126055.678":                {"2024-02-28T13:14:15.678Z"},
		"1709126055678000":              {"2024-02-28T13:14:15.678Z"},
		"1709126055678000000":           {"2024-02-28T13:14:15.678Z"},
		"0":                             {"1970-01-01T00:00:00Z"},
		"20240228":                      {"2024-02-28T00:00:00Z"},
		"99999999":                      {"1973-03-03T09:46:39Z"}, // no day
		"00000110":                      {"1970-01-01T00:01:50Z"},
		"2024-02-28":                    {"2024-02-28T00:00:00Z"},
		"2024-02-28T13:14":              {"2024-02-28T13:14:00Z"},
		"2024-02-28T13:14:15":           {"2024-02-28T13:14:15Z"},
		"2024-02-28T13:14:15.5Z":        {"2024-02-28T13:14:15.5Z"},
		"2024-02-28T13:14:15+02:00":     {"2024-02-28T11:14:15Z"},
		"2024-02-28T13:14:15 02:00":     {"2024-02-28T11:14:15Z"}, // an unescaped +
		"2024-02-28T13:14:15.123-05:30": {"2024-02-28T18:44:15.123Z"},
	} {
		if want[1] == "" {
			want[1] = want[0]
		}
		for i, end := range []bool{false, true} {
			got, err := parseTime(in, testNow, end)
			require.NoError(t, err, in)
			require.Equal(t, want[i], got.UTC().Format(time.RFC3339Nano), "%s, end %v", in, end)
		}
	}
}

func TestParseTimeMistakes(t *testing.T) {
	for in, want := range map[string]string{
		"":                          `"" is no time: want `,
		"yesterday":                 `"yesterday" is no time: want `,
		"-1h":                       `"-1h" is no time: want `,
		"-5":                        `"-5" is no time: want `,
		"+5":                        `"+5" is no time: want `,
		"now-":                      `"now-" is no relative time: want `,
		"now-1":                     `"now-1" is no relative time: want `,
		"now-1x":                    `"now-1x" is no relative time: want `,
		"now-3h30m":                 `"now-3h30m" is no relative time: want `,
		"now/b":                     `"now/b" is no relative time: want `,
		"now-9999999b":              `"now-9999999b" is no relative time: want `,
		"now-99999999999999999999s": `is no relative time: want `,
		"now-9999999y":              `is in the year -9997975`,
		"9223372036854775808":       `is no time: want `,
		"99999999999":               `is in the year 5138`,
		"2024-02-30":                `"2024-02-30" is no time: want `,
		"9999-01-01":                `is in the year 9999`,
	} {
		_, err := parseTime(in, testNow, false)
		require.ErrorContains(t, err, want, in)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{
		"now-1d/d", "now+1h-30m/Q", "now-1fy/fQ", "now-9999999s", "1709126055678", "20240228", "2024-02-28T13:14:15.5+02:00", "now-1H", "now/y/M",
	} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, end bool) {
		got, err := parseTime(s, testNow, end)
		if err != nil {
			return
		}
		// What is read can be written, and read again.
		again, err := parseTime(got.Format(time.RFC3339Nano), testNow, end)
		if err != nil || !again.Equal(got) {
			t.Fatalf("%q: %v, then %v, %v", s, got, again, err)
		}
	})
}
