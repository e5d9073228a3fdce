package forward_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/forward"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/pkg/profile"
)

// Profiles that a server refuses cost no other profile, wherever they are in a
// request and why ever they are refused.
func TestBadProfilesCostNoOther(t *testing.T) {
	t.Parallel() // it mostly waits
	n := 450
	if testing.Short() {
		n = 203
	}
	for name, spoil := range map[string]func(p *profile.Profile){
		"no sample type": func(p *profile.Profile) { p.Pprof.SampleType = nil },
		"a sample type":  func(p *profile.Profile) { p.Pprof.SampleType[0].Type = 99 },
		"the future":     func(p *profile.Profile) { p.Pprof.TimeNanos += 365 * 86400e9 },
	} {
		for at, bad := range map[string][]int{
			"one":  {150},
			"ends": {0, 199, 200, n - 1},
			"a third": slices.Collect(func(yield func(int) bool) {
				for i := 0; i < n && yield(i); i += 3 {
				}
			}),
		} {
			t.Run(name+", "+at, func(t *testing.T) {
				c := newCentral(t, server.Limits{MaxSeriesPerPush: 1000, MaxFuture: 1e9}, nil)
				log := &bytes.Buffer{}
				f, reg := start(t, forward.Options{URL: c.url, Logger: slog.New(slog.NewTextHandler(log, nil))})
				ps := profiles(n)
				for _, i := range bad {
					spoil(&ps[i])
				}
				err := f.Append(t.Context(), ps)
				require.ErrorIs(t, err, forward.ErrRefused)
				require.EqualValues(t, n-len(bad), c.total(t))
				require.Equal(t, map[string]float64{"ok": float64(n - len(bad)), "refused": float64(len(bad))}, outcomes(t, reg))
				require.Contains(t, log.String(), fmt.Sprintf("id=profile-%d ", bad[0]))
				require.Contains(t, log.String(), "invalid_argument")
			})
		}
	}
}

// padded are profiles of some 20 kB each that do not compress.
func padded(n int) []profile.Profile {
	ps := profiles(n)
	for i := range ps {
		var text strings.Builder
		for j := range 1200 {
			fmt.Fprintf(&text, "%016x", uint64(i*1000+j)*0x9e3779b97f4a7c15)
		}
		ps[i].Pprof.StringTable[3] = text.String()
	}
	return ps
}

// Requests that a server or a proxy takes for too large are split, and a profile
// that is too large by itself is given up.
func TestTooLargeRequestsAreSplit(t *testing.T) {
	const n, most = 60, 200 << 10
	tooMuch := func(next http.Handler, refuse http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || len(body) > most {
				refuse(w, r)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			next.ServeHTTP(w, r)
		})
	}
	for name, tc := range map[string]struct {
		limits server.Limits
		refuse http.HandlerFunc
	}{
		"server": {limits: server.Limits{MaxSeriesPerPush: 1000, MaxRequestBytes: most}},
		"proxy":  {refuse: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusRequestEntityTooLarge) }},
		"other server": {refuse: func(w http.ResponseWriter, r *http.Request) {
			_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodeResourceExhausted, errors.New("grpc: received message larger than max (9 vs. 8)")))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCentral(t, tc.limits, func(next http.Handler) http.Handler {
				if tc.refuse == nil {
					return next
				}
				return tooMuch(next, tc.refuse)
			})
			f, reg := start(t, forward.Options{URL: c.url})
			ps := padded(n)
			huge := &ps[17]
			for i := range 40_000 { // more than most, however it is packed
				huge.Pprof.StringTable = append(huge.Pprof.StringTable, fmt.Sprintf("%016x", uint64(i+1)*0x9e3779b97f4a7c15))
			}
			require.ErrorIs(t, f.Append(t.Context(), ps), forward.ErrRefused)
			require.EqualValues(t, n-1, c.total(t))
			require.Equal(t, map[string]float64{"ok": n - 1, "refused": 1}, outcomes(t, reg))
		})
	}
}

// Whatever a server or a proxy does for a while, all profiles are there once in
// the end.
func TestProfilesOutliveTrouble(t *testing.T) {
	t.Parallel() // it mostly waits
	const n = 300
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
	}
	for name, trouble := range map[string]func(next http.Handler) http.HandlerFunc{
		"502": func(http.Handler) http.HandlerFunc { return status(502) },
		"503": func(http.Handler) http.HandlerFunc { return status(503) },
		"429": func(http.Handler) http.HandlerFunc { return status(429) },
		"500": func(http.Handler) http.HandlerFunc { return status(500) },
		"401": func(http.Handler) http.HandlerFunc { return status(401) },
		"404": func(http.Handler) http.HandlerFunc { return status(404) },
		"rate": func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodeResourceExhausted, errors.New("rate limit reached")))
			}
		},
		"hangs up": func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { hangUp(w) }
		},
		"loses the answer": func(next http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(httptest.NewRecorder(), r)
				hangUp(w)
			}
		},
		"says 503 and stores": func(next http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(httptest.NewRecorder(), r)
				http.Error(w, "no", http.StatusServiceUnavailable)
			}
		},
		"garbage": func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>login</html>") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			c := newCentral(t, server.Limits{MaxSeriesPerPush: 1000}, func(next http.Handler) http.Handler {
				bad := trouble(next)
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if i := requests.Add(1); i <= 3 || i%3 == 0 {
						bad(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			f, reg := start(t, forward.Options{URL: c.url})
			require.NoError(t, f.Append(t.Context(), profiles(n)))
			require.EqualValues(t, n, c.total(t))
			got := outcomes(t, reg)
			require.EqualValues(t, n, got["ok"])
			require.Positive(t, got["failed"])
			delete(got, "ok")
			delete(got, "failed")
			require.Empty(t, got)
			require.Zero(t, gauge(t, reg, "flameline_forward_queue_profiles"))
			require.Zero(t, gauge(t, reg, "flameline_forward_queue_bytes"))
		})
	}
}

func hangUp(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

// A profile for which the server fails every time does not hold up the others, and
// is given up in the end.
func TestPoisonIsGivenUp(t *testing.T) {
	var mu sync.Mutex
	stored := map[string]bool{}
	ts := httptest.NewServer(handler(func(r *pushv1.PushRequest) error {
		for _, s := range r.Series {
			if s.Samples[0].ID == "profile-7" {
				return connect.NewError(connect.CodeInternal, errors.New("index out of range"))
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range r.Series {
			stored[s.Samples[0].ID] = true
		}
		return nil
	}))
	defer ts.Close()
	f, reg := start(t, forward.Options{URL: ts.URL})
	require.NoError(t, f.Queue(t.Context(), profiles(8)[7:]))
	others := 0
	for ; outcomes(t, reg)["refused"] == 0; others++ {
		p := profiles(1)
		p[0].ID = fmt.Sprintf("other-%d", others)
		require.NoError(t, f.Append(t.Context(), p))
	}
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, stored, others)
	require.Equal(t, 1.0, outcomes(t, reg)["refused"])
	require.Greater(t, others, 9, "it may be the server's fault")
}

// While the server accepts nothing, a profile that fails is not given up.
func TestNothingIsGivenUpWhileTheServerFails(t *testing.T) {
	var requests atomic.Int64
	ts := httptest.NewServer(handler(func(*pushv1.PushRequest) error {
		if requests.Add(1) <= 14 {
			return connect.NewError(connect.CodeInternal, errors.New("disk"))
		}
		return nil
	}))
	defer ts.Close()
	f, reg := start(t, forward.Options{URL: ts.URL})
	require.NoError(t, f.Append(t.Context(), profiles(1)))
	require.Equal(t, map[string]float64{"ok": 1, "failed": 14}, outcomes(t, reg))
}

// A full queue drops the oldest and counts them.
func TestQueueIsBounded(t *testing.T) {
	var mu sync.Mutex
	away := true
	var got []string
	ts := httptest.NewServer(handler(func(r *pushv1.PushRequest) error {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return connect.NewError(connect.CodeUnavailable, errors.New("away"))
		}
		for _, s := range r.Series {
			got = append(got, s.Samples[0].ID)
		}
		return nil
	}))
	defer ts.Close()
	one := func(i int) []profile.Profile { return profiles(i + 1)[i:] }
	t.Run("profiles", func(t *testing.T) {
		f, reg := start(t, forward.Options{URL: ts.URL, MaxQueueProfiles: 10})
		for i := range 100 {
			require.NoError(t, f.Queue(t.Context(), one(i)))
			require.LessOrEqual(t, gauge(t, reg, "flameline_forward_queue_profiles"), 10.0)
		}
		mu.Lock()
		away = false
		mu.Unlock()
		require.NoError(t, f.Append(t.Context(), one(99)))
		mu.Lock()
		defer mu.Unlock()
		counts := outcomes(t, reg)
		require.EqualValues(t, 100, counts["ok"]+counts["dropped"], "each was sent or dropped")
		require.EqualValues(t, 90, counts["dropped"])
		for i := range 9 { // one place is that of what was on its way
			require.Contains(t, got, fmt.Sprintf("profile-%d", 91+i))
		}
		away, got = true, nil
	})
	t.Run("bytes", func(t *testing.T) {
		f, reg := start(t, forward.Options{URL: ts.URL, MaxQueueBytes: 100 << 10})
		ps := padded(50)
		require.NoError(t, f.Queue(t.Context(), ps))
		require.LessOrEqual(t, gauge(t, reg, "flameline_forward_queue_bytes"), 100.0*1024)
		require.Positive(t, gauge(t, reg, "flameline_forward_queue_profiles"))
		require.EqualValues(t, 50, outcomes(t, reg)["dropped"]+gauge(t, reg, "flameline_forward_queue_profiles"))
		huge := padded(1)
		for i := range 40_000 {
			huge[0].Pprof.StringTable = append(huge[0].Pprof.StringTable, fmt.Sprintf("%016x", uint64(i+1)*0x9e3779b97f4a7c15))
		}
		before := gauge(t, reg, "flameline_forward_queue_profiles")
		require.ErrorContains(t, f.Queue(t.Context(), huge), "push.max_queue_bytes")
		require.Equal(t, before, gauge(t, reg, "flameline_forward_queue_profiles"), "one that never fits drops no other")
	})
}

// Close sends what is queued, and says what it could not send.
func TestClose(t *testing.T) {
	c := newCentral(t, server.Limits{MaxSeriesPerPush: 1000}, nil)
	f, err := forward.New(forward.Options{URL: c.url})
	require.NoError(t, err)
	require.NoError(t, f.Queue(t.Context(), profiles(1000)))
	require.NoError(t, f.Close(t.Context()))
	require.EqualValues(t, 1000, c.total(t))
	require.ErrorIs(t, f.Append(t.Context(), profiles(1)), forward.ErrDropped)

	f, err = forward.New(forward.Options{URL: "http://127.0.0.1:1"})
	require.NoError(t, err)
	require.NoError(t, f.Queue(t.Context(), profiles(5)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, f.Close(ctx), "5 profiles could not be sent")
}

// Append gives up waiting when its context ends; the profiles stay queued.
func TestAppendStopsWaiting(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	c := newCentral(t, server.Limits{}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if away.Load() {
				http.Error(w, "no", http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	f, _ := start(t, forward.Options{URL: c.url})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Append(ctx, profiles(3)), context.Canceled)
	require.ErrorIs(t, f.Append(ctx, profiles(3)), context.Canceled)
	away.Store(false)
	require.NoError(t, f.Append(t.Context(), profiles(1)))
	require.NoError(t, f.Close(t.Context()))
	require.EqualValues(t, 3, c.total(t))
}
