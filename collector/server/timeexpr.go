package server

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jszwedko/go-datemath"
)

// relative are the expressions that datemath gets to see. It also knows business
// days, which it counts one by one, and rounds to none of them.
var relative = regexp.MustCompile(`^now(?:[+-][0-9]{1,7}(?:[smhHdwMQy]|f[Qy])|/(?:[smhHdwMQy]|f[Qy]))*$`)

// seconds are an epoch in s with a fraction.
var seconds = regexp.MustCompile(`^[0-9]{1,10}\.[0-9]+$`)

// parseTime reads a time as users of Grafana and Pyroscope write it, in UTC where
// it does not say:
//
//   - now, now-1h, now-90m+30s, now/d, now-1d/d: relative times, as Grafana's time
//     picker takes them. Rounding goes to the begin of a unit, or, with end, to its
//     last millisecond, so that from=now/d and until=now/d are the whole day;
//   - an epoch in s, ms, µs or ns, told apart by 13, 16 and 19 digits, or in s with a
//     fraction, as Python's time.time() gives it;
//   - 20060102, a day;
//   - RFC 3339, also without a zone, or a day alone.
//
// A + that was not escaped in a URL arrives as a space, and is taken for a +.
func parseTime(s string, now time.Time, end bool) (time.Time, error) {
	s = strings.ReplaceAll(strings.TrimSpace(s), " ", "+")
	if strings.HasPrefix(s, "now") {
		if !relative.MatchString(s) {
			return time.Time{}, fmt.Errorf("%q is no relative time: want now, then -1h or /d, with the units s, m, h, d, w, M, Q, y", s)
		}
		t, err := datemath.ParseAndEvaluate(s, datemath.WithNow(now), datemath.WithRoundUp(end))
		if err != nil {
			return time.Time{}, fmt.Errorf("%q: %w", s, err)
		}
		return inRange(s, t)
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && s[0] != '+' && s[0] != '-' {
		switch len(s) {
		case 8:
			if day, err := time.Parse("20060102", s); err == nil && day.Year() >= 1970 {
				return inRange(s, day)
			}
		case 13:
			return inRange(s, time.UnixMilli(n))
		case 16:
			return inRange(s, time.UnixMicro(n))
		case 19:
			return inRange(s, time.Unix(0, n))
		}
		return inRange(s, time.Unix(n, 0))
	}
	if whole, fraction, ok := strings.Cut(s, "."); ok && seconds.MatchString(s) {
		n, _ := strconv.ParseInt(whole, 10, 64)
		ns, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		return inRange(s, time.Unix(n, ns))
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return inRange(s, t)
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want a relative time such as now-1h, an epoch in s, ms, µs or ns, or RFC 3339", s)
}

// inRange refuses times that an int64 of ns cannot hold.
func inRange(s string, t time.Time) (time.Time, error) {
	if y := t.Year(); y < 1678 || y > 2261 {
		return time.Time{}, fmt.Errorf("%q is in the year %d", s, y)
	}
	return t, nil
}
