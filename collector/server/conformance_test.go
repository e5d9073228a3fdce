package server_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
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

// peer are Pyroscope's answers.
type peer struct{ v1, v2 map[string]conformance.Answer }

func loadPeer(t *testing.T) peer {
	t.Helper()
	v2, err := conformance.Load()
	require.NoError(t, err)
	v1, err := conformance.LoadV1()
	require.NoError(t, err)
	return peer{v1: v1.Answers, v2: v2.Answers}
}

// fault returns what is wrong with our answer to a call, "" if nothing is. live
// says that Pyroscope's answers are of another run than the recorded ones.
func (p peer) fault(c conformance.Call, got conformance.Answer, live bool) string {
	want, ok := p.v2[c.Name]
	if !ok {
		return "Pyroscope's answer is not known"
	}
	if d, ok := intended[c.Name]; ok {
		if !d.varies && !live && conformance.Difference(want, got) == "" {
			return "the difference is intended, but there is none"
		}
		switch {
		case d.code != "":
			want = conformance.Answer{Code: d.code}
		case d.as != "":
			want = p.v2[d.as]
		case d.v1:
			want, ok = p.v1[c.Name]
		default:
			want = conformance.Answer{Lines: d.lines}
		}
		if !ok {
			return "the answer of v1 is not known"
		}
	}
	if diff := conformance.Difference(want, got); diff != "" {
		return diff
	}
	switch {
	case got.Code != "" && (c.Fault == "" || !strings.Contains(got.Message, c.Fault)):
		return fmt.Sprintf("the error is %q and does not name %q", got.Message, c.Fault)
	case got.Code == "" && c.Fault != "":
		return "the mistake is not refused"
	case got.Code == "" && c.Procedure != pushv1connect.PusherServicePushProcedure && got.Empty() != c.Empty:
		return fmt.Sprintf("the answer is empty: %v, due is %v", got.Empty(), c.Empty)
	}
	return ""
}

// corpusBase is the time before the corpus' first profile.
func corpusBase() int64 { return time.Now().Add(-20 * time.Minute).Truncate(time.Minute).UnixMilli() }

// TestConformance compares what this server answers with what a Pyroscope
// server answered to the same calls on the same pushes, or answers now, if
// FLAMELINE_PYROSCOPE_URL is the address of one that holds nothing else.
func TestConformance(t *testing.T) {
	ctx := t.Context()
	base := corpusBase()
	calls := conformance.Calls(base)
	p := loadPeer(t)
	live := os.Getenv("FLAMELINE_PYROSCOPE_URL")
	if live != "" {
		require.NoError(t, conformance.Push(ctx, live, base))
		time.Sleep(12 * time.Second) // until its segments are flushed
		p.v2 = map[string]conformance.Answer{}
		for _, c := range calls {
			a, err := conformance.Ask(ctx, live, base, c)
			require.NoError(t, err)
			p.v2[c.Name] = a
		}
	}
	url, _ := start(t, defaults)
	require.NoError(t, conformance.Push(ctx, url, base))
	for _, c := range calls {
		t.Run(c.Name, func(t *testing.T) {
			got, err := conformance.Ask(ctx, url, base, c)
			require.NoError(t, err)
			require.Empty(t, p.fault(c, got, live != ""))
		})
	}
}

// Every call is there once, has an answer, and every answer a call.
func TestConformanceIsComplete(t *testing.T) {
	p := loadPeer(t)
	calls := map[string]conformance.Call{}
	for _, c := range conformance.Calls(corpusBase()) {
		require.NotContains(t, calls, c.Name, "two calls of one name")
		calls[c.Name] = c
		require.Contains(t, p.v2, c.Name, "no answer is recorded")
	}
	require.Greater(t, len(calls), 520)
	for name := range p.v2 {
		require.Contains(t, calls, name, "an answer to no call")
	}
	for name, d := range intended {
		require.Contains(t, calls, name, "an intended difference of no call")
		given := 0
		for _, is := range []bool{d.code != "", d.as != "", d.v1, len(d.lines) > 0} {
			if is {
				given++
			}
		}
		require.Equal(t, 1, given, "%s: what our answer is has to be said in one way", name)
	}
}
