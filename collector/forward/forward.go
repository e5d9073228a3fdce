// Package forward sends an agent's profiles to a server that speaks Pyroscope's push
// API. An agent has it instead of a store.
//
// Profiles wait in one bounded queue in memory until the server has acknowledged or
// refused each of them. A profile keeps its ID over all attempts; it is left to the
// server to store a profile once that it receives twice.
package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/pkg/profile"
)

// Defaults of Options.
const (
	DefaultMaxQueueBytes    = 64 << 20
	DefaultMaxQueueProfiles = 50_000
)

// Options configure a Forwarder. URL is required.
type Options struct {
	// URL is the server's address, such as https://profiles.example.com.
	URL string
	// Client has credentials and TLS settings; nil means neither.
	Client     *http.Client
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing

	// MaxQueueBytes and MaxQueueProfiles bound the queue: the size of its profiles,
	// compressed, with their labels, and their number. When it is full, the oldest
	// profiles are dropped. 0 means the default.
	MaxQueueBytes    int64
	MaxQueueProfiles int
	// FirstPause is the pause after a first failure. Each further pause is twice as
	// long, up to 10 s. 0 means half a second.
	FirstPause time.Duration
}

// ErrRefused is wrapped by errors about profiles that the server will never accept.
var ErrRefused = errors.New("the server refuses the profile")

// ErrDropped is wrapped by errors about profiles that left the queue unsent, because it
// was full or the Forwarder was closed.
var ErrDropped = errors.New("the profile was dropped before it was sent")

// A Forwarder sends profiles to a server. It is safe for concurrent use. Whoever
// made it has to close it.
type Forwarder struct {
	options Options
	log     *slog.Logger
	client  pushv1connect.PusherServiceClient
	metrics *metrics
	queue   *queue
	refusal refusalLog

	close   sync.Once
	closing chan struct{} // closed by Close: no more profiles are accepted
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has returned
}

// New returns a Forwarder that sends queued profiles in the background. It connects when
// there is something to send.
func New(o Options) (*Forwarder, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("forward: %q is not the URL of an HTTP server", o.URL)
	}
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.Transport = recorder{cmp.Or[http.RoundTripper](client.Transport, http.DefaultTransport)}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxQueueBytes = cmp.Or(o.MaxQueueBytes, DefaultMaxQueueBytes)
	o.MaxQueueProfiles = cmp.Or(o.MaxQueueProfiles, DefaultMaxQueueProfiles)
	o.FirstPause = cmp.Or(o.FirstPause, 500*time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forwarder{
		options: o,
		log:     o.Logger,
		client:  pushv1connect.NewPusherServiceClient(&client, u.String(), connect.WithReadMaxBytes(maxAnswerBytes)),
		queue:   newQueue(o.MaxQueueProfiles, o.MaxQueueBytes),
		closing: make(chan struct{}),
		cancel:  cancel,
		done:    make(chan struct{}),
	}
	f.metrics = newMetrics(o.Registerer, f.queue)
	go f.run(ctx)
	return f, nil
}

// Queue queues profiles and returns at once. An error is about profiles that can never
// be sent; the others are queued.
func (f *Forwarder) Queue(_ context.Context, ps []profile.Profile) error {
	_, err := f.put(ps, false)
	return err
}

// Append queues profiles and returns when the server has acknowledged all of them. An
// error wraps ErrRefused if the server will never accept any of the profiles that are
// missing. When ctx ends, the profiles stay in the queue; another Append with the same
// IDs waits for the same profiles.
func (f *Forwarder) Append(ctx context.Context, ps []profile.Profile) error {
	waiting, err := f.put(ps, true)
	if err != nil {
		return err
	}
	refused := error(nil)
	for _, outcome := range waiting {
		select {
		case err := <-outcome:
			switch {
			case err == nil:
			case errors.Is(err, ErrRefused):
				refused = err
			default:
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("forward: not acknowledged yet: %w", ctx.Err())
		}
	}
	return refused
}

// put encodes and queues profiles. If wait is set, it returns a channel per profile that
// receives the outcome.
func (f *Forwarder) put(ps []profile.Profile, wait bool) (waiting []chan error, err error) {
	var items []*item
	for _, p := range ps {
		it, e := newItem(p)
		if e == nil && it.bytes > f.options.MaxQueueBytes {
			e = fmt.Errorf("%w: %d bytes are more than the queue holds (push.max_queue_bytes)", ErrRefused, it.bytes)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("forward %s: %w", p.Labels, e))
			f.metrics.profiles.WithLabelValues(outcomeRefused).Inc()
			continue
		}
		if wait {
			c := make(chan error, 1)
			it.waiting = []chan error{c}
			waiting = append(waiting, c)
		}
		items = append(items, it)
	}
	if dropped := f.queue.put(items); dropped > 0 {
		f.metrics.profiles.WithLabelValues(outcomeDropped).Add(float64(dropped))
		f.log.Error("profiles are lost: the queue for the server is full and the oldest were dropped", "profiles", dropped)
	}
	return waiting, err
}

// Close sends the queued profiles until ctx ends. Then the rest is lost and counted, and
// the error gives their number.
func (f *Forwarder) Close(ctx context.Context) error {
	f.close.Do(func() { close(f.closing) })
	select {
	case <-f.done:
	case <-ctx.Done():
		f.cancel()
		<-f.done
	}
	f.cancel()
	left := f.queue.close()
	if left == 0 {
		return nil
	}
	f.metrics.profiles.WithLabelValues(outcomeShutdown).Add(float64(left))
	return fmt.Errorf("forward: %d profiles could not be sent before the shutdown and are lost", left)
}
