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
	// maxSeries is the number of profiles of one request, below the limit that
	// servers have.
	maxSeries = 200
	// maxRequestBytes bounds the profiles of one request together, before
	// compression, unless one alone is larger. Servers take as much of a request
	// as of a profile, or more.
	maxRequestBytes = 4 << 20
	// requestTimeout bounds one request.
	requestTimeout = 20 * time.Second
	// maxAnswerBytes bounds an answer, which is empty or an error.
	maxAnswerBytes = 1 << 20
	// maxAlone is how often a profile is sent alone, and refused for no clear
	// reason while others are taken, until it is given up.
	maxAlone = 10
)

// run sends what is queued, until ctx ends, or Close was called and the queue is
// empty.
//
// A request that fails makes the next one half as large, and one that gets
// through twice as large. So one profile that the server refuses is soon in a
// request of its own, and all others get through.
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
				f.log.Info("the server takes profiles again", "waiting", n)
			}
			continue
		}
		limit = max(1, len(batch)/2)
		if verdict == atFault && len(batch) == 1 {
			f.refuse(batch[0], err)
			continue
		}
		if verdict == atFault {
			f.queue.keep(batch)
			continue
		}
		f.metrics.profiles.WithLabelValues(outcomeFailed).Add(float64(len(batch)))
		if verdict == suspect && len(batch) == 1 {
			if f.queue.postpone(batch[0]) > maxAlone {
				f.refuse(batch[0], err)
				continue
			}
		} else {
			f.queue.keep(batch)
		}
		if !failing && ctx.Err() == nil {
			failing = true
			f.log.Warn("profiles cannot be sent; they wait and are sent again", "err", err)
		}
		f.pause(ctx, pauses.next(answer.retryAfter))
	}
}

// pause waits. Close cuts a pause short, and those after it are short.
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

// refuse gives a profile up.
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

// A verdict says what an answer means for the profiles that were sent.
type verdict int

const (
	accepted verdict = iota
	// atFault: a profile of the request, or the size of it, is the reason.
	atFault
	// suspect: a profile may be the reason, or the server.
	suspect
	// away: the profiles are not the reason.
	away
)

func judge(a answer, err error) verdict {
	if err == nil {
		return accepted
	}
	if a.status == http.StatusRequestEntityTooLarge {
		return atFault
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return atFault
	case connect.CodeResourceExhausted:
		if aboutSize(err) {
			return atFault
		}
		return away // a limit on the rate
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeUnauthenticated,
		connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeNotFound:
		return away
	}
	return suspect
}

// refusalPause is the least time between messages about refused profiles: every
// profile of a node may be refused for the same reason.
const refusalPause = 10 * time.Second

// A refusalLog logs refused profiles, each message with the number of those since
// the last. It is used by one goroutine.
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
