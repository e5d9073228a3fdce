package server

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/ingest"
)

// maxSampleRate is one sample a nanosecond.
const maxSampleRate = int64(time.Second)

// parameters reads those of /ingest. Its errors begin with the parameter's name.
func (p *pusher) parameters(r *http.Request, report *ingest.Report) (m ingest.Push, format string, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return m, "", fmt.Errorf("query: %w", err)
	}
	unread, err := unread(q)
	if err != nil {
		return m, "", err
	}
	for _, name := range unread {
		report.Skip("parameter", name, 1)
	}
	spy := q.Get("spyName")
	if spy == "" {
		spy = "unknown"
	}
	if err := m.SetLabels(q.Get("name"), spy, p.limits.noting(report).Ingest); err != nil {
		return m, "", err
	}
	now := p.now()
	m.From, m.Until = now, now
	if most := p.limits.MaxAge; most > 0 {
		m.Oldest = now.Add(time.Minute - most) // with time to store it
	}
	for name, t := range map[string]*time.Time{"from": &m.From, "until": &m.Until} {
		if s := q.Get(name); s != "" {
			if *t, err = parseIngestTime(s, now); err != nil {
				return m, "", fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	hasFrom, hasUntil := q.Get("from") != "", q.Get("until") != ""
	if m.From.Before(ingest.Earliest) || m.Until.Before(ingest.Earliest) {
		hasFrom, hasUntil = sinceBoot(&m, hasFrom, hasUntil, now, report)
	}
	switch {
	case hasFrom:
		m.FromGiven = true
		if hasUntil && m.Until.Before(m.From) {
			return m, "", fmt.Errorf("until: %s is before from, %s", m.Until.UTC().Format(time.RFC3339Nano), m.From.UTC().Format(time.RFC3339Nano))
		}
	case hasUntil: // how long it took is not known
		m.From = m.Until
	}
	if most := p.limits.MaxFuture; most > 0 && m.Until.After(now.Add(most)) {
		return m, "", fmt.Errorf("until: %w", p.timely(m.Until.UnixNano()))
	}
	m.UntilGiven = hasUntil
	m.SampleRate = ingest.DefaultSampleRate
	if s := q.Get("sampleRate"); s != "" {
		m.SampleRate, err = strconv.ParseInt(s, 10, 64)
		if err != nil || m.SampleRate < 0 || m.SampleRate > maxSampleRate {
			return m, "", fmt.Errorf("sampleRate: %.100q is no whole number from 0 to %d", s, maxSampleRate)
		}
	}
	m.Units, m.AggregationType = q.Get("units"), q.Get("aggregationType")
	if err := ingest.CheckUnits(m.Units, m.AggregationType); err != nil {
		return m, "", err
	}
	format, err = formatOf(q.Get("format"), r.Header.Get("Content-Type"))
	return m, format, err
}

// sinceBoot corrects from and until, of which at least one is before 1990, as the time of
// a pprof profile is corrected: zero is none, and a sender that counts from when its
// machine booted has pushed what ended now. It returns which of the two are given.
func sinceBoot(m *ingest.Push, hasFrom, hasUntil bool, now time.Time, report *ingest.Report) (from, until bool) {
	untilToo := m.Until.Before(ingest.Earliest)
	if hasFrom && !m.From.Before(ingest.Earliest) || hasFrom && untilToo && m.Until.Before(m.From) {
		return hasFrom, hasUntil // is refused: until is before from
	}
	report.Correct("time", "from and until, which are before 1990", 1)
	if !untilToo { // or it is now, and not given
		m.From = m.Until
		return false, hasUntil
	}
	length := min(m.Until.Sub(m.From), 24*time.Hour)
	if !hasFrom {
		length = 0
	}
	m.From, m.Until = now.Add(-length), now
	return length > 0, length > 0
}

// ingestParameters are those of /ingest.
var ingestParameters = []parameter{{"name"}, {"format"}, {"from"}, {"until"}, {"sampleRate"}, {"spyName"}, {"units"}, {"aggregationType"}}

// unread refuses parameters that are given twice, and names that are misspelt, and
// returns those that nothing here reads. They are let through, and reported: the SDK of
// a later day may send one, and its profile would be lost for it.
func unread(q url.Values) ([]string, error) {
	if err := once(q, ingestParameters...); err != nil {
		return nil, err
	}
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if slices.ContainsFunc(ingestParameters, func(p parameter) bool { return p[0] == name }) {
			continue
		}
		for _, p := range ingestParameters {
			if plain(name) == plain(p[0]) {
				return nil, fmt.Errorf("%.100s: is called %s here", name, p[0])
			}
		}
		out = append(out, name)
	}
	return out, nil
}

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// parseIngestTime reads a time in one of the forms that Pyroscope's /ingest
// takes: a Unix time in seconds, or with 13, 16 or 19 digits in milliseconds,
// microseconds or nanoseconds; a day as YYYYMMDD, in UTC; or now, which may be
// left out, plus or minus durations such as 1h30min. Underscores, commas and
// space count for nothing. Also RFC 3339, and seconds with a fraction. Times from 1970 to 2262 are valid.
func parseIngestTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, strings.TrimSpace(s)); err == nil {
		return sinceEpoch(t, s)
	}
	text := strings.Map(func(r rune) rune {
		if strings.ContainsRune("_, \t", r) {
			return -1
		}
		return r
	}, s)
	if allDigits(text) {
		if day, err := time.Parse("20060102", text); err == nil && day.Year() > 1900 {
			return sinceEpoch(day, s)
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("%.100q is no time: too many digits", s)
		}
		switch len(text) {
		case 13:
			return time.UnixMilli(v), nil
		case 16:
			return time.UnixMicro(v), nil
		case 19:
			return time.Unix(0, v), nil
		}
		if v > maxUnix {
			return time.Time{}, outOfRange(s)
		}
		return time.Unix(v, 0), nil
	}
	if whole, fraction, ok := strings.Cut(text, "."); ok && len(whole) <= len("9223372036") && allDigits(whole) && allDigits(fraction) {
		v, _ := strconv.ParseInt(whole, 10, 64)
		ns, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		if v > maxUnix {
			return time.Time{}, outOfRange(s)
		}
		return time.Unix(v, ns), nil
	}
	offset, ok := strings.CutPrefix(text, "now")
	if !ok && (text == "" || !strings.ContainsRune("+-", rune(text[0]))) {
		return time.Time{}, fmt.Errorf("%.100q is no time: neither Unix nor RFC 3339 nor relative to now", s)
	}
	if offset == "" {
		return now, nil
	}
	d, err := parseOffset(offset)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.100q is no time: %w", s, err)
	}
	return sinceEpoch(now.Add(d), s)
}

// maxUnix is in seconds; in nanoseconds it just fits.
const maxUnix = 9_223_372_036

// sinceEpoch refuses times before 1970, and those that nanoseconds cannot count.
func sinceEpoch(t time.Time, s string) (time.Time, error) {
	if u := t.Unix(); u < 0 || u > maxUnix {
		return time.Time{}, outOfRange(s)
	}
	return t, nil
}

func outOfRange(s string) error {
	return fmt.Errorf("%.100q is not between the years 1970 and 2262", s)
}

// parseOffset reads a sign and pairs of a number and a unit, such as -1h30min.
func parseOffset(s string) (time.Duration, error) {
	sign := time.Duration(1)
	switch s[0] {
	case '-':
		sign = -1
	case '+':
	default:
		return 0, fmt.Errorf("%.100q has no sign", s)
	}
	rest := s[1:]
	if rest == "" {
		return 0, fmt.Errorf("there is no duration after %q", s)
	}
	var sum time.Duration
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%.100q does not begin with a number that fits", rest)
		}
		rest = rest[digits:]
		letters := strings.IndexAny(rest, "0123456789")
		if letters < 0 {
			letters = len(rest)
		}
		unit := unitOf(rest[:letters])
		if unit == 0 {
			return 0, fmt.Errorf("%.100q is no unit; units are s, min, h, d, w, mon, y", rest[:letters])
		}
		rest = rest[letters:]
		if n > int64((maxOffset-sum)/unit) {
			return 0, fmt.Errorf("%.100q is too long", s)
		}
		sum += time.Duration(n) * unit
	}
	return sign * sum, nil
}

// maxOffset is about 100 years.
const maxOffset = 100 * 365 * 24 * time.Hour

// unitOf is Graphite's unit of a duration, by the letters that it begins with; 0
// if it is none.
func unitOf(s string) time.Duration {
	const day = 24 * time.Hour
	for _, u := range []struct {
		name string
		is   time.Duration
	}{{"s", time.Second}, {"mon", 30 * day}, {"M", 30 * day}, {"m", time.Minute}, {"h", time.Hour}, {"d", day}, {"w", 7 * day}, {"y", 365 * day}} {
		if strings.HasPrefix(s, u.name) {
			return u.is
		}
	}
	return 0
}
