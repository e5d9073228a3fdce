package containers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/singleflight"
)

const (
	pollTimeout = 10 * time.Second
	// least is the least time between two polls, whoever asks.
	least = time.Second
	// firstRetry is the pause before an unknown container makes the source poll again,
	// doubled each time up to lastRetry. Who asks waits for the first waits of these
	// polls: a kubelet lists a container a second or two after it was started.
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	waits      = 3
	// patience is how long a source may be unavailable while somebody waits for it.
	patience = 30 * time.Second
	// kept is how long a container is remembered that the source does not list any more.
	// A kubelet that has just started lists no pods for a while.
	kept = 15 * time.Minute
	// maxKnown bounds the containers and pods that are remembered, maxAsked the unknown
	// ones that were asked for.
	maxKnown = 20_000
	maxAsked = 10_000
)

// A found is a container, or a pod without one, as a source lists it.
type found struct {
	key    string // container ID, or podKey
	labels labels.Labels
}

// A Source polls Kubernetes or Docker.
type Source struct {
	name string
	list func(context.Context) ([]found, error)
	o    Options
	log  *slog.Logger
	wake chan struct{} // capacity 1
	step time.Duration // least
	asks singleflight.Group

	mu    sync.Mutex
	known map[string]*remembered
	asked map[string]*asking // unknown containers
	// next is closed when the next poll that begins has succeeded, unanswered when any
	// does.
	next       chan struct{}
	unanswered []chan struct{}
	// since is when the source was last seen to work, or when it was started.
	since time.Time
	down  bool // the last poll failed
}

// remembered is what is known about a container.
type remembered struct {
	labels labels.Labels
	seen   time.Time // when it was last listed
}

// asking is how often an unknown container has made the source poll, and when it may
// again.
type asking struct {
	polls int
	pause time.Duration
	until time.Time
}

func newSource(name string, o Options, list func(context.Context) ([]found, error)) *Source {
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return &Source{
		name: name, list: list, o: o, log: o.Logger.With("source", name), wake: make(chan struct{}, 1), step: least,
		known: map[string]*remembered{}, asked: map[string]*asking{}, next: make(chan struct{}), since: time.Now(),
	}
}

// find returns what is known about a container or a pod.
func (s *Source) find(key string) (labels.Labels, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[key]; k != nil {
		return k.labels, true
	}
	return labels.EmptyLabels(), false
}

// ask polls for an unknown container and returns whether it is known then. Calls for the
// same container share the answer.
func (s *Source) ask(ctx context.Context, key string) bool {
	known, _, _ := s.asks.Do(key, func() (any, error) { return s.askOnce(ctx, key), nil })
	return known.(bool)
}

func (s *Source) askOnce(ctx context.Context, key string) bool {
	for {
		pause, ok := s.request(key)
		if !ok || !sleep(ctx, pause) {
			break
		}
		s.mu.Lock()
		next := s.next
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
		if _, ok := s.find(key); ok || ctx.Err() != nil {
			return ok
		}
	}
	_, ok := s.find(key)
	return ok
}

// request says how long to wait before polling for an unknown container, and reports
// whether it is worth waiting for.
func (s *Source) request(key string) (pause time.Duration, ok bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down && now.Sub(s.since) > patience {
		return 0, false
	}
	a := s.asked[key]
	if a == nil {
		if len(s.asked) >= maxAsked {
			clear(s.asked)
		}
		a = &asking{pause: firstRetry, until: now}
		s.asked[key] = a
	}
	if a.polls >= waits && now.Before(a.until) {
		return 0, false
	}
	pause = a.until.Sub(now)
	a.polls++
	a.until = now.Add(max(pause, 0) + a.pause)
	a.pause = min(2*a.pause, lastRetry)
	return pause, true
}

// run polls until ctx ends.
func (s *Source) run(ctx context.Context) {
	for {
		began := time.Now()
		s.poll(ctx)
		s.mu.Lock()
		pause := s.o.Interval
		if s.down && time.Since(s.since) < patience {
			pause = min(pause, s.step)
		}
		s.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if !sleep(ctx, s.step-time.Since(began)) {
			return
		}
	}
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// poll asks the source once. What it said before stays if it does not answer.
func (s *Source) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	s.mu.Lock()
	s.unanswered = append(s.unanswered, s.next)
	s.next = make(chan struct{})
	s.mu.Unlock()
	all, err := s.list(ctx)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return // the end
		}
		s.o.Metrics.polls.WithLabelValues(s.name, "failed").Inc()
		s.o.Metrics.up.WithLabelValues(s.name).Set(0)
		if !s.down {
			s.log.Warn("names of containers are not available; those that are known stay", "err", err)
		}
		s.down = true
		if now.Sub(s.since) > patience {
			s.answer()
		}
		return
	}
	if s.down {
		s.log.Info("names of containers are available again")
	}
	s.down, s.since = false, now
	for _, f := range all {
		s.known[f.key] = &remembered{f.labels, now}
		delete(s.asked, f.key)
	}
	for key, k := range s.known {
		if now.Sub(k.seen) > kept || len(s.known) > maxKnown && k.seen != now {
			delete(s.known, key)
		}
	}
	s.o.Metrics.polls.WithLabelValues(s.name, "ok").Inc()
	s.o.Metrics.up.WithLabelValues(s.name).Set(1)
	s.o.Metrics.known.WithLabelValues(s.name).Set(float64(len(s.known)))
	s.answer()
}

// answer wakes those who wait for a poll that has begun.
func (s *Source) answer() {
	for _, c := range s.unanswered {
		close(c)
	}
	s.unanswered = nil
}
