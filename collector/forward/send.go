package forward

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
)

const (
	// maxSeries bounds the profiles of one request, below the limits of servers.
	maxSeries = 200
	// maxRequestBytes bounds the profiles of one request, before compression, unless a
	// single one is larger. Servers accept requests at least as large as profiles.
	maxRequestBytes = 4 << 20
	// requestTimeout bounds one request.
	requestTimeout = 20 * time.Second
	// maxAnswerBytes bounds an answer, which is empty or an error.
	maxAnswerBytes = 1 << 20
	// maxAlone is the number of attempts to send a profile alone before it is given up,
	// if the reason of its refusal is unclear and others are accepted.
	maxAlone = 10
)

// run sends queued profiles until ctx ends, or until Close was called and the queue is
// empty.
//
// A failed request halves the size of the next one, and a successful one doubles it. So
// a profile that the server refuses is soon sent alone, and all others are accepted.
func (f *Forwarder) run(ctx context.Context) {
	defer close(f.done)
	limit := maxSeries
	pauses := backoff{first: f.options.FirstPause}
	failing := false
	for ctx.Err() == nil {
		batch := f.queue.take(limit, maxRequestBytes)
		if len(batch) == 0 {
			select {
			case <-f.queue.wake:
				continue
			case <-f.closing:
			case <-ctx.Done():
			}
			if n, _ := f.queue.size(); n == 0 {
				return
			}
			continue
		}
		answer, err := f.push(ctx, batch)
		verdict := judge(answer, err)
		if verdict == accepted {
			f.metrics.profiles.WithLabelValues(outcomeOK).Add(float64(len(batch)))
			f.queue.settle(batch, nil)
			limit = min(2*limit, maxSeries)
			pauses.reset()
			if failing {
				failing = false
				n, _ := f.queue.size()
				f.log.Info("the server accepts profiles again", "waiting", n)
			}
			continue
		}
		limit = max(1, len(batch)/2)
		if verdict == invalid && len(batch) == 1 {
			f.refuse(batch[0], err)
			continue
		}
		if verdict == invalid {
			f.queue.keep(batch)
			continue
		}
		f.metrics.profiles.WithLabelValues(outcomeFailed).Add(float64(len(batch)))
		if verdict == unclear && len(batch) == 1 {
			if f.queue.postpone(batch[0]) > maxAlone {
				f.refuse(batch[0], err)
				continue
			}
		} else {
			f.queue.keep(batch)
		}
		if !failing && ctx.Err() == nil {
			failing = true
			f.log.Warn("profiles cannot be sent; they stay in the queue", "err", err)
		}
		f.pause(ctx, pauses.next(answer.retryAfter))
	}
}

// pause waits. After Close, the present pause and further ones are short.
func (f *Forwarder) pause(ctx context.Context, d time.Duration) {
	closing := f.closing
	select {
	case <-closing:
		closing, d = nil, min(d, time.Second)
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-closing:
	case <-ctx.Done():
	}
}

// refuse gives up a profile that the server refused.
func (f *Forwarder) refuse(it *item, err error) {
	f.metrics.profiles.WithLabelValues(outcomeRefused).Inc()
	f.queue.settle([]*item{it}, fmt.Errorf("%w: %s: %w", ErrRefused, it.labels, err))
	f.refusal.say(f.log, it, err)
}

// push sends one request.
func (f *Forwarder) push(ctx context.Context, batch []*item) (answer, error) {
	req := &pushv1.PushRequest{}
	for _, it := range batch {
		req.Series = append(req.Series, it.series)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var a answer
	_, err := f.client.Push(context.WithValue(ctx, answerKey{}, &a), connect.NewRequest(req))
	return a, err
}

// A verdict is the meaning of an answer for the profiles of its request.
type verdict int

const (
	accepted verdict = iota
	// invalid: the reason is a profile of the request, or the request's size.
	invalid
	// unclear: the reason may be a profile or the server.
	unclear
	// unavailable: the reason is not the profiles.
	unavailable
)

func judge(a answer, err error) verdict {
	if err == nil {
		return accepted
	}
	if a.status == http.StatusRequestEntityTooLarge {
		return invalid
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return invalid
	case connect.CodeResourceExhausted:
		if aboutSize(err) {
			return invalid
		}
		return unavailable // a rate limit
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeUnauthenticated,
		connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeNotFound:
		return unavailable
	}
	return unclear
}

// refusalPause is the least time between log messages about refused profiles, since
// every profile of a node may be refused for the same reason.
const refusalPause = 10 * time.Second

// A refusalLog logs refused profiles, each time with the number since the last message.
// It is used by one goroutine.
type refusalLog struct {
	last   time.Time
	silent int
}

func (r *refusalLog) say(log *slog.Logger, it *item, err error) {
	if time.Since(r.last) < refusalPause {
		r.silent++
		return
	}
	log.Error("the server refuses a profile, which is lost", "profile", it.labels, "id", it.id, "others_since_last_message", r.silent, "err", err)
	r.last, r.silent = time.Now(), 0
}
