package forward_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/forward"
	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

func profiles(n int) []profile.Profile {
	var out []profile.Profile
	for i := range n {
		out = append(out, profile.Profile{
			ID:     fmt.Sprintf("profile-%d", i),
			Labels: labels.FromStrings("__name__", "process_cpu", "service_name", "cart", "pod", fmt.Sprint(i)),
			Pprof: &googlev1.Profile{
				StringTable: []string{"", "cpu", "nanoseconds", "main"},
				SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
				Function:    []*googlev1.Function{{Id: 1, Name: 3}},
				Location:    []*googlev1.Location{{Id: 1, Line: []*googlev1.Line{{FunctionId: 1}}}},
				Sample:      []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{1}}},
				TimeNanos:   time.Now().UnixNano(), DurationNanos: 1e9,
			},
		})
	}
	return out
}

// start returns a Forwarder that is closed with the test, and its metrics.
func start(t *testing.T, o forward.Options) (*forward.Forwarder, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	o.Registerer, o.FirstPause = reg, 10*time.Microsecond
	f, err := forward.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.Close(ctx)
	})
	return f, reg
}

// outcomes returns the metric of profiles by outcome, those that are not 0.
func outcomes(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "flameline_forward_profiles_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if v := m.GetCounter().GetValue(); v != 0 {
				out[m.GetLabel()[0].GetValue()] = v
			}
		}
	}
	return out
}

// gauge returns a metric without labels.
func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A central is a server with a store, behind a front that may answer for it.
type central struct {
	db  *store.DB
	url string
}

func newCentral(t *testing.T, limits server.Limits, front func(http.Handler) http.Handler) *central {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{})
	require.NoError(t, err)
	srv := server.New(server.Options{Limits: limits})
	srv.Open(db)
	h := http.Handler(srv)
	if front != nil {
		h = front(h)
	}
	ts := httptest.NewServer(h)
	t.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
		require.NoError(t, db.Close())
	})
	return &central{db, ts.URL}
}

// total is the sum of all that is stored.
func (c *central) total(t *testing.T) int64 {
	t.Helper()
	typ, err := profile.ParseType("process_cpu:cpu:nanoseconds::")
	require.NoError(t, err)
	tree, err := c.db.Tree(t.Context(), store.Selection{Type: typ, End: time.Now().Add(time.Minute).UnixMilli()}, nil)
	require.NoError(t, err)
	return tree.Total()
}

func TestAppendReachesAServer(t *testing.T) {
	c := newCentral(t, server.Limits{MaxSeriesPerPush: 1000}, nil)
	f, reg := start(t, forward.Options{URL: c.url})
	const n = 450 // several requests
	ps := profiles(n)
	require.NoError(t, f.Append(t.Context(), ps))
	require.NoError(t, f.Append(t.Context(), profiles(n)), "sent again, as after an answer that got lost")
	require.EqualValues(t, n, c.total(t), "every profile is there once")
	require.Equal(t, map[string]float64{"ok": 2 * n}, outcomes(t, reg))
}

// Times and durations arrive as they were: of a long profile, of a state, which
// has no duration, and of growth over a gap.
func TestAppendKeepsTimes(t *testing.T) {
	var got []*googlev1.Profile
	h := handler(func(r *pushv1.PushRequest) error {
		for _, s := range r.Series {
			p, _, err := ingest.Pprof(s.Samples[0].RawProfile, ingest.Limits{})
			if err != nil {
				t.Error(err)
				continue
			}
			got = append(got, p)
		}
		return nil
	})
	ts := httptest.NewServer(h)
	defer ts.Close()
	f, _ := start(t, forward.Options{URL: ts.URL})
	now := time.Now().UnixNano()
	times := [][2]int64{{now - 1, 0}, {now - 15e9, 15e9}, {now - 3600e9, 3600e9 + 1}, {0, 0}, {1, 7}}
	ps := profiles(len(times))
	for i, at := range times {
		ps[i].Pprof.TimeNanos, ps[i].Pprof.DurationNanos = at[0], at[1]
	}
	require.NoError(t, f.Append(t.Context(), ps))
	require.Len(t, got, len(times))
	for i, p := range got {
		require.Equal(t, times[i], [2]int64{p.TimeNanos, p.DurationNanos})
	}
}

// Pyroscope's storage v1 takes memory profiles for counters unless it is told.
func TestAppendSaysThatValuesAreGrowth(t *testing.T) {
	got := make(chan []*typesv1.LabelPair, 1)
	h := handler(func(r *pushv1.PushRequest) error { got <- r.Series[0].Labels; return nil })
	ts := httptest.NewServer(h)
	defer ts.Close()
	f, _ := start(t, forward.Options{URL: ts.URL})
	require.NoError(t, f.Append(t.Context(), profiles(1)))
	sent := map[string]string{}
	for _, l := range <-got {
		sent[l.Name] = l.Value
	}
	require.Equal(t, map[string]string{"__delta__": "false", "__name__": "process_cpu", "service_name": "cart", "pod": "0"}, sent)
}

type pusher func(*pushv1.PushRequest) error

func (p pusher) Push(_ context.Context, r *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	if err := p(r.Msg); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

// handler serves pushes.
func handler(push func(*pushv1.PushRequest) error) http.Handler {
	_, h := pushv1connect.NewPusherServiceHandler(pusher(push))
	return h
}

func TestNewRefusesWhatIsNoServer(t *testing.T) {
	for _, u := range []string{"", "profiles.example.com:4040", "ftp://example.com", "http://", "::"} {
		_, err := forward.New(forward.Options{URL: u})
		require.Error(t, err, u)
	}
}
