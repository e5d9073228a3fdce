// Package timeexpr reads times as people and programs write them in URLs: relative
// to now, as Unix times, and as dates. The collector's endpoints, the built-in page
// and the plugin all use it, so that a time means the same everywhere.
//
// Defaults, limits and the order of a range's ends are left to its callers.
package timeexpr

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The first and the last time that Unix nanoseconds in an int64 can hold.
var (
	minTime = time.Unix(0, math.MinInt64)
	maxTime = time.Unix(0, math.MaxInt64)
)

// maxLength bounds a relative time, in bytes.
const maxLength = 256

// Parse reads a time in one of these forms. Dates without a zone are in UTC.
//
//   - Relative to now: now, now-1h, now-90m+30s, now/d, now-1d/d, as Grafana's time
//     picker has it; now-1h30min, -5s, as Graphite and Pyroscope have it, with now
//     left out; 6h, which is six hours ago. See parseRelative.
//   - Unix times in seconds, or in ms, µs or ns if they have 13, 16 or 19 digits;
//     with or without a fraction.
//   - Days: 20060102 and 2006-01-02.
//   - RFC 3339, also without seconds or a zone.
//
// If end is set, s is the end of a range, and /d and the like mean the last millisecond
// of the unit instead of its start: now/d to now/d is the whole day.
//
// Spaces, commas and underscores between digits and around operators are ignored. Any
// other space stands for a +, which URLs turn into a space unless it is escaped.
//
// Errors quote s. The result is one that Unix nanoseconds can hold, of the years 1678
// to 2262.
func Parse(s string, now time.Time, end bool) (time.Time, error) {
	t, err := parse(s, now, end)
	switch {
	case err != nil:
		return time.Time{}, err
	case t.Before(minTime) || t.After(maxTime):
		return time.Time{}, fmt.Errorf("%.100q is in the year %d, and not between 1678 and 2262", s, t.Year())
	}
	return t, nil
}

func parse(s string, now time.Time, end bool) (time.Time, error) {
	if t, ok := parseDate(strings.ReplaceAll(strings.TrimSpace(s), " ", "+")); ok {
		return t, nil
	}
	text := tidy(s)
	switch {
	case text == "":
	case strings.Trim(text, "0123456789.") == "":
		if t, ok := parseUnix(text); ok {
			return t, nil
		}
	case len(text) > maxLength:
	case strings.HasPrefix(text, "now") || text[0] == '+' || text[0] == '-' || isDuration(text):
		t, err := parseRelative(text, now, end)
		if err != nil {
			return time.Time{}, fmt.Errorf("%.100q is not a time: %w", s, err)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%.100q is not a time: want a relative time such as now-1h, a Unix time in s, ms, µs or ns, or RFC 3339", s)
}

// tidy removes spaces, commas and underscores that have no meaning from a Unix time or
// a relative time, and restores a + that a URL has turned into a space.
func tidy(s string) string {
	s = strings.TrimSpace(strings.NewReplacer("_", "", ",", "", "\t", " ").Replace(s))
	if strings.Trim(s, "0123456789 ") == "" {
		return strings.ReplaceAll(s, " ", "")
	}
	words := strings.Fields(s)
	for i, w := range words[min(len(words), 1):] {
		if before := words[i]; !strings.Contains("+-/", w[:1]) && !strings.Contains("+-/", before[len(before)-1:]) {
			words[i+1] = "+" + w
		}
	}
	return strings.Join(words, "")
}

// parseDate reads RFC 3339, with or without seconds and a zone, and days.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	// Eight digits are seconds if they are not a day of this or the last century.
	if len(s) == len("20060102") {
		if t, err := time.Parse("20060102", s); err == nil && t.Year() > 1900 {
			return t, true
		}
	}
	return time.Time{}, false
}

// parseUnix reads a Unix time in digits, perhaps with a fraction. The number of digits
// before the fraction gives the unit.
func parseUnix(s string) (time.Time, bool) {
	whole, fraction, hasFraction := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || hasFraction && (fraction == "" || strings.Contains(fraction, ".")) {
		return time.Time{}, false
	}
	unit := time.Second
	switch len(whole) {
	case 13:
		unit = time.Millisecond
	case 16:
		unit = time.Microsecond
	case 19:
		unit = time.Nanosecond
	}
	perSecond := int64(time.Second / unit)
	part, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64) // billionths of a unit
	ns := n%perSecond*int64(unit) + part*int64(unit)/int64(time.Second)
	return time.Unix(n/perSecond, ns), true
}
