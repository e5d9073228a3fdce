package ingest

import (
	"math"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// maxUndated is the longest file of which the end is taken to be when it arrived.
const maxUndated = float64(24 * time.Hour)

// A speedscopeClock tells when the profiles of a file were that are of time. Their
// values are times since anything, the same for all of them.
type speedscopeClock struct {
	placed bool // else samples have no times
	// base is the least time of the file, in ns as it says, and begin what that is
	// in ns since 1970. length is the time to the last sample, in ns.
	base   float64
	begin  int64
	length int64
	times  timelines
}

// newSpeedscopeClock finds out when a file was.
//
// Times since 1970 hold if they end in the time from m.From to m.Until, or within
// a minute of it. Other files begin at m.From, or end at m.Until, or when they
// arrived. A file that takes longer than from m.From to m.Until has sums of
// several threads, or of equal stacktraces, and no times.
func newSpeedscopeClock(ps []speedscopeProfile, m *Push, r *Report) *speedscopeClock {
	c := &speedscopeClock{base: math.Inf(1)}
	end := math.Inf(-1)
	for i := range ps {
		if unit, ok := speedscopeUnits[ps[i].Unit]; ok {
			from, to := ps[i].span()
			c.base, end = min(c.base, from*float64(unit)), max(end, to*float64(unit))
		}
	}
	length := end - c.base
	if !(length > 0) { // none, or nothing that is a number
		return c
	}
	from, until := float64(m.From.UnixNano()), float64(m.Until.UnixNano())
	said, slack := m.dated(), float64(clockSlack)
	begin := c.base
	switch {
	case c.base < float64(Earliest.UnixNano()) || end > float64(latestSample), said && (end < from-slack || end > until+slack):
		if c.base >= float64(Earliest.UnixNano()) {
			r.Correct("time", "of the file, which is not from from to until", 1)
		}
		if begin = until - length; from < until {
			begin = from
		}
		if from < until && length > until-from+slack || !said && length > maxUndated {
			return c
		}
	}
	if begin < float64(earliestSample) || begin+length > float64(latestSample) {
		return c
	}
	c.placed, c.length = true, int64(length)
	c.times.latest = max(int64(begin)+c.length, m.Until.UnixNano())
	switch begin { // without what is lost in a floating-point number
	case from:
		c.begin = m.From.UnixNano()
	case until - length:
		c.begin = m.Until.UnixNano() - c.length
	default:
		c.begin = int64(begin)
	}
	return c
}

// span is from when to when a profile's samples are, in its unit.
func (p *speedscopeProfile) span() (from, to float64) {
	if p.StartValue != nil {
		from = *p.StartValue
	}
	to = from
	if p.Type == "sampled" {
		for _, w := range p.Weights {
			to += max(float64(w), 0)
		}
		return from, to
	}
	for i := range p.Events {
		at := p.Events[i].At
		if at == nil {
			continue
		}
		if i == 0 && (p.StartValue == nil || (*at-from)*float64(speedscopeUnits[p.Unit]) > maxUndated) {
			from, to = *at, *at // of another clock than the beginning
		}
		to = max(to, *at)
	}
	return from, max(to, p.EndValue)
}

// whole reports whether all samples are at one time.
func (c *speedscopeClock) whole() bool { return !c.placed || c.length <= windowLength }

// time converts what the file says, in ns.
func (c *speedscopeClock) time(ns float64) int64 {
	after := min(max(ns-c.base, 0), float64(c.length))
	return c.begin + int64(after)
}

// cut divides the profile that a reader's call tree has become by time.
func (r *speedscopeReader) cut(whole *googlev1.Profile) []*googlev1.Profile {
	if r.times == nil {
		return []*googlev1.Profile{whole}
	}
	// The profile has a sample for each node with a value, in their order.
	number, n := make([]uint32, len(r.stacks.nodes)), uint32(0)
	for i := range r.stacks.nodes {
		if number[i] = n; r.stacks.nodes[i].value != 0 {
			n++
		}
	}
	for i := range r.times.cells {
		c := &r.times.cells[i]
		c.sample = number[c.sample]
	}
	return r.times.cut(whole)
}
