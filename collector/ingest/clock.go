package ingest

import "time"

// earliest is the time before which no profile was taken: what claims to be older
// is zero, a count of microseconds, milliseconds or seconds, or the time since
// the machine booted.
var earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// ProfileTime returns when a profile began, in ns since 1970, given what the
// sender says and when the profile arrived. All ways in use it.
//
// A time that cannot be is corrected, and noted in the report: a count of another
// unit than nanoseconds, if that makes it a time of the last day; else the profile
// is taken to have ended when it arrived. Times that are possible but too old or
// in the future are left to the receiver, who refuses them by name.
func ProfileTime(nanos, duration int64, received time.Time, r *Report) int64 {
	t, _ := profileTime(nanos, duration, received, r)
	return t
}

// profileTime is ProfileTime. said reports whether the sender said the time, in
// whatever unit.
func profileTime(nanos, duration int64, received time.Time, r *Report) (t int64, said bool) {
	if nanos >= earliest.UnixNano() {
		return nanos, true
	}
	now := received.UnixNano()
	for _, unit := range []time.Duration{time.Microsecond, time.Millisecond, time.Second} {
		if nanos <= 0 || nanos > now/int64(unit) {
			continue
		}
		if t := nanos * int64(unit); t >= now-int64(24*time.Hour) {
			r.Correct("time", "of the profile, which is not in nanoseconds", 1)
			return t, true
		}
	}
	if nanos != 0 { // none at all is usual
		r.Correct("time", "of the profile, which is before 1990", 1)
	}
	return now - min(max(duration, 0), int64(24*time.Hour)), false
}

// farApart is how far a profile's own time may be from that which its push gives
// before the report says that they contradict each other. Clocks and queues make
// for less.
const farApart = time.Hour

// profileTime returns when a pprof profile of this push began, in ns since 1970:
// its own time, or from, or its length before until. The profile's own time is
// stronger, since from and until are the sender's guess of it.
func (m *Push) profileTime(nanos, duration int64, r *Report) int64 {
	t, said := profileTime(nanos, duration, m.Until, r)
	switch {
	case said:
		begin, end := m.From.Add(-farApart).UnixNano(), m.Until.Add(farApart).UnixNano()
		if m.FromGiven && (t < begin || t > end) {
			r.Skip("parameter", "from and until, which contradict the profile's own time", 1)
		}
		return t
	case m.FromGiven:
		return m.From.UnixNano()
	}
	return t
}
