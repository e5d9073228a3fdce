package ingest

import "time"

// Earliest is the time before which no profile was taken: what claims to be older
// is zero, a count of microseconds, milliseconds or seconds, or the time since
// the machine booted.
var Earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// ProfileTime returns when a profile began, in ns since 1970, given what the
// sender says and when the profile arrived. All ways in use it.
//
// A time that cannot be is corrected, and noted in the report: a count of another
// unit than nanoseconds, if that makes it a time of the last day; else the profile
// is taken to have ended when it arrived. So is one that would have ended only
// after it arrived, unless it began after that. Times that are possible but too old
// or in the future are left to the receiver, who refuses them by name.
func ProfileTime(nanos, duration int64, received time.Time, r *Report) int64 {
	t, _ := profileTime(nanos, duration, received, r)
	return t
}

// profileTime is ProfileTime. said reports whether the sender said the time, in
// whatever unit.
func profileTime(nanos, duration int64, received time.Time, r *Report) (t int64, said bool) {
	if nanos >= Earliest.UnixNano() {
		return notAhead(nanos, duration, received, r), true
	}
	now := received.UnixNano()
	for _, unit := range []time.Duration{time.Microsecond, time.Millisecond, time.Second} {
		if nanos <= 0 || nanos > now/int64(unit) {
			continue
		}
		if t := nanos * int64(unit); t >= now-int64(24*time.Hour) {
			r.Correct("time", "of the profile, which is not in nanoseconds", 1)
			return notAhead(t, duration, received, r), true
		}
	}
	if nanos != 0 { // none at all is usual
		r.Correct("time", "of the profile, which is before 1990", 1)
	}
	return now - min(max(duration, 0), int64(24*time.Hour)), false
}

// ahead is how far the end of a profile may be after its arrival: by so much may
// clocks differ, and the last windows of an agent that stops be incomplete.
const ahead = 10 * time.Second

// notAhead returns when a profile began that says it began at t, in ns since 1970:
// so that it did not end after it arrived. Where most of it would have, t is the
// time at which it ended, which is what @datadog/pprof writes, on which Pyroscope's
// SDK for Node.js stands; else the sender's clock is ahead.
func notAhead(t, duration int64, received time.Time, r *Report) int64 {
	now := received.UnixNano()
	over := t - now + duration
	if duration <= 0 || duration > int64(24*time.Hour) || t > now+int64(ahead) || over <= int64(ahead) {
		return t
	}
	if over > duration/2 {
		r.Correct("time", "of the profile, which is that of its end", 1)
		return t - duration
	}
	r.Correct("time", "of the profile, which would have ended later than it arrived", 1)
	return now - duration
}

// farApart is how far a profile's own time may be from that which its push gives
// before the report says that they contradict each other. Clocks and queues make
// for less.
const farApart = time.Hour

// profileTime returns when a pprof profile of this push began and how long it is,
// in ns since 1970 and ns: what it says itself, or from, or its length before until.
// The profile's own time is stronger, since from and until are the sender's guess of
// it; but one without a duration whose time lies between them is all of the time
// between them: SDKs give a heap profile the time of its end.
func (m *Push) profileTime(nanos, duration int64, r *Report) (begin, length int64) {
	length = duration
	if duration == 0 {
		length = m.duration()
	}
	t, said := profileTime(nanos, duration, m.Until, r)
	from, until := m.From.UnixNano(), m.Until.UnixNano()
	switch {
	case !said && m.FromGiven:
		return from, length
	case !said:
		return until - min(length, int64(24*time.Hour)), length
	case m.FromGiven && (t < from-int64(farApart) || t > until+int64(farApart)):
		r.Skip("parameter", "from and until, which contradict the profile's own time", 1)
	// The parameters are often whole seconds.
	case m.FromGiven && duration == 0 && t >= from && t <= until+int64(ahead):
		return from, length
	case m.FromGiven && m.endsAt(t, duration):
		r.Correct("time", "of the profile, which is that of its end", 1)
		return t - duration, length
	}
	return t, length
}

// endsAt reports whether a profile of this push with a time and a duration, in ns,
// ended at that time rather than beginning then: it would have ended after until,
// which is often cut off to a second, and so it is closer to from.
func (m *Push) endsAt(t, duration int64) bool {
	from, until := m.From.UnixNano(), m.Until.UnixNano()
	if t > until+int64(ahead) || duration > int64(24*time.Hour) || t+duration <= until+int64(time.Second) {
		return false
	}
	return max(t-duration-from, from-t+duration) < max(t-from, from-t)
}
