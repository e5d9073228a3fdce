package timeexpr

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Wednesday.
var testNow = time.Date(2024, 2, 28, 13, 14, 15, 678e6, time.UTC)

func TestParse(t *testing.T) {
	for in, want := range map[string][2]string{ // as a start, and as an end if it differs
		// Grafana's relative times.
		"now":         {"2024-02-28T13:14:15.678Z"},
		" now ":       {"2024-02-28T13:14:15.678Z"},
		"now-5m":      {"2024-02-28T13:09:15.678Z"},
		"now-1h":      {"2024-02-28T12:14:15.678Z"},
		"now-90m+30s": {"2024-02-28T11:44:45.678Z"},
		"now+1h":      {"2024-02-28T14:14:15.678Z"},
		"now 1h":      {"2024-02-28T14:14:15.678Z"}, // an unescaped +
		"now-90m 30s": {"2024-02-28T11:44:45.678Z"}, // an unescaped +
		"now-2d":      {"2024-02-26T13:14:15.678Z"},
		"now-1w":      {"2024-02-21T13:14:15.678Z"},
		"now-1M":      {"2024-01-28T13:14:15.678Z"},
		"now-1Q":      {"2023-11-28T13:14:15.678Z"},
		"now-1y":      {"2023-02-28T13:14:15.678Z"},
		"now-1fy":     {"2023-02-28T13:14:15.678Z"},
		"now-1fQ":     {"2023-11-28T13:14:15.678Z"},
		"now/d":       {"2024-02-28T00:00:00Z", "2024-02-28T23:59:59.999Z"},
		"now-1d/d":    {"2024-02-27T00:00:00Z", "2024-02-27T23:59:59.999Z"},
		"now-1d / d":  {"2024-02-27T00:00:00Z", "2024-02-27T23:59:59.999Z"},
		"now/h":       {"2024-02-28T13:00:00Z", "2024-02-28T13:59:59.999Z"},
		"now/w":       {"2024-02-26T00:00:00Z", "2024-03-03T23:59:59.999Z"},
		"now/M":       {"2024-02-01T00:00:00Z", "2024-02-29T23:59:59.999Z"},
		"now-1d/d+8h": {"2024-02-27T08:00:00Z", "2024-02-28T07:59:59.999Z"},
		"now-60y":     {"1964-02-28T13:14:15.678Z"},
		// Graphite's.
		"now-1h30min":  {"2024-02-28T11:44:15.678Z"},
		"now-3h30m/h":  {"2024-02-28T09:00:00Z", "2024-02-28T09:59:59.999Z"},
		"now - 1h30m":  {"2024-02-28T11:44:15.678Z"},
		"-5s":          {"2024-02-28T13:14:10.678Z"},
		"- 5s":         {"2024-02-28T13:14:10.678Z"},
		"+1d":          {"2024-02-29T13:14:15.678Z"},
		"now-2weeks":   {"2024-02-14T13:14:15.678Z"},
		"now-1mon":     {"2024-01-28T13:14:15.678Z"},
		"now-1M1m":     {"2024-01-28T13:13:15.678Z"},
		"now-5_000sec": {"2024-02-28T11:50:55.678Z"},
		// Durations alone.
		"6h":    {"2024-02-28T07:14:15.678Z"},
		"1h30m": {"2024-02-28T11:44:15.678Z"},
		// Unix times.
		"1709126055":            {"2024-02-28T13:14:15Z"},
		" 1_709_126,055 ":       {"2024-02-28T13:14:15Z"},
		"1 709 126 055":         {"2024-02-28T13:14:15Z"},
		"1709126055678":         {"2024-02-28T13:14:15.678Z"},
		"1709126055.678":        {"2024-02-28T13:14:15.678Z"},
		"1709126055678.25":      {"2024-02-28T13:14:15.67825Z"},
		"1709126055.1234567891": {"2024-02-28T13:14:15.123456789Z"},
		"1709126055678000":      {"2024-02-28T13:14:15.678Z"},
		"1709126055678000000":   {"2024-02-28T13:14:15.678Z"},
		"9223372036854775807":   {"2262-04-11T23:47:16.854775807Z"},
		"0":                     {"1970-01-01T00:00:00Z"},
		"0.5":                   {"1970-01-01T00:00:00.5Z"},
		// Days.
		"20240228":   {"2024-02-28T00:00:00Z"},
		"19651231":   {"1965-12-31T00:00:00Z"},
		"99999999":   {"1973-03-03T09:46:39Z"}, // not a day
		"20239999":   {"1970-08-23T06:13:19Z"}, // not a day
		"00000110":   {"1970-01-01T00:01:50Z"},
		"2024-02-28": {"2024-02-28T00:00:00Z"},
		// RFC 3339.
		"2024-02-28T13:14":              {"2024-02-28T13:14:00Z"},
		"2024-02-28T13:14:15":           {"2024-02-28T13:14:15Z"},
		"2024-02-28T13:14:15.5Z":        {"2024-02-28T13:14:15.5Z"},
		"2024-02-28T13:14:15,5Z":        {"2024-02-28T13:14:15.5Z"},
		"2024-02-28T13:14:15+02:00":     {"2024-02-28T11:14:15Z"},
		"2024-02-28T13:14:15 02:00":     {"2024-02-28T11:14:15Z"}, // an unescaped +
		"2024-02-28T13:14:15.123-05:30": {"2024-02-28T18:44:15.123Z"},
	} {
		if want[1] == "" {
			want[1] = want[0]
		}
		for i, end := range []bool{false, true} {
			got, err := Parse(in, testNow, end)
			require.NoError(t, err, in)
			require.Equal(t, want[i], got.UTC().Format(time.RFC3339Nano), "%s, end %v", in, end)
		}
	}
}

// Relative times are in UTC, whatever zone the clock is in.
func TestParseInUTC(t *testing.T) {
	got, err := Parse("now/d", testNow.In(time.FixedZone("", -14*3600)), false)
	require.NoError(t, err)
	require.Equal(t, "2024-02-28T00:00:00Z", got.Format(time.RFC3339Nano))
}

func TestParseMistakes(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 `"" is not a time: want `,
		" ":                                `" " is not a time: want `,
		"_":                                `is not a time: want `,
		"yesterday":                        `"yesterday" is not a time: want `,
		"-":                                `there is no duration after "-"`,
		"-5":                               `"-5" is not a time: 5 has no unit`,
		"+5":                               `"+5" is not a time: 5 has no unit`,
		"now-":                             `"now-" is not a time: there is no duration after "-"`,
		"now--1h":                          `there is no duration after "-"`,
		"now-1":                            `1 has no unit`,
		"now-5":                            `5 has no unit`,
		"now-h":                            `"h" does not begin with a number`,
		"now-1x":                           `"x" is not a unit; units are `,
		"now-5parsecs":                     `"parsecs" is not a unit; units are s, m or min, h, d, w, M or mon, Q, y`,
		"now/b":                            `"b" is not a unit to round to`,
		"now/":                             `"" is not a unit to round to`,
		"now/day":                          `"day" is not a unit to round to`,
		"now-9999999b":                     `"b" is not a unit`,
		"nowish":                           `"ish" does not begin with +, - or /`,
		"now-99999999999999999999s":        `a number is too large`,
		"now-9999999y":                     `9999999y is more than 250 years`,
		"now-99999999999s":                 `99999999999s is more than 250 years`,
		"now-250y250y":                     `is in the year 1524, and not between 1678 and 2262`,
		"now" + strings.Repeat("-1s", 100): `is not a time`,
		"9223372036854775808":              `is not a time: want `,
		"99999999999999999999":             `is not a time: want `,
		"1700000000.":                      `is not a time: want `,
		"1.2.3":                            `is not a time: want `,
		".5":                               `is not a time: want `,
		"1.7e9":                            `is not a time: want `,
		"99999999999":                      `is in the year 5138`,
		"9223372036.9":                     `is in the year 2262, and not between`,
		"2024-02-30":                       `"2024-02-30" is not a time: want `,
		"9999-01-01":                       `is in the year 9999`,
		"0001-01-01T00:00:00Z":             `is in the year 1`,
		"9999-12-31T23:59:59Z":             `is in the year 9999`,
		"now-1h; DROP TABLE " + "x\x00\xff\u202e": `is not a time`,
	} {
		_, err := Parse(in, testNow, false)
		require.ErrorContains(t, err, want, in)
	}
}

// FuzzParse checks that what is accepted can be kept as nanoseconds, and written and read
// again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"now-1d/d", "now+1h-30m/Q", "now-1fy/fQ", "now-9999999s", "1709126055678", "20240228", "2024-02-28T13:14:15.5+02:00", "now-1H", "now/y/M",
		"1700000000", "1700000000123456789", "now-1h30min", "-1M", "now+9999999999y", "now 1h", "6h", "1_000 000", "9223372036.854775808",
	} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, end bool) {
		got, err := Parse(s, testNow, end)
		if err != nil {
			return
		}
		if !time.Unix(0, got.UnixNano()).Equal(got) {
			t.Fatalf("%q gives %s, which nanoseconds do not hold", s, got)
		}
		if strings.TrimSpace(s) == "" {
			t.Fatal("nothing is a time")
		}
		again, err := Parse(got.Format(time.RFC3339Nano), testNow, end)
		if err != nil || !again.Equal(got) {
			t.Fatalf("%q: %v, then %v, %v", s, got, again, err)
		}
	})
}
