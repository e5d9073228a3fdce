package ingest

import (
	"math"
	"time"
)

// An interval is when an event began and ended, in ns since 1970.
type interval struct{ from, to int64 }

const (
	// clockSlack is the tolerance, in ns, between the clocks of a recording and of its
	// push, and for events outside of their chunk.
	clockSlack = int64(time.Minute)
	// shortSlack is the tolerance, in ns, for events outside of a short recording.
	shortSlack = int64(100 * time.Millisecond)
)

// setTimes determines when the recording began and ended.
//
// The recording's own times, which are more precise than the push's, are used if the
// recording ends between m.From and m.Until, or within a minute of that range. Otherwise
// its clock is wrong, and the recording is moved so that it ends at m.Until. If the push
// gives neither time, the recording's times are corrected only if they are impossible,
// as by ProfileTime.
func (r *recording) setTimes() {
	said := r.push.dated()
	for _, c := range r.chunks {
		if c.end == c.begin { // the header has no duration
			c.end = max(c.begin, min(c.time(c.lastTicks), c.begin+jfrLongestChunk))
		}
		if !said {
			begin := ProfileTime(c.begin, c.end-c.begin, r.push.Until, r.limits.Report)
			c.begin, c.end = begin, begin+c.end-c.begin
		}
	}
	r.begin, r.end = r.chunks[0].begin, r.chunks[0].end
	for _, c := range r.chunks {
		r.begin, r.end = min(r.begin, c.begin), max(r.end, c.end)
	}
	if !said {
		return
	}
	until := r.push.Until.UnixNano()
	from := r.push.From.UnixNano()
	if from >= until { // the push gives only the end
		from = until - (r.end - r.begin)
	}
	if r.end >= from-clockSlack && r.end <= until+clockSlack {
		return
	}
	r.limits.Report.Correct("time", "of the recording, which was moved to end at until", 1)
	by := max(until-r.end, -r.begin)
	for _, c := range r.chunks {
		c.begin, c.end = c.begin+by, c.end+by
	}
	r.begin, r.end = r.begin+by, r.end+by
}

// time converts ticks to ns since 1970.
func (c *jfrChunk) time(ticks uint64) int64 {
	after := int64(ticks - c.startTicks) // negative before the chunk
	if after < 0 {
		return c.begin - min(c.nanos(uint64(-after)), math.MaxInt64/2)
	}
	return c.begin + min(c.nanos(uint64(after)), math.MaxInt64-c.begin)
}

// interval returns the time of an event, given its start and its duration in ticks. An event
// that did not end in its chunk, or within a minute of it, is moved into the chunk.
func (r *recording) interval(began, lasted uint64) interval {
	c := r.chunk
	from := c.time(began)
	took := c.nanos(lasted)
	to := from + min(took, math.MaxInt64-max(from, 0))
	if to < c.begin-clockSlack || to > c.end+clockSlack {
		r.misplaced++
		to = min(max(to, c.begin), c.end)
		from = to - min(took, math.MaxInt64/2)
	}
	return interval{from, to}
}

// whole reports whether an event belongs to a recording that is short enough to be one
// profile.
func (r *recording) whole(at interval) bool {
	return !r.times.ticks && r.end-r.begin <= windowLength && at.from >= r.begin-shortSlack && at.to <= r.end+shortSlack
}

// clip cuts off the part of an event that is too old for the receiver, if another part
// is not: a thread may wait for days.
func (r *recording) clip(at interval) interval {
	if r.push.Oldest.IsZero() || at.from == at.to {
		return at
	}
	oldest := windowAt(r.push.Oldest.UnixNano(), max(r.times.length, windowLength)).end() + 1
	if at.from >= oldest || at.to <= oldest {
		return at
	}
	r.early++
	return interval{oldest, at.to}
}
