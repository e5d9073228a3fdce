// Package forward sends profiles to another server that speaks Pyroscope's push
// API, in place of a store of this process' own: it is what an agent on a node
// does with what its sources give.
//
// Profiles wait in one bounded queue in memory until the server has acknowledged
// or refused each of them. The package leaves to the server to take a profile
// once that is sent twice: profiles keep their ID over all attempts.
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
	// Client has the credentials and the TLS settings; nil has none.
	Client     *http.Client
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing

	// MaxQueueBytes and MaxQueueProfiles bound what waits for the server: the
	// size of profiles, compressed, with their labels, and their number. When
	// more comes, the oldest are dropped. 0 is the default.
	MaxQueueBytes    int64
	MaxQueueProfiles int
	// FirstPause is the first pause after a failure; every further one is twice
	// as long, up to 10 s. 0 is half a second.
	FirstPause time.Duration
}

// ErrRefused is wrapped by errors about profiles that the server will never take.
var ErrRefused = errors.New("the server refuses the profile")

// ErrDropped is wrapped by errors about profiles that left the queue before they
// were sent, as it was full or the Forwarder was closed.
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
	closing chan struct{} // closed by Close: nothing comes any more
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has returned
}

// New returns a Forwarder that sends what it is given in the background. It does
// not connect before there is something to send.
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

// Queue takes profiles over and returns at once; they are sent in the background.
// Its errors are about profiles that cannot be sent at all; the others of the call
// are queued.
func (f *Forwarder) Queue(_ context.Context, ps []profile.Profile) error {
	_, err := f.put(ps, false)
	return err
}

// Append queues profiles and returns when the server has acknowledged all of
// them. An error wraps ErrRefused if the server will take none of those that are
// missing. When ctx ends, the profiles stay in the queue; calling Append again
// with the same IDs waits for the same profiles.
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

// put encodes and queues profiles. With wait, there is a channel for the outcome
// of each.
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
		f.log.Error("profiles are lost: the queue for the server is full, the oldest were dropped", "profiles", dropped)
	}
	return waiting, err
}

// Close sends what is queued until ctx ends. What is left then is lost and
// counted, and the error says how much.
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
	return fmt.Errorf("forward: %d profiles could not be sent before the end and are lost", left)
}
