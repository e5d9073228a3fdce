package server

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
)

func TestParseIngestTime(t *testing.T) {
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	unix := time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"1700000000":                  unix,
		" 1_700_000,000 ":             unix,
		"1700000000123":               unix.Add(123 * time.Millisecond),
		"1700000000123456":            unix.Add(123456 * time.Microsecond),
		"1700000000123456789":         unix.Add(123456789),
		"1700000000.25":               unix.Add(250 * time.Millisecond),
		"1700000000.1234567891":       unix.Add(123456789),
		"20231114":                    time.Date(2023, 11, 14, 0, 0, 0, 0, time.UTC),
		"20239999":                    time.Unix(20239999, 0),
		"0":                           time.Unix(0, 0),
		"now":                         now,
		"now-1h":                      now.Add(-time.Hour),
		"now - 1h30min":               now.Add(-90 * time.Minute),
		"-5s":                         now.Add(-5 * time.Second),
		"+1d":                         now.Add(24 * time.Hour),
		"now-2weeks":                  now.Add(-14 * 24 * time.Hour),
		"now-1mon":                    now.Add(-30 * 24 * time.Hour),
		"now-1M1m":                    now.Add(-30*24*time.Hour - time.Minute),
		"now-1y":                      now.Add(-365 * 24 * time.Hour),
		"2023-11-14T22:13:20Z":        unix,
		"2023-11-15T00:13:20.5+02:00": unix.Add(500 * time.Millisecond),
	} {
		got, err := parseIngestTime(in, now)
		require.NoError(t, err, in)
		require.True(t, want.Equal(got), "%s: %s, want %s", in, got, want)
	}
	for in, want := range map[string]string{
		"yesterday":            `"yesterday" is no time: neither Unix nor RFC 3339 nor relative to now`,
		" ":                    `" " is no time`,
		"1700000000.":          `is no time`,
		"1.7e9":                `is no time`,
		"9223372037.5":         "is not between the years 1970 and 2262",
		"nowish":               `"ish" has no sign`,
		"now-":                 `there is no duration after "-"`,
		"now-h":                `"h" does not begin with a number`,
		"now-5":                `"" is no unit`,
		"now-5parsecs":         `"parsecs" is no unit; units are s, min, h, d, w, mon, y`,
		"now-99999999999s":     "does not begin with a number that fits",
		"now-101y":             "is too long",
		"now-99y99y":           "is too long",
		"99999999999999999999": "too many digits",
		"99999999999":          "is not between the years 1970 and 2262",
		"19010101":             "is not between the years 1970 and 2262",
		"1969-12-31T23:59:59Z": "is not between the years 1970 and 2262",
		"9999-12-31T23:59:59Z": "is not between the years 1970 and 2262",
		"now-57y":              "is not between the years 1970 and 2262",
	} {
		_, err := parseIngestTime(in, now)
		require.ErrorContains(t, err, want, in)
	}
}

// FuzzParseIngestTime holds that what is accepted can be kept as nanoseconds.
func FuzzParseIngestTime(f *testing.F) {
	for _, s := range []string{"1700000000", "1700000000123456789", "now-1h30min", "20231114", "2023-11-14T22:13:20Z", "-1M", "now+9999999999y"} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseIngestTime(s, now)
		if err != nil {
			return
		}
		if !time.Unix(0, got.UnixNano()).Equal(got) || got.Before(time.Unix(0, 0)) {
			t.Fatalf("%q gives %s, which does not fit", s, got)
		}
		if strings.TrimSpace(s) == "" {
			t.Fatal("nothing is a time")
		}
	})
}

// A parameter that nothing here reads is reported, and the profile kept.
func TestUnreadParameters(t *testing.T) {
	got, err := unread(url.Values{"name": {"a"}, "from": {"now", "now", ""}, "zeta": {"1"}, "dialect": {"x"}})
	require.NoError(t, err)
	require.Equal(t, []string{"dialect", "zeta"}, got)
}

// from and until that cannot be are corrected as a profile's own time is.
func TestTimesBefore1990(t *testing.T) {
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	p := &pusher{now: func() time.Time { return now }}
	for query, want := range map[string]struct {
		from, until           time.Time
		fromGiven, untilGiven bool
	}{
		"from=0&until=0":             {now, now, false, false},
		"from=0":                     {now, now, false, false},
		"until=0":                    {now, now, false, false},
		"from=8000&until=8010":       {now.Add(-10 * time.Second), now, true, true},
		"from=0&until=1774785590":    {now.Add(-10 * time.Second), now.Add(-10 * time.Second), false, true},
		"from=100000&until=90100000": {now.Add(-24 * time.Hour), now, true, true},
	} {
		report := &ingest.Report{}
		m, _, err := p.parameters(httptest.NewRequest(http.MethodPost, "/ingest?name=shop&"+query, nil), report)
		require.NoError(t, err, query)
		require.True(t, want.from.Equal(m.From), "%s: %s", query, m.From)
		require.True(t, want.until.Equal(m.Until), "%s: %s", query, m.Until)
		require.Equal(t, want.fromGiven, m.FromGiven, query)
		require.Equal(t, want.untilGiven, m.UntilGiven, query)
		require.Equal(t, "corrected time from and until, which are before 1990 (1)", report.String(), query)
	}
	for _, query := range []string{"from=1774785590&until=0", "from=8010&until=8000"} {
		_, _, err := p.parameters(httptest.NewRequest(http.MethodPost, "/ingest?name=shop&"+query, nil), nil)
		require.ErrorContains(t, err, "is before from", query)
	}
}
