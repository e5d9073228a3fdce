package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

// breakUnwinder takes from the unwinder in this process the map in which its eBPF
// program tells about processes, as a fault of the kernel would. The unwinder
// notices within seconds, and stops.
func breakUnwinder(t *testing.T) {
	t.Helper()
	newest, descriptors := -1, []int(nil) // several may be of one map
	entries, err := os.ReadDir("/proc/self/fdinfo")
	require.NoError(t, err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join("/proc/self/fdinfo", e.Name()))
		if err != nil || !bytes.Contains(text, []byte("map_id:")) {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		m, err := ebpf.NewMapFromFD(dup)
		require.NoError(t, err)
		info, err := m.Info()
		require.NoError(t, err)
		require.NoError(t, m.Close())
		id, ok := info.ID()
		if !ok || info.Name != "pid_events" || int(id) < newest {
			continue
		}
		if int(id) > newest {
			newest, descriptors = int(id), nil
		}
		descriptors = append(descriptors, fd)
	}
	require.NotEmpty(t, descriptors, "the unwinder has no map pid_events")
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	for _, fd := range descriptors {
		require.NoError(t, unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC))
	}
	require.NoError(t, null.Close())
}

// countMaps returns how many descriptors of eBPF maps this process has.
func countMaps(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fdinfo")
	require.NoError(t, err)
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join("/proc/self/fdinfo", e.Name())); err == nil && bytes.Contains(text, []byte("map_id:")) {
			n++
		}
	}
	return n
}

// A lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A countingAppender counts profiles.
type countingAppender struct{ profiles atomic.Int64 }

func (c *countingAppender) Append(_ context.Context, ps []profile.Profile) error {
	c.profiles.Add(int64(len(ps)))
	return nil
}

// The real unwinder, when it breaks down, is started again in the same process and
// samples; where the configuration insists, it ends with an error.
func TestLiveRealUnwinderThatStops(t *testing.T) {
	requireSampling(t)
	srv := server.New(server.Options{})
	srv.OpenAgent("http://example.com")
	ts := httptest.NewServer(srv)
	defer ts.Close()
	log := &lockedBuffer{}
	to, reg := &countingAppender{}, prometheus.NewRegistry()
	c := config.EBPF{Enabled: config.Auto, Frequency: 19, Interval: config.Duration(time.Second)}
	s := newSampler(c, to, target.New(target.Options{}), &srv.Health, &keptSymbols{}, slog.New(slog.NewTextHandler(log, nil)), reg)
	s.pause = time.Second
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.run(t.Context()))
	require.Equal(t, 1.0, testutil.ToFloat64(s.up))
	ready := func() bool {
		code, _ := (&process{url: ts.URL}).get("/ready")
		return code == http.StatusOK
	}
	sampled := func() {
		before := to.profiles.Load()
		require.Eventually(t, func() bool { return to.profiles.Load() > before }, time.Minute, 10*time.Millisecond, "nothing is sampled:\n%s", log)
	}
	sampled()
	maps := countMaps(t)
	for round := range 2 {
		breakUnwinder(t)
		require.Eventually(t, func() bool { return !ready() }, time.Minute, time.Millisecond, "nobody noticed:\n%s", log)
		require.Eventually(t, ready, 2*time.Minute, 10*time.Millisecond, "it does not start again:\n%s", log)
		require.Equal(t, float64(round+1), testutil.ToFloat64(s.again))
		require.Equal(t, 1.0, testutil.ToFloat64(s.up))
		sampled()
	}
	require.Eventually(t, func() bool {
		runtime.GC()
		return countMaps(t) <= maps+maps/2
	}, time.Minute, 100*time.Millisecond, "the maps of unwinders that stopped stay in the kernel")
	s.insist = true
	breakUnwinder(t)
	select {
	case err := <-s.failed:
		require.ErrorContains(t, err, "the unwinder broke down")
	case <-time.After(time.Minute):
		t.Fatalf("nobody noticed:\n%s", log)
	}
	require.False(t, ready())
	require.Contains(t, log.String(), "sampling has ended: the unwinder broke down")
	require.Equal(t, 3.0, testutil.ToFloat64(s.again))
}
