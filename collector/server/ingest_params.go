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
	"github.com/flameline/flameline/pkg/timeexpr"
)

// maxSampleRate is one sample a nanosecond.
const maxSampleRate = int64(time.Second)

// parameters reads the parameters of /ingest. Its errors begin with the parameter's
// name.
func (p *pusher) parameters(r *http.Request, report *ingest.Report) (m ingest.Push, format string, err error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return m, "", fmt.Errorf("query: %w", err)
	}
	unknown, err := unknownParameters(q)
	if err != nil {
		return m, "", err
	}
	for _, name := range unknown {
		report.Skip("parameter", name, 1)
	}
	spy := q.Get("spyName")
	if spy == "" {
		spy = "unknown"
	}
	if err := m.SetLabels(q.Get("name"), spy, p.limits.withReport(report).Ingest); err != nil {
		return m, "", err
	}
	now := p.now()
	m.From, m.Until = now, now
	if most := p.limits.MaxAge; most > 0 {
		m.Oldest = now.Add(time.Minute - most) // with time to store it
	}
	for name, t := range map[string]*time.Time{"from": &m.From, "until": &m.Until} {
		if s := q.Get(name); s != "" {
			if *t, err = pushTime(s, now, name == "until"); err != nil {
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
		return m, "", fmt.Errorf("until: %w", p.checkTime(m.Until.UnixNano()))
	}
	if over := m.Until.Sub(now); hasUntil && over > ingest.Ahead { // the sender's clock is ahead
		m.From, m.Until = m.From.Add(-over), now
		report.Correct("time", "from and until, which would have ended later than the push arrived", 1)
	}
	m.UntilGiven = hasUntil
	m.SampleRate = ingest.DefaultSampleRate
	if s := q.Get("sampleRate"); s != "" {
		m.SampleRate, err = strconv.ParseInt(s, 10, 64)
		if err != nil || m.SampleRate < 0 || m.SampleRate > maxSampleRate {
			return m, "", fmt.Errorf("sampleRate: %.100q is not a whole number from 0 to %d", s, maxSampleRate)
		}
	}
	m.Units, m.AggregationType = q.Get("units"), q.Get("aggregationType")
	if err := ingest.CheckUnits(m.Units, m.AggregationType); err != nil {
		return m, "", err
	}
	format, err = formatOf(q.Get("format"), r.Header.Get("Content-Type"))
	return m, format, err
}

// sinceBoot corrects from and until if at least one of them is before 1990, as
// ingest.ProfileTime corrects the time of a pprof profile: 0 means no time, and of a
// sender that counts from when its machine booted, the profile ended when the push
// arrived. It returns which of the two are given.
func sinceBoot(m *ingest.Push, hasFrom, hasUntil bool, now time.Time, report *ingest.Report) (from, until bool) {
	untilToo := m.Until.Before(ingest.Earliest)
	if hasFrom && !m.From.Before(ingest.Earliest) || hasFrom && untilToo && m.Until.Before(m.From) {
		return hasFrom, hasUntil // the caller refuses this: until is before from
	}
	report.Correct("time", "from and until, which are before 1990", 1)
	if !untilToo { // also if until is not given and therefore now
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

// ingestParameters are the parameters of /ingest.
var ingestParameters = []parameter{{"name"}, {"format"}, {"from"}, {"until"}, {"sampleRate"}, {"spyName"}, {"units"}, {"aggregationType"}}

// unknownParameters returns the names of unknown parameters, which are accepted and reported: a
// later SDK may send one, and should not lose its profile. Parameters that are given
// twice, and names that differ from a known one only in case or punctuation, are errors.
func unknownParameters(q url.Values) ([]string, error) {
	if err := checkSingle(q, ingestParameters...); err != nil {
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
				return nil, fmt.Errorf("%.100s: unknown parameter; did you mean %s?", name, p[0])
			}
		}
		out = append(out, name)
	}
	return out, nil
}

// pushTime reads from or until of a push, which profiles of before 1970 cannot have.
func pushTime(s string, now time.Time, end bool) (time.Time, error) {
	t, err := timeexpr.Parse(s, now, end)
	if err == nil && t.Unix() < 0 {
		err = fmt.Errorf("%.100q is before 1970", s)
	}
	return t, err
}
