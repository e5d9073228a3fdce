// Package forward sends profiles to another server that speaks Pyroscope's push
// API, in place of a store of this process' own: it is what an agent on a node
// does with what its sources give.
//
// It leaves to the sources to keep what could not be sent and to try again.
package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

const (
	// maxSeries is the number of profiles of one request, below the limit that
	// servers have.
	maxSeries = 200
	// requestTimeout bounds one request.
	requestTimeout = 20 * time.Second
	// labelDelta tells Pyroscope whether values are counters. It is not kept.
	labelDelta = "__delta__"
)

// Options configure a Forwarder. URL is required.
type Options struct {
	// URL is the server's address, such as https://profiles.example.com.
	URL string
	// Client has the credentials and the TLS settings; nil has none.
	Client     *http.Client
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
}

// A Forwarder appends profiles to a server. It is safe for concurrent use.
type Forwarder struct {
	log    *slog.Logger
	client pushv1connect.PusherServiceClient
	sent   *prometheus.CounterVec
}

// New returns a Forwarder. It does not connect.
func New(o Options) (*Forwarder, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("forward: %q is no URL of an HTTP server", o.URL)
	}
	if o.Client == nil {
		o.Client = &http.Client{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Forwarder{
		log:    o.Logger,
		client: pushv1connect.NewPusherServiceClient(o.Client, u.String()),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_forward_profiles_total",
			Help: "Profiles sent to the server, by outcome (ok, refused for good, failed and to be sent again).",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"ok", "refused", "failed"} {
		f.sent.WithLabelValues(outcome)
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(f.sent)
	}
	return f, nil
}

// Append sends profiles and returns when the server has acknowledged all of
// them. After an error, some may have been; their IDs tell the server which it
// has already. What the server refuses for good is logged, counted and given
// up, since sending it again would not help.
func (f *Forwarder) Append(ctx context.Context, ps []profile.Profile) error {
	for chunk := range slices.Chunk(ps, maxSeries) {
		if err := f.push(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (f *Forwarder) push(ctx context.Context, ps []profile.Profile) error {
	req := &pushv1.PushRequest{}
	for _, p := range ps {
		raw, err := encode(p)
		if err != nil {
			return fmt.Errorf("forward: encode profile: %w", err)
		}
		s := &pushv1.RawProfileSeries{Samples: []*pushv1.RawSample{{RawProfile: raw, ID: p.ID}}}
		// Counters have become growth in the sources. Pyroscope's storage v1
		// would take the difference of memory profiles once more.
		s.Labels = append(s.Labels, &typesv1.LabelPair{Name: labelDelta, Value: "false"})
		p.Labels.Range(func(l labels.Label) {
			s.Labels = append(s.Labels, &typesv1.LabelPair{Name: l.Name, Value: l.Value})
		})
		req.Series = append(req.Series, s)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := f.client.Push(ctx, connect.NewRequest(req))
	switch {
	case err == nil:
		f.sent.WithLabelValues("ok").Add(float64(len(ps)))
		return nil
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		f.sent.WithLabelValues("refused").Add(float64(len(ps)))
		f.log.Error("the server refuses profiles; they are lost", "profiles", len(ps), "err", err)
		return nil
	}
	f.sent.WithLabelValues("failed").Add(float64(len(ps)))
	return fmt.Errorf("forward %d profiles: %w", len(ps), err)
}

// encode returns a profile as senders push it: in pprof format, gzipped.
func encode(p profile.Profile) ([]byte, error) {
	raw, err := p.Pprof.MarshalVT()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(raw)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
