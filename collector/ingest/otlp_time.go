package ingest

import (
	"fmt"
	"math"
	"time"

	otlpv1 "go.opentelemetry.io/proto/otlp/profiles/v1development"
)

// otlpTimes are the times of a profile, in Unix ns, and how to convert its samples'
// timestamps.
type otlpTimes struct {
	begin, duration  int64
	factor, offset   int64 // correct timestamps of a wrong clock
	earliest, latest int64 // bounds of possible timestamps
}

// otlpLongest is the assumed longest duration, in ns, of a profile without one.
const otlpLongest = int64(24 * time.Hour)

// timesOf reads the times of a profile, and corrects impossible ones as ProfileTime
// does. Timestamps by the same clock get the same correction.
func (c *otlpConverter) timesOf(p *otlpv1.Profile) (otlpTimes, error) {
	if p.TimeUnixNano > math.MaxInt64 || p.DurationNano > math.MaxInt64 {
		return otlpTimes{}, fmt.Errorf("time_unix_nano: %d, or duration_nano: %d, is past the year 2262", p.TimeUnixNano, p.DurationNano)
	}
	said := int64(p.TimeUnixNano)
	t := otlpTimes{duration: int64(p.DurationNano), factor: 1}
	t.begin = ProfileTime(said, t.duration, c.received, c.limits.Report)
	now := c.received.UnixNano() + clockSlack
	t.earliest, t.latest = Earliest.UnixNano(), now
	switch {
	case said == 0:
		return t, nil
	case said < t.begin && t.begin%said == 0 && isUnit(t.begin/said):
		t.factor = t.begin / said
	default:
		t.offset = t.begin - said
	}
	t.earliest = t.begin - clockSlack
	if t.latest = max(t.begin+clockSlack, min(now, t.begin+otlpLongest)); t.duration > 0 {
		t.latest = min(t.begin, math.MaxInt64-t.duration-clockSlack) + t.duration + clockSlack
	}
	return t, nil
}

// isUnit reports whether a number of ns is one µs, ms or s, the units that ProfileTime
// tries.
func isUnit(ns int64) bool {
	d := time.Duration(ns)
	return d == time.Microsecond || d == time.Millisecond || d == time.Second
}

// at returns the time of a timestamp, in Unix ns. It reports false if that is
// impossible.
func (t *otlpTimes) at(stamp uint64) (ns int64, ok bool) {
	if stamp == 0 || stamp > uint64(math.MaxInt64/t.factor) {
		return 0, false
	}
	ns = int64(stamp) * t.factor
	if t.offset > 0 && ns > math.MaxInt64-t.offset {
		return 0, false
	}
	ns += t.offset
	return ns, ns >= t.earliest && ns <= t.latest
}

// whole reports whether a sample belongs to a profile that is short enough to have one
// time.
func (t *otlpTimes) whole(at int64) bool {
	return t.duration > 0 && t.duration <= windowLength && at >= t.begin-shortSlack && at <= t.begin+t.duration+shortSlack
}

// place adds the values of a sample, by its index in a draft, to windows at their
// timestamps. Values without a timestamp stay at the profile's time. total is the sum of
// the values, which were multiplied by scale.
func (c *otlpConverter) place(d *otlpDraft, index uint32, s *otlpv1.Sample, t *otlpTimes, total, scale int64) error {
	stamps := s.TimestampsUnixNano
	for i, stamp := range stamps {
		at, ok := t.at(stamp)
		if !ok {
			c.misplaced++
			continue
		}
		if t.whole(at) && !c.times.ticks {
			continue
		}
		value := scale
		switch len(s.Values) {
		case 0: // each timestamp counts 1
		case len(stamps):
			value = s.Values[i] * scale
		default: // one value for all timestamps
			n := int64(len(stamps))
			value = share(total, int64(i)+1, n) - share(total, int64(i), n)
		}
		if d.times == nil {
			d.times = c.times.newTimeline(1)
		}
		if err := d.times.add(index, at, value); err != nil {
			return err
		}
	}
	return nil
}
