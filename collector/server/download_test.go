package server_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// A scripted store does for a tree what a test says.
type scripted struct {
	*store.DB
	tree func(context.Context) (*profile.Tree, error)
}

func (s scripted) Tree(ctx context.Context, _ store.Selection, _ []string) (*profile.Tree, error) {
	return s.tree(ctx)
}

const scriptedPath = "/render?format=collapsed&query=process_cpu:cpu:nanoseconds:cpu:nanoseconds"

func TestRenderBeforeTheStoreIsOpen(t *testing.T) {
	url := serve(t, server.New(server.Options{}))
	for _, path := range []string{"/render", "/render-diff", "/pyroscope/render", "/pyroscope/render-diff"} {
		resp, body := getRaw(t, url+path+"?query=a.cpu")
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Contains(t, body, "the store is not open yet")
	}
}

// Queries wait for one another, whichever way they come.
func TestRenderWaitsItsTurn(t *testing.T) {
	url, srv := start(t, server.Limits{MaxConcurrentQueries: 1})
	entered := make(chan struct{}, 2)
	srv.Open(scripted{tree: func(ctx context.Context) (*profile.Tree, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	get := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+scriptedPath, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	first, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- get(first) }()
	<-entered
	second, cancelSecond := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelSecond()
	require.ErrorIs(t, get(second), context.DeadlineExceeded)
	require.Empty(t, entered, "the second query did not wait")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// Clients from afar get it compressed, if they take it.
func TestRenderCompressed(t *testing.T) {
	base, _ := corpus(t)
	req, err := http.NewRequest(http.MethodGet, base+"/render?query=cart.cpu", nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
	z, err := gzip.NewReader(resp.Body)
	require.NoError(t, err)
	var f flamebearer
	require.NoError(t, json.NewDecoder(z).Decode(&f))
	require.EqualValues(t, 4_240_000_000, f.Flamebearer.NumTicks)
}

// What goes wrong here is this server's fault, is counted, and ends nothing else.
func TestRenderGoesWrong(t *testing.T) {
	reg := prometheus.NewRegistry()
	srv := server.New(server.Options{Registerer: reg, Limits: defaults})
	b := profile.NewBuilder(1)
	b.Add(b.Child(0, b.Name("main")), 3)
	tree := b.Tree()
	panics := true
	srv.Open(scripted{tree: func(context.Context) (*profile.Tree, error) {
		if panics {
			panic("out of order")
		}
		return tree, nil
	}})
	url := serve(t, srv)
	resp, body := getRaw(t, url+scriptedPath)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	require.JSONEq(t, `{"code":"internal","message":"internal error; the server's log has it"}`, body)
	panics = false
	_, body = getRaw(t, url+scriptedPath)
	require.Equal(t, "main 3\n", body)
	getRaw(t, url+"/render-diff")

	n, err := testutil.GatherAndCount(reg, "flameline_server_request_duration_seconds")
	require.NoError(t, err)
	require.Equal(t, 3, n, "Render internal, Render ok, RenderDiff invalid_argument")
}
