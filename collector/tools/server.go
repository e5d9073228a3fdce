package tools

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/timeexpr"
)

// A Server is a Flameline or Pyroscope server. It is safe for concurrent use.
type Server struct {
	url    string
	client *http.Client
}

// NewServer returns a server at an address. httpConfig is a file with credentials and
// TLS settings, with the keys of Prometheus' HTTP client configuration; "" is none.
func NewServer(url, httpConfig string) (*Server, error) {
	c := &promconfig.HTTPClientConfig{}
	*c = promconfig.DefaultHTTPClientConfig
	if httpConfig != "" {
		var err error
		if c, _, err = promconfig.LoadHTTPConfigFile(httpConfig); err != nil {
			return nil, fmt.Errorf("%s: %w", httpConfig, err)
		}
	}
	client, err := promconfig.NewClientFromConfig(*c, "tools")
	if err != nil {
		return nil, err
	}
	return &Server{url: strings.TrimRight(url, "/"), client: client}, nil
}

// NewLocalServer returns a server that answers in this process.
func NewLocalServer(t http.RoundTripper) *Server {
	return &Server{url: "http://localhost", client: &http.Client{Transport: t}}
}

// A Range is a stretch of time.
type Range struct{ From, Until time.Time }

func (r Range) valid() bool { return r.Until.After(r.From) }

// ParseRange reads the ends of a range as the server's URLs have them, such as now-1h,
// Unix times and dates.
func ParseRange(from, until string, now time.Time) (r Range, err error) {
	if r.From, err = timeexpr.Parse(from, now, false); err != nil {
		return r, usage("--from: %w", err)
	}
	if r.Until, err = timeexpr.Parse(until, now, true); err != nil {
		return r, usage("--until: %w", err)
	}
	if !r.valid() {
		return r, usage("--from/--until: the time range is empty: %s to %s", r.From.UTC().Format(time.RFC3339), r.Until.UTC().Format(time.RFC3339))
	}
	return r, nil
}

// isQuery reports whether an argument is a selector rather than a file: no file has this
// name, and it has a profile type's colons or a selector's braces.
func isQuery(name string) bool {
	if _, err := os.Stat(name); err == nil || name == "-" {
		return false
	}
	return strings.HasSuffix(name, "}") && strings.Contains(name, "{") || strings.Count(name, ":") >= 4 && !strings.Contains(name, "/")
}

// Query merges the profiles of a selector, such as
// process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="cart"}, over a range.
func (s *Server) Query(ctx context.Context, query string, r Range) (*Input, error) {
	q, err := profile.ParseQuery(query)
	if err != nil {
		return nil, &UsageError{err}
	}
	if q.Name != "" {
		return nil, usage("%q: no profile type: want name:sample_type:sample_unit:period_type:period_unit{label=\"value\"}", query)
	}
	var matchers []string
	for _, m := range q.Matchers {
		matchers = append(matchers, m.String())
	}
	api := querierv1connect.NewQuerierServiceClient(s.client, s.url)
	resp, err := api.SelectMergeProfile(ctx, connect.NewRequest(&querierv1.SelectMergeProfileRequest{
		ProfileTypeID: q.Type.String(), LabelSelector: "{" + strings.Join(matchers, ",") + "}",
		Start: r.From.UnixMilli(), End: r.Until.UnixMilli(),
	}))
	if err != nil {
		return nil, s.wrap(err)
	}
	b, err := resp.Msg.MarshalVT()
	if err != nil {
		return nil, err
	}
	if len(resp.Msg.Sample) == 0 {
		return nil, fmt.Errorf("%s has no profiles of %s between %s and %s", s.url, query, r.From.UTC().Format(time.RFC3339), r.Until.UTC().Format(time.RFC3339))
	}
	p, _, err := ingest.Pprof(b, limits)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", s.url, err)
	}
	in := &Input{
		Name: query, Format: pprofFile,
		Profiles: []profile.Profile{{Labels: labels.FromStrings(model.MetricNameLabel, q.Type.Name), Pprof: p}},
	}
	in.setRange(r)
	return in, nil
}

// setRange sets the time that the answer of a server is of.
func (in *Input) setRange(r Range) {
	in.Range = r
	for _, p := range in.Profiles {
		p.Pprof.TimeNanos, p.Pprof.DurationNanos = r.From.UnixNano(), int64(r.Until.Sub(r.From))
	}
}

// wrap names the server in an error of a call.
func (s *Server) wrap(err error) error {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return fmt.Errorf("%s: %s: %s", s.url, ce.Code(), ce.Message())
	}
	return fmt.Errorf("%s: %w", s.url, err)
}
