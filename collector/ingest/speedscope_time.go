package ingest

import (
	"math"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// maxUndated is the longest file, in ns, that is assumed to have ended when it arrived.
const maxUndated = float64(24 * time.Hour)

// A speedscopeClock converts the times of a file's profiles, if their values are times.
// Those count from an arbitrary time that is the same for all profiles of the file.
type speedscopeClock struct {
	placed bool // whether samples have times
	// base is the earliest time of the file, in ns on the file's clock, and begin the
	// same time in Unix ns. length is the time from there to the last sample, in ns.
	base   float64
	begin  int64
	length int64
	times  timelines
}

// newSpeedscopeClock determines the time of a file.
//
// Unix times in the file are used if they end between m.From and m.Until, or within a
// minute of that range. Other files begin at m.From, or end at m.Until, or else when
// they arrived. A file longer than the time from m.From to m.Until, which may be cut to
// whole seconds, has sums over threads or equal stacktraces, so its samples have no times.
func newSpeedscopeClock(ps []speedscopeProfile, m *Push, r *Report) *speedscopeClock {
	c := &speedscopeClock{base: math.Inf(1)}
	end := math.Inf(-1)
	for i := range ps {
		if unit, ok := speedscopeUnits[ps[i].Unit]; ok {
			from, to := ps[i].bounds()
			c.base, end = min(c.base, from*float64(unit)), max(end, to*float64(unit))
		}
	}
	length := end - c.base
	if !(length > 0) { // no samples, or NaN
		return c
	}
	from, until := float64(m.From.UnixNano()), float64(m.Until.UnixNano())
	said, slack := m.dated(), float64(clockSlack)
	begin := c.base
	switch {
	case c.base < float64(Earliest.UnixNano()) || end > float64(latestSample), said && (end < from-slack || end > until+slack):
		if c.base >= float64(Earliest.UnixNano()) {
			r.Correct("time", "of the file, which is not between from and until", 1)
		}
		if begin = until - length; from < until {
			begin = from
		}
		if from < until && length > 1.02*(until-from)+float64(time.Second) || !said && length > maxUndated {
			return c
		}
	}
	if begin < float64(earliestSample) || begin+length > float64(latestSample) {
		return c
	}
	c.placed, c.length = true, int64(length)
	c.times.latest = max(int64(begin)+c.length, m.Until.UnixNano())
	switch begin { // exact, without the rounding of floating-point numbers
	case from:
		c.begin = m.From.UnixNano()
	case until - length:
		c.begin = m.Until.UnixNano() - c.length
	default:
		c.begin = int64(begin)
	}
	return c
}

// bounds returns the start and the end of a profile's samples, in its unit.
func (p *speedscopeProfile) bounds() (from, to float64) {
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
			from, to = *at, *at // on another clock than the start value
		}
		to = max(to, *at)
	}
	return from, max(to, p.EndValue)
}

// whole reports whether all samples have one time.
func (c *speedscopeClock) whole() bool { return !c.placed || c.length <= windowLength }

// time converts a time of the file, in ns, to Unix ns.
func (c *speedscopeClock) time(ns float64) int64 {
	after := min(max(ns-c.base, 0), float64(c.length))
	return c.begin + int64(after)
}

// cut divides the profile made from a reader's call tree into windows.
func (r *speedscopeReader) cut(whole *googlev1.Profile) []*googlev1.Profile {
	if r.times == nil {
		return []*googlev1.Profile{whole}
	}
	// The profile has one sample per node with a value, in the nodes' order.
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
