package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
)

// A push takes every form of a time that pkg/timeexpr reads, from 1970 on.
func TestPushTimes(t *testing.T) {
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	p := &pusher{now: func() time.Time { return now }}
	read := func(from, until string) (ingest.Push, error) {
		q := url.Values{"name": {"shop"}, "from": {from}, "until": {until}}
		m, _, err := p.parameters(httptest.NewRequest(http.MethodPost, "/ingest?"+q.Encode(), nil), &ingest.Report{})
		return m, err
	}
	unix := time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"1700000000":                  unix,
		" 1_700_000,000 ":             unix,
		"1700000000123":               unix.Add(123 * time.Millisecond),
		"1700000000123456":            unix.Add(123456 * time.Microsecond),
		"1700000000123456789":         unix.Add(123456789),
		"1700000000.25":               unix.Add(250 * time.Millisecond),
		"20231114":                    time.Date(2023, 11, 14, 0, 0, 0, 0, time.UTC),
		"2023-11-14":                  time.Date(2023, 11, 14, 0, 0, 0, 0, time.UTC),
		"2023-11-14T22:13:20Z":        unix,
		"2023-11-15T00:13:20.5+02:00": unix.Add(500 * time.Millisecond),
		"2023-11-15T00:13:20 02:00":   unix,
		"now":                         now,
		"now-1h":                      now.Add(-time.Hour),
		"now - 1h30min":               now.Add(-90 * time.Minute),
		"-5s":                         now.Add(-5 * time.Second),
		"6h":                          now.Add(-6 * time.Hour),
		"now-2weeks":                  now.Add(-14 * 24 * time.Hour),
		"now-1y":                      now.AddDate(-1, 0, 0),
		"now/d":                       time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC),
	} {
		m, err := read(in, "now")
		require.NoError(t, err, in)
		require.True(t, want.Equal(m.From), "%s: %s, want %s", in, m.From, want)
	}
	m, err := read("now-1d/d", "now-1d/d")
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour-time.Millisecond, m.Until.Sub(m.From))
	for in, want := range map[string]string{
		"yesterday":            `from: "yesterday" is not a time: want `,
		"1.7e9":                `from: "1.7e9" is not a time: want `,
		"nowish":               `from: "nowish" is not a time: "ish" does not begin with`,
		"99999999999":          `from: "99999999999" is in the year 5138`,
		"19010101":             `from: "19010101" is before 1970`,
		"1969-12-31T23:59:59Z": `from: "1969-12-31T23:59:59Z" is before 1970`,
		"now-57y":              `from: "now-57y" is before 1970`,
	} {
		_, err := read(in, "now")
		require.ErrorContains(t, err, want, in)
	}
}

// A parameter that nothing here reads is reported, and the profile kept.
func TestUnreadParameters(t *testing.T) {
	got, err := unknownParameters(url.Values{"name": {"a"}, "from": {"now", "now", ""}, "zeta": {"1"}, "dialect": {"x"}})
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

// A push of a sender whose clock is ahead ends when it arrives; seconds are no matter.
func TestUntilAhead(t *testing.T) {
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	p := &pusher{now: func() time.Time { return now }}
	for ahead, want := range map[time.Duration]time.Duration{5 * time.Second: 5 * time.Second, time.Minute: 0} {
		report := &ingest.Report{}
		until := now.Add(ahead)
		query := fmt.Sprintf("/ingest?name=shop&from=%d&until=%d", until.Add(-20*time.Second).Unix(), until.Unix())
		m, _, err := p.parameters(httptest.NewRequest(http.MethodPost, query, nil), report)
		require.NoError(t, err)
		require.True(t, now.Add(want).Equal(m.Until), "%s: %s", ahead, m.Until)
		require.Equal(t, 20*time.Second, m.Until.Sub(m.From))
		require.Equal(t, want == 0, strings.Contains(report.String(), "later than the push arrived"), report)
	}
}
