package scrape

import (
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// An answer is a target's answer, and what the scraper knows about it.
type answer struct {
	body       []byte
	kind       kind
	start, end time.Time     // of the request
	length     time.Duration // requested length; 0 for a profile that is not taken over time
	ids        []string      // IDs for the profiles made of it
}

// kindOf returns the kind of a cumulative profile's values: net/http/pprof gives a
// difference another file name, and godeltaprof serves under another path.
func kindOf(h http.Header, urlPath string) kind {
	if _, params, err := mime.ParseMediaType(h.Get("Content-Disposition")); err == nil && strings.HasSuffix(params["filename"], "-delta") {
		return difference
	}
	if strings.HasPrefix(path.Base(urlPath), "delta_") {
		return growth
	}
	return counters
}

// ended returns when the request ended, in Unix ns by the wall clock, or, if the wall
// clock was set back meanwhile, by the monotonic clock.
func (a answer) ended() int64 {
	return max(a.end.UnixNano(), a.start.UnixNano()+int64(a.end.Sub(a.start)))
}

// setTime sets the start and the duration of a profile that was taken over time. The
// profile's own values are clamped to the time of the request, within which they lie if
// the clocks of the target and of this machine agree.
func (a answer) setTime(p *googlev1.Profile) {
	start, end := a.start.UnixNano(), a.ended()
	if p.DurationNanos <= 0 || p.DurationNanos > end-start {
		p.DurationNanos = min(int64(a.length), end-start)
	}
	p.TimeNanos = min(max(p.TimeNanos, start), end-p.DurationNanos)
}

// reading returns a profile of counters and states with the time at which they were
// read: the profile's own, if it lies within the request.
func (a answer) reading(p *googlev1.Profile) reading {
	start, end := a.start.UnixNano(), a.ended()
	r := reading{profile: p, kind: a.kind, answered: a.end, duration: p.DurationNanos}
	if a.kind == difference && r.duration > end-start {
		r.duration = 0 // it was taken during the request
	}
	if p.TimeNanos < start || p.TimeNanos > end {
		r.taken = start
		if a.kind == difference {
			r.taken = end
		}
		return r
	}
	r.taken = p.TimeNanos
	return r
}
