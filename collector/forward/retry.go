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

// A backoff computes the pauses between attempts. Each is twice as long as the one
// before, less a random part of up to a half, so that agents do not all return at once
// when their server is back.
type backoff struct {
	first, last time.Duration
}

// next returns the next pause. It is at least after, the time that the server asked for,
// 0 if none.
func (b *backoff) next(after time.Duration) time.Duration {
	b.last = min(max(b.first, 2*b.last), maxPause)
	pause := b.last - rand.N(b.last/2+1)
	if after = min(after, maxRetryAfter); after > pause {
		pause = after + rand.N(after/10+1)
	}
	return pause
}

func (b *backoff) reset() { b.last = 0 }

// An answer holds the HTTP properties of an answer besides its error, since proxies
// answer for servers without speaking Connect.
type answer struct {
	status     int // 0 without an answer
	retryAfter time.Duration
}

// answerKey is the context key of a request's *answer.
type answerKey struct{}

// A recorder is a RoundTripper that fills in the *answer of a request's context.
type recorder struct{ next http.RoundTripper }

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok && err == nil {
		a.status, a.retryAfter = resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return resp, err
}

// retryAfter reads the header Retry-After, which is a number of seconds or a date (RFC
// 9110, 10.2.3). It returns 0 for other texts.
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

// aboutSize reports whether a resource_exhausted error, of connect or gRPC, means that
// the message is too large, rather than that there are too many requests.
func aboutSize(err error) bool {
	text := strings.ToLower(err.Error())
	for _, part := range []string{"too large", "larger than", "message size", "exceeds the maximum size"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
