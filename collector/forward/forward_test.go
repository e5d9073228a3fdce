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
	"github.com/prometheus/client_golang/prometheus/testutil"
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

func TestAppendReachesAServer(t *testing.T) {
	db, err := store.Open(t.TempDir(), store.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	srv := server.New(server.Options{Limits: server.Limits{MaxSeriesPerPush: 1000}})
	srv.Open(db)
	ts := httptest.NewServer(srv)
	defer ts.Close()

	f, err := forward.New(forward.Options{URL: ts.URL})
	require.NoError(t, err)
	const n = 450 // several requests
	ps := profiles(n)
	require.NoError(t, f.Append(t.Context(), ps))
	require.NoError(t, f.Append(t.Context(), ps), "sent again, as after an answer that got lost")
	typ, err := profile.ParseType("process_cpu:cpu:nanoseconds::")
	require.NoError(t, err)
	tree, err := db.Tree(t.Context(), store.Selection{Type: typ, End: time.Now().Add(time.Minute).UnixMilli()}, nil)
	require.NoError(t, err)
	require.EqualValues(t, n, tree.Total(), "every profile is there once")
}

// Times and durations arrive as they were: of a long profile, of a state, which
// has no duration, and of growth over a gap.
func TestAppendKeepsTimes(t *testing.T) {
	var got []*googlev1.Profile
	_, h := pushv1connect.NewPusherServiceHandler(pusher(func(r *pushv1.PushRequest) {
		for _, s := range r.Series {
			p, _, err := ingest.Pprof(s.Samples[0].RawProfile, ingest.Limits{})
			if err != nil {
				t.Error(err)
				continue
			}
			got = append(got, p)
		}
	}))
	ts := httptest.NewServer(h)
	defer ts.Close()
	f, err := forward.New(forward.Options{URL: ts.URL})
	require.NoError(t, err)
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
	_, h := pushv1connect.NewPusherServiceHandler(pusher(func(r *pushv1.PushRequest) { got <- r.Series[0].Labels }))
	ts := httptest.NewServer(h)
	defer ts.Close()
	f, err := forward.New(forward.Options{URL: ts.URL})
	require.NoError(t, err)
	require.NoError(t, f.Append(t.Context(), profiles(1)))
	sent := map[string]string{}
	for _, l := range <-got {
		sent[l.Name] = l.Value
	}
	require.Equal(t, map[string]string{"__delta__": "false", "__name__": "process_cpu", "service_name": "cart", "pod": "0"}, sent)
}

type pusher func(*pushv1.PushRequest)

func (p pusher) Push(_ context.Context, r *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	p(r.Msg)
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

func TestAppendTellsWhatIsWorthAnotherTry(t *testing.T) {
	answer := connect.CodeUnavailable
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = connect.NewErrorWriter().Write(w, r, connect.NewError(answer, fmt.Errorf("no")))
	}))
	reg := prometheus.NewRegistry()
	f, err := forward.New(forward.Options{URL: ts.URL, Registerer: reg})
	require.NoError(t, err)
	require.ErrorContains(t, f.Append(t.Context(), profiles(2)), "forward 2 profiles: unavailable: no")
	answer = connect.CodeInvalidArgument
	require.NoError(t, f.Append(t.Context(), profiles(3)))
	ts.Close()
	require.Error(t, f.Append(t.Context(), profiles(1)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, connect.CodeCanceled, connect.CodeOf(f.Append(ctx, profiles(1))))
	require.Equal(t, 3, testutil.CollectAndCount(reg, "flameline_forward_profiles_total"))
}

func TestNewRefusesWhatIsNoServer(t *testing.T) {
	for _, u := range []string{"", "profiles.example.com:4040", "ftp://example.com", "http://", "::"} {
		_, err := forward.New(forward.Options{URL: u})
		require.Error(t, err, u)
	}
}
