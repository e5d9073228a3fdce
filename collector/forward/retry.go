package forward

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxPause      = 10 * time.Second
	maxRetryAfter = 10 * time.Minute
)

// A backoff gives the pauses between attempts: twice as long each time, less up
// to a half at random, lest all agents come at once when their server is back.
type backoff struct {
	first, last time.Duration
}

// next returns the next pause. after is what the server asked for, 0 if nothing:
// the pause is not shorter.
func (b *backoff) next(after time.Duration) time.Duration {
	b.last = min(max(b.first, 2*b.last), maxPause)
	pause := b.last - rand.N(b.last/2+1)
	if after = min(after, maxRetryAfter); after > pause {
		pause = after + rand.N(after/10+1)
	}
	return pause
}

func (b *backoff) reset() { b.last = 0 }

// An answer is what HTTP says of a server's answer besides the error: proxies
// answer for servers, and know nothing of their protocol.
type answer struct {
	status     int // 0 without an answer
	retryAfter time.Duration
}

// answerKey is the context's key of the *answer to fill in.
type answerKey struct{}

// A recorder fills in the answer of a request's context.
type recorder struct{ next http.RoundTripper }

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok && err == nil {
		a.status, a.retryAfter = resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return resp, err
}

// retryAfter reads the header, which is a number of seconds or a date (RFC 9110,
// 10.2.3); 0 if it is neither.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// aboutSize reports whether a resource_exhausted error says that the message is
// too large, as connect's and gRPC's do, rather than that there are too many.
func aboutSize(err error) bool {
	text := strings.ToLower(err.Error())
	for _, part := range []string{"too large", "larger than", "message size", "exceeds the maximum size"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
