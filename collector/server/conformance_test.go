package server_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/server/conformance"
	"github.com/flameline/flameline/collector/store"
)

// start serves an empty store, with both versions of HTTP, until the test ends.
func start(t testing.TB, l server.Limits) (url string, srv *server.Server) {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{})
	require.NoError(t, err)
	srv = server.New(server.Options{Version: "test", Limits: l})
	srv.Open(db)
	t.Cleanup(func() { require.NoError(t, db.Close()) }) // after serve's
	return serve(t, srv), srv
}

// defaults are the limits that the configuration has by default.
var defaults = server.Limits{MaxNodes: 1 << 20, DefaultNodes: 8192, MaxFuture: 10 * time.Minute, MaxPoints: 11_000}

// TestConformance compares what this server answers with what a Pyroscope
// server answered to the same calls on the same pushes, or answers now, if
// FLAMELINE_PYROSCOPE_URL is the address of one that holds nothing else.
func TestConformance(t *testing.T) {
	ctx := context.Background()
	base := time.Now().Add(-20 * time.Minute).Truncate(time.Minute).UnixMilli()
	recorded, err := conformance.Load()
	require.NoError(t, err)
	peer := func(c conformance.Call) conformance.Answer {
		a, ok := recorded.Answers[c.Name]
		require.True(t, ok, "no answer is recorded")
		return a
	}
	live := os.Getenv("FLAMELINE_PYROSCOPE_URL")
	if url := live; url != "" {
		require.NoError(t, conformance.Push(ctx, url, base))
		time.Sleep(10 * time.Second) // until its segments are flushed
		peer = func(c conformance.Call) conformance.Answer {
			a, err := conformance.Ask(ctx, url, base, c)
			require.NoError(t, err)
			return a
		}
	}

	url, _ := start(t, defaults)
	require.NoError(t, conformance.Push(ctx, url, base))
	calls := conformance.Calls(base)
	require.Greater(t, len(calls), 150)
	for _, c := range calls {
		t.Run(c.Name, func(t *testing.T) {
			got, err := conformance.Ask(ctx, url, base, c)
			require.NoError(t, err)
			want := peer(c)
			if d, ok := intended[c.Name]; ok {
				if live == "" { // other versions may differ less
					require.NotEmpty(t, conformance.Difference(want, got), "the difference is intended, but there is none")
				}
				require.Equal(t, d.code, got.Code, got.Message)
				require.Contains(t, got.Message, d.names)
				if d.lines != nil {
					require.Equal(t, d.lines, got.Lines)
				}
				return
			}
			require.Empty(t, conformance.Difference(want, got))
		})
	}
	for name := range intended {
		require.Contains(t, recorded.Answers, name, "an intended difference of no call")
	}
}
