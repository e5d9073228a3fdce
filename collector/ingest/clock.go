package ingest

import "time"

// Earliest is the earliest time that a profile may have. A number that gives an earlier
// one is 0, a count of microseconds, milliseconds or seconds, or the time since the
// machine booted.
var Earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// ProfileTime returns when a profile began, in Unix nanoseconds, given the time and the
// duration that the sender says, in ns, and when the profile arrived. All sources of
// profiles use it.
//
// An impossible time is corrected, and the report says so: it is read as a count of µs,
// ms or s, if that gives a time of the last day; else the profile is taken to have ended
// when it arrived. The same holds for a profile that began before it arrived and would
// end after it arrived. Possible times that are too old or in the future are not
// corrected: the receiver refuses them.
func ProfileTime(nanos, duration int64, received time.Time, r *Report) int64 {
	t, _ := profileTime(nanos, duration, received, r)
	return t
}

// profileTime is ProfileTime that also reports whether the sender said a time, in any
// unit.
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
	if nanos != 0 { // profiles without a time are common
		r.Correct("time", "of the profile, which is before 1990", 1)
	}
	return now - min(max(duration, 0), int64(24*time.Hour)), false
}

// Ahead is how far a profile's end may be after its arrival without correction: clocks
// differ, and the last window of an agent that stops is incomplete.
const Ahead = 10 * time.Second

// notAhead corrects the start t, in Unix ns, of a profile that would have ended after it
// arrived. If most of it would have, t is the time of its end, which @datadog/pprof
// writes, on which Pyroscope's SDK for Node.js is built; else the sender's clock is
// ahead, and the profile ended when it arrived.
func notAhead(t, duration int64, received time.Time, r *Report) int64 {
	now := received.UnixNano()
	over := t - now + duration
	if duration <= 0 || duration > int64(24*time.Hour) || t > now+int64(Ahead) || over <= int64(Ahead) {
		return t
	}
	if over > duration/2 {
		r.Correct("time", "of the profile, which is that of its end", 1)
		return t - duration
	}
	r.Correct("time", "of the profile, which would have ended later than it arrived", 1)
	return now - duration
}

// farApart is the least difference between a profile's own time and its push's that the
// report calls a contradiction. Differences of clocks and delays in queues are smaller.
const farApart = time.Hour

// profileTime returns when a pprof profile of this push began, in Unix ns, and its
// length, in ns. The profile's own time comes first, since from and until are the
// sender's estimate of it; without one, the profile began at from, or its length before
// until. A profile without a duration whose time lies between from and until covers all
// of that range: SDKs give a heap profile the time of its end.
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
	case m.FromGiven && duration == 0 && t >= from && t <= until+int64(Ahead):
		return from, length
	case m.FromGiven && m.endsAt(t, duration):
		r.Correct("time", "of the profile, which is that of its end", 1)
		return t - duration, length
	}
	return t, length
}

// endsAt reports whether the time t of a profile, in Unix ns, is that of its end: with
// its duration, in ns, it would end after until, and ending at t brings its start closer
// to from. until is often truncated to a second.
func (m *Push) endsAt(t, duration int64) bool {
	from, until := m.From.UnixNano(), m.Until.UnixNano()
	if t > until+int64(Ahead) || duration > int64(24*time.Hour) || t+duration <= until+int64(time.Second) {
		return false
	}
	return max(t-duration-from, from-t+duration) < max(t-from, from-t)
}
