package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"
)

// TestNothingAcknowledgedIsLost kills the program at random moments while
// several clients push, and looks after each restart whether all that was ever
// acknowledged is there, once.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	const clients = 4
	kills := 52
	if testing.Short() {
		kills = 5
	}
	dir := t.TempDir()
	began := time.Now()
	acknowledged := map[string]bool{}
	sent := 0
	for round := range kills + 1 {
		p := launch(t, nil, "--storage.path", dir, "--ebpf.enabled", "false", "--log.level", "warn")
		p.waitReady(t)
		stored := functions(t, p.url, began)
		for id := range acknowledged {
			require.EqualValues(t, 1, stored[id], "round %d: what was acknowledged as %s is not there once", round, id)
		}
		require.LessOrEqual(t, len(stored), sent, "round %d: more is stored than was sent", round)
		if round == kills {
			require.Greater(t, len(acknowledged), kills*clients, "too few pushes came through to prove anything")
			t.Logf("%d pushes sent, %d acknowledged, %d kills", sent, len(acknowledged), kills)
			p.end(syscall.SIGTERM)
			return
		}

		var mu sync.Mutex
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				client := pushv1connect.NewPusherServiceClient(http.DefaultClient, p.url)
				for i := 0; ; i++ {
					id := fmt.Sprintf("push_%d_%d_%d", round, c, i)
					mu.Lock()
					sent++
					mu.Unlock()
					req := oneSample(t, fmt.Sprintf("client-%d", c), id, time.Now())
					if _, err := client.Push(context.Background(), connect.NewRequest(req)); err != nil {
						return // killed
					}
					mu.Lock()
					acknowledged[id] = true
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) //nolint:gosec // any moment will do
		p.end(syscall.SIGKILL)
		wg.Wait()
	}
}

// functions returns the values of all stored functions by name.
func functions(t *testing.T, url string, since time.Time) map[string]int64 {
	t.Helper()
	nodes := int64(1 << 20)
	resp, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url).SelectMergeStacktraces(t.Context(),
		connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
			LabelSelector: "{}",
			Start:         since.Add(-time.Minute).UnixMilli(),
			End:           time.Now().Add(time.Minute).UnixMilli(),
			MaxNodes:      &nodes,
		}))
	require.NoError(t, err)
	out := map[string]int64{}
	f := resp.Msg.Flamegraph
	for _, level := range f.Levels[1:] {
		for i := 0; i < len(level.Values); i += 4 {
			out[f.Names[level.Values[i+3]]] += level.Values[i+2]
		}
	}
	return out
}
