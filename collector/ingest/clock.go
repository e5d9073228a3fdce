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
	if nanos >= earliest.UnixNano() {
		return nanos
	}
	now := received.UnixNano()
	for _, unit := range []time.Duration{time.Microsecond, time.Millisecond, time.Second} {
		if nanos <= 0 || nanos > now/int64(unit) {
			continue
		}
		if t := nanos * int64(unit); t >= now-int64(24*time.Hour) {
			r.Correct("time", "of the profile, which is not in nanoseconds", 1)
			return t
		}
	}
	if nanos != 0 { // none at all is usual
		r.Correct("time", "of the profile, which is before 1990", 1)
	}
	return now - min(max(duration, 0), int64(24*time.Hour))
}
