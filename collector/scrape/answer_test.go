package scrape

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	httppprof "net/http/pprof"
	"strings"
	"testing"
	"time"

	_ "github.com/grafana/pyroscope-go/godeltaprof/http/pprof"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestSetTime(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	end := start.Add(5 * time.Second)
	for name, c := range map[string]struct{ time, duration, wantTime, wantDuration int64 }{
		"own":             {start.UnixNano() + 7, 4e9, start.UnixNano() + 7, 4e9},
		"none":            {0, 0, start.UnixNano(), 5e9},
		"another clock":   {start.UnixNano() - 1e12, 4e9, start.UnixNano(), 4e9},
		"clock of boot":   {3600e9, 4e9, start.UnixNano(), 4e9},
		"a clock ahead":   {start.UnixNano() + 2e9, 4e9, start.UnixNano() + 1e9, 4e9},
		"far ahead":       {start.UnixNano() + 1e12, 4e9, start.UnixNano() + 1e9, 4e9},
		"too long":        {start.UnixNano(), 4e12, start.UnixNano(), 5e9},
		"time of the end": {end.UnixNano(), 4999e6, start.UnixNano() + 1e6, 4999e6},
	} {
		p := &googlev1.Profile{TimeNanos: c.time, DurationNanos: c.duration}
		answer{start: start, end: end, length: 5 * time.Second}.setTime(p)
		require.Equal(t, c.wantTime, p.TimeNanos, name)
		require.Equal(t, c.wantDuration, p.DurationNanos, name)
	}
	p := &googlev1.Profile{}
	answer{start: start, end: start.Add(time.Second), length: 5 * time.Second}.setTime(p)
	require.Equal(t, []int64{start.UnixNano(), 1e9}, []int64{p.TimeNanos, p.DurationNanos}, "an answer that came too early")
}

func TestReadingTime(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	end := start.Add(5 * time.Second)
	for name, c := range map[string]struct {
		kind        kind
		time        int64
		taken, last int64
		duration    int64
	}{
		"own":           {counters, start.UnixNano() + 7, start.UnixNano() + 7, 0, 0},
		"none":          {counters, 0, start.UnixNano(), 0, 0},
		"another clock": {counters, start.UnixNano() - 3600e9, start.UnixNano(), 0, 0},
		"ahead":         {counters, end.UnixNano() + 1, start.UnixNano(), 0, 0},
		"a difference":  {difference, end.UnixNano() - 7, end.UnixNano() - 7, 0, 4e9},
		"its clock":     {difference, end.UnixNano() - 3600e9, end.UnixNano(), 0, 4e9},
	} {
		r := answer{start: start, end: end, kind: c.kind}.reading(&googlev1.Profile{TimeNanos: c.time, DurationNanos: c.duration})
		require.Equal(t, c.taken, r.taken, name)
		require.Equal(t, c.duration, r.duration, name)
	}
	r := answer{start: start, end: end, kind: difference}.reading(&googlev1.Profile{DurationNanos: 3600e9})
	require.Zero(t, r.duration, "longer than the request")
}

// memoryLoop returns the loop of a memory profile, which does not run.
func memoryLoop(t *testing.T, a Appender, address, path string, refused func(error) bool) *loop {
	t.Helper()
	c := config("shop", address, 15*time.Second)
	off := false
	c.ProfilingConfig.PprofConfig.ProcessCPU.Enabled = &off
	c.ProfilingConfig.PprofConfig.Memory = Pprof{Enabled: on(), Path: path}
	c.ScrapeTimeout = model.Duration(10 * time.Second)
	m, err := New(Options{Appender: a, Decode: decode, Refused: refused})
	require.NoError(t, err)
	j, err := m.newJob(c)
	require.NoError(t, err)
	return j.targets[0].loops[0]
}

// given returns what an appender was given since the last call.
func (a *appender) given() (flow, state *googlev1.Profile) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.profiles {
		if typesOf(p.Pprof)[0] == "alloc_objects" {
			flow = p.Pprof
		} else {
			state = p.Pprof
		}
	}
	a.profiles = nil
	return flow, state
}

// store keeps an answer and stores unstored profiles, as a scrape does.
func (l *loop) store(ctx context.Context, a answer) error {
	if err := l.keep(ctx, a); err != nil {
		return err
	}
	return l.storeUnstored(ctx)
}

// answered is the answer of a target whose clock is an hour behind.
func answered(t *testing.T, at time.Time, n int64) answer {
	t.Helper()
	p := heap(at.Add(-time.Hour).UnixNano(), 0, map[uint64][4]int64{0xa: {n, 100 * n, 1, 100}})
	return answer{body: zipped(t, p), start: at, end: at.Add(time.Second), ids: []string{at.String(), at.String() + " flow"}}
}

// What a target allocated while it could not be scraped is spread over that time,
// by the clock of the scraper.
func TestGapIsNoSpike(t *testing.T) {
	a := newAppender()
	l := memoryLoop(t, a, "localhost:1", "", nil)
	begin := time.Unix(1_700_000_000, 0)
	require.NoError(t, l.store(t.Context(), answered(t, begin, 100)))
	flow, state := a.given()
	require.Nil(t, flow)
	require.Equal(t, begin.UnixNano(), state.TimeNanos)

	require.Error(t, l.scrape(t.Context(), begin.Add(15*time.Second), 0), "nobody listens there")
	later := begin.Add(10 * time.Minute)
	require.NoError(t, l.store(t.Context(), answered(t, later, 700)))
	flow, state = a.given()
	require.Equal(t, map[uint64][]int64{0xa: {600, 60_000}}, values(flow))
	require.Equal(t, begin.UnixNano(), flow.TimeNanos)
	require.Equal(t, 10*time.Minute, time.Duration(flow.DurationNanos))
	require.Equal(t, map[uint64][]int64{0xa: {1, 100}}, values(state))
	require.Equal(t, later.UnixNano(), state.TimeNanos)
	require.Zero(t, state.DurationNanos)
}

// Growth that could not be stored is stored later, once: what was tried as it was,
// with its ID, and all that came since as one profile. Growth that is refused is
// not tried again.
func TestGrowthWaitsForTheStore(t *testing.T) {
	a := newAppender()
	refused := errors.New("refused")
	l := memoryLoop(t, a, "localhost:1", "", func(err error) bool { return errors.Is(err, refused) })
	l.manager.o.Queue = a.Append // as an agent's, so that states do not wait with growth
	begin := time.Now().Add(-10 * time.Minute)
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	require.NoError(t, l.store(t.Context(), answered(t, begin, 10)))
	a.given()

	a.err = errors.New("disk is full")
	l.manager.o.Queue = func(_ context.Context, ps []profile.Profile) error { return nil }
	require.ErrorContains(t, l.store(t.Context(), answered(t, at(15), 25)), "append: disk is full")
	tried := l.unstored[0].id
	for i := range 100 {
		require.ErrorContains(t, l.store(t.Context(), answered(t, at(16+i), int64(26+i))), "append: disk is full")
		require.Len(t, l.unstored, 2, "what was tried, and what came since")
	}
	a.err = nil
	require.NoError(t, l.store(t.Context(), answered(t, at(120), 200)))
	require.Len(t, a.profiles, 2)
	require.Equal(t, tried, a.profiles[0].ID)
	require.NotEqual(t, tried, a.profiles[1].ID)
	first, rest := a.profiles[0].Pprof, a.profiles[1].Pprof
	require.Equal(t, map[uint64][]int64{0xa: {15, 1500}}, values(first))
	require.Equal(t, []int64{begin.UnixNano(), 15e9}, []int64{first.TimeNanos, first.DurationNanos})
	require.Equal(t, map[uint64][]int64{0xa: {175, 17500}}, values(rest))
	require.Equal(t, []int64{at(15).UnixNano(), 105e9}, []int64{rest.TimeNanos, rest.DurationNanos})
	a.given()

	// A process that starts anew meanwhile ends the growth of the one before.
	a.err = errors.New("disk is full")
	for i, n := range []int64{210, 230, 260, 3, 7, 220, 270, 300} {
		require.Error(t, l.store(t.Context(), answered(t, at(130+i), n)))
	}
	a.err = nil
	require.NoError(t, l.store(t.Context(), answered(t, at(140), 312)))
	sum := int64(0)
	for _, p := range a.profiles {
		sum += values(p.Pprof)[0xa][0]
	}
	require.Len(t, a.profiles, 3)
	require.EqualValues(t, 260-200+312, sum, "the new process' counters overtook those of the old one")
	require.Zero(t, testutil.ToFloat64(l.manager.metrics.lost.WithLabelValues("shop", "memory")))
	a.given()

	a.err = refused
	require.ErrorContains(t, l.store(t.Context(), answered(t, at(161), 50)), "append: refused")
	a.err = nil
	require.Empty(t, l.unstored)
	require.Equal(t, 1.0, testutil.ToFloat64(l.manager.metrics.lost.WithLabelValues("shop", "memory")))
	require.NoError(t, l.store(t.Context(), answered(t, at(162), 57)))
	flow, _ := a.given()
	require.Equal(t, map[uint64][]int64{0xa: {7, 700}}, values(flow))
}

// A store that fails for a while costs neither growth nor the last states, however
// many scrapes that is, and nothing is stored twice.
func TestProfilesWaitForTheStore(t *testing.T) {
	a := newAppender()
	l := memoryLoop(t, a, "localhost:1", "", nil)
	begin := time.Now().Add(-10 * time.Minute)
	require.NoError(t, l.store(t.Context(), answered(t, begin, 10)))
	a.given()
	a.err = errors.New("disk is full")
	const failed = 50
	for i := range failed {
		require.Error(t, l.store(t.Context(), answered(t, begin.Add(time.Duration(i+1)*time.Second), int64(11+i))))
		require.LessOrEqual(t, len(l.unstored), maxUnstored)
	}
	a.err = nil
	require.NoError(t, l.storeUnstored(t.Context()))
	ids, sum, states := map[string]bool{}, int64(0), 0
	for _, p := range a.profiles {
		require.False(t, ids[p.ID])
		ids[p.ID] = true
		if typesOf(p.Pprof)[0] == "alloc_objects" {
			sum += values(p.Pprof)[0xa][0]
		} else {
			states++
		}
	}
	require.EqualValues(t, failed, sum)
	require.Equal(t, maxUnstored-1, states)
	require.EqualValues(t, failed-states, testutil.ToFloat64(l.manager.metrics.lost.WithLabelValues("shop", "memory")))
}

// A job that ends hands over what it owes.
func TestLoopLeavesNothing(t *testing.T) {
	a := newAppender()
	l := memoryLoop(t, a, "localhost:1", "", nil)
	require.NoError(t, l.store(t.Context(), answered(t, time.Unix(1_700_000_000, 0), 10)))
	a.given()
	a.err = errors.New("away")
	require.Error(t, l.store(t.Context(), answered(t, time.Unix(1_700_000_015, 0), 30)))
	a.err = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.run(ctx)
	flow, state := a.given()
	require.Equal(t, map[uint64][]int64{0xa: {20, 2000}}, values(flow))
	require.NotNil(t, state)
}

// What Go's own handlers serve is recognised: counters, the difference of two
// profiles, and growth as godeltaprof serves it.
func TestKindsOfGo(t *testing.T) {
	t.Parallel() // it mostly waits
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", httppprof.Index)
	mux.Handle("/debug/pprof/delta_heap", http.DefaultServeMux)
	server := httptest.NewServer(mux)
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	for path, want := range map[string]kind{
		"/debug/pprof/allocs":           counters,
		"/debug/pprof/allocs?seconds=1": difference,
		"/debug/pprof/delta_heap":       growth,
	} {
		t.Run(path, func(t *testing.T) {
			a := newAppender()
			path, query, _ := strings.Cut(path, "?")
			l := memoryLoop(t, a, address, path, nil)
			l.url.RawQuery = query
			_, header, release, err := fetch(t.Context(), l.client, l.url.String(), l.maxBody, l.manager.answers)
			release()
			require.NoError(t, err)
			require.Equal(t, want, kindOf(header, path))

			var flows []*googlev1.Profile
			for range 3 {
				allocated = make([]byte, 64<<20)
				require.NoError(t, l.scrape(context.Background(), time.Now(), 0))
				flow, state := a.given()
				if flow != nil {
					flows = append(flows, flow)
				}
				require.Equal(t, want != difference, state != nil)
			}
			for i, p := range flows {
				require.LessOrEqual(t, p.TimeNanos+p.DurationNanos, time.Now().UnixNano())
				require.Positive(t, p.DurationNanos)
				if i > 0 && want != difference {
					require.Equal(t, flows[i-1].TimeNanos+flows[i-1].DurationNanos, p.TimeNanos)
				}
				if want == difference {
					require.InDelta(t, 1e9, p.DurationNanos, 0.5e9)
				}
			}
		})
	}
}

var allocated []byte

// A number of goroutines is a state, but a difference of two numbers is not.
func TestGoroutines(t *testing.T) {
	a := newAppender()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("seconds") {
			w.Header().Set("Content-Disposition", `attachment; filename="goroutine-delta"`)
		}
		w.Write(pprofOf(t, 3))
	}))
	defer server.Close()
	l := single(t, a, strings.TrimPrefix(server.URL, "http://"))
	start := time.Now()
	require.NoError(t, l.scrape(t.Context(), start, 0))
	require.Zero(t, a.profiles[0].Pprof.DurationNanos)
	require.Equal(t, start.UnixNano(), a.profiles[0].Pprof.TimeNanos)
	l.url.RawQuery = "seconds=1"
	err := l.scrape(t.Context(), start, 0)
	require.ErrorContains(t, err, "remove the parameter seconds")
	l.report(start, 0, err)
	require.Equal(t, 1.0, testutil.ToFloat64(l.manager.metrics.scrapes.WithLabelValues("bad", "goroutine", reasonMalformed)))
}
