package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/target"
)

// A fakeSource is a source that stops when a test says so.
type fakeSource struct {
	done   chan struct{}
	closed chan struct{}
}

func newFakeSource() *fakeSource { return &fakeSource{make(chan struct{}), make(chan struct{})} }

func (f *fakeSource) Done() <-chan struct{} { return f.done }
func (f *fakeSource) Close() error          { close(f.closed); return nil }

// A lab is a sampler of fake sources, and the server that reports its state.
type lab struct {
	*sampler
	server  *httptest.Server
	mu      sync.Mutex
	starts  int
	fail    error
	sources chan *fakeSource // as they are started
}

func newLab(t *testing.T, enabled config.Mode) *lab {
	t.Helper()
	srv := server.New(server.Options{})
	srv.OpenAgent("http://example.com")
	l := &lab{server: httptest.NewServer(srv), sources: make(chan *fakeSource, 10)}
	t.Cleanup(l.server.Close)
	l.sampler = newSampler(config.EBPF{Enabled: enabled, Frequency: 19}, nil, target.New(target.Options{}), &srv.Health, &keptSymbols{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	l.pause = time.Millisecond
	l.start = func(context.Context) (source, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.starts++
		if l.fail != nil {
			return nil, l.fail
		}
		s := newFakeSource()
		l.sources <- s
		return s, nil
	}
	return l
}

func (l *lab) status(t *testing.T, path string) (int, string) {
	t.Helper()
	return (&process{url: l.server.URL}).get(path)
}

func (l *lab) setFail(err error) (starts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
	return l.starts
}

// With auto, sampling that stops is restarted, and health and metrics report it meanwhile.
func TestSamplingIsStartedAgain(t *testing.T) {
	l := newLab(t, config.Auto)
	require.NoError(t, l.run(t.Context()))
	first := <-l.sources
	require.Equal(t, 1.0, testutil.ToFloat64(l.up))
	code, _ := l.status(t, "/ready")
	require.Equal(t, http.StatusOK, code)

	starts := l.setFail(errors.New("no memory"))
	close(first.done)
	<-first.closed
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.starts >= starts+3
	}, time.Minute, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(l.up))
	code, body := l.status(t, "/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "sampling has stopped by itself")
	_, body = l.status(t, "/api/v1/status")
	require.Contains(t, body, `"ready":false`)
	require.Contains(t, body, `"state":"failed"`)
	require.Contains(t, body, "no memory")

	l.setFail(nil)
	second := <-l.sources
	require.Eventually(t, func() bool { code, _ := l.status(t, "/ready"); return code == http.StatusOK }, time.Minute, time.Millisecond)
	require.Equal(t, 1.0, testutil.ToFloat64(l.up))
	require.Equal(t, 1.0, testutil.ToFloat64(l.again))
	_, body = l.status(t, "/api/v1/status")
	require.Contains(t, body, `"state":"on","frequency":19`)

	require.NoError(t, l.Close())
	<-second.closed
	require.Zero(t, testutil.ToFloat64(l.up))
	require.Empty(t, l.failed)
}

// With true, sampling that stops ends the program.
func TestSamplingThatIsInsistedOnEndsTheProgram(t *testing.T) {
	l := newLab(t, config.True)
	require.NoError(t, l.run(t.Context()))
	s := <-l.sources
	close(s.done)
	require.ErrorContains(t, <-l.failed, "ebpf.enabled is true, but sampling has ended")
	<-s.closed
	code, _ := l.status(t, "/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.NoError(t, l.Close())
	require.Empty(t, l.sources, "it is not started again")
}

// A stop while sampling is to be started again does not wait for that.
func TestSamplingStopsWhileItIsDown(t *testing.T) {
	l := newLab(t, config.Auto)
	l.pause = time.Hour
	require.NoError(t, l.run(t.Context()))
	s := <-l.sources
	close(s.done)
	<-s.closed
	require.NoError(t, l.Close())
}
