//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/e2e/compare/dataset"
	"github.com/flameline/flameline/e2e/proc"
)

// built is the program that FLAMELINE_BIN names, or one that is built for all tests.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("FLAMELINE_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "flameline-compare-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	path := filepath.Join(dir, "flameline")
	out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "../../collector").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the collector: %w: %s", err, out)
	}
	return path, nil
})

// builtIn is the directory of the program that was built, which TestMain removes.
var builtIn string

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(builtIn)
	os.Exit(code)
}

func flameline(t *testing.T) string {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return path
}

// serve is the command of a second server of ours, as the peer.
func serve(t *testing.T, binary string) (target, []string) {
	t.Helper()
	address, err := proc.FreeAddress("127.0.0.1:0")
	require.NoError(t, err)
	p := target{name: "peer", url: "http://" + address, data: filepath.Join(t.TempDir(), "data")}
	return p, []string{
		binary, "serve", "--ebpf.enabled=false", "--log.level=warn", "--storage.retention=0",
		"--storage.path=" + p.data, "--web.listen-address=" + address,
	}
}

// small are options of a run that takes seconds.
func small(binary string, peer target) options {
	return options{
		generate: dataset.Options{Services: 2, Pods: 1, Minutes: 1}, binary: binary, peer: peer,
		concurrency: 4, slices: 2, runs: 2, settle: 100 * time.Millisecond, settleMax: time.Second, progress: io.Discard,
	}
}

// TestComparisonIsComplete compares our server with itself: every figure is
// there for both, and nothing is doubtful.
func TestComparisonIsComplete(t *testing.T) {
	binary := flameline(t)
	peer, command := serve(t, binary)
	peer.restart = strings.Join(command, " ")
	o := small(binary, peer)
	o.coldRuns, o.warmUp = 1, 1
	o.replicate, o.replicateDays, o.replicateStep = true, 1, 5*time.Minute
	r, err := run(t.Context(), o)
	require.NoError(t, err)

	groups := map[string]int{}
	for _, f := range r.Figures {
		groups[f.Group]++
		require.Empty(t, f.Marks, f.Name)
		for which, v := range f.Values {
			require.NotNil(t, v, "%s of server %d", f.Name, which)
			// CPU time comes in steps of 10 ms, of which 12 profiles may take none.
			if f.Unit != "s" {
				require.Positive(t, v.Median, f.Name)
			}
			if f.Group == groupQueries || f.Group == groupLong {
				require.Positive(t, f.Ready.Median, f.Name)
			}
			if f.Group != groupPush {
				require.Positive(t, v.Count, f.Name)
				require.Positive(t, v.Bytes, f.Name)
			}
		}
	}
	require.Equal(t, map[string]int{groupPush: 9, groupQueries: 15, groupCold: 3, groupLong: 3}, groups)

	text := r.Markdown()
	require.NotContains(t, text, "Doubtful")
	rows := 0
	columns := 0
	for line := range strings.Lines(text) {
		switch n := strings.Count(line, "|"); {
		case !strings.HasPrefix(line, "|"):
			columns = 0
		case columns == 0:
			columns = n
		default:
			require.Equal(t, columns, n, line)
			rows++
		}
	}
	require.Equal(t, len(r.Figures)+len(groups), rows, "rows of tables, with the line below each header")
}

// TestComparisonMarksWhatDiffers compares with a peer that acknowledges what it
// does not keep, and refuses one profile.
func TestComparisonMarksWhatDiffers(t *testing.T) {
	binary := flameline(t)
	peer, command := serve(t, binary)
	p, err := proc.Start(proc.Spec{Name: "peer", Args: command})
	require.NoError(t, err)
	defer p.Stop(time.Minute)
	require.NoError(t, p.Await(t.Context(), proc.Answers(peer.url+"/ready")))

	to, err := url.Parse(peer.url)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(to)
	var pushes atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "PusherService") {
			switch n := pushes.Add(1); {
			case n == 5:
				_, _ = io.Copy(io.Discard, r.Body)
				http.Error(w, "no room", http.StatusServiceUnavailable)
				return
			case n%3 == 0:
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/proto")
				return
			}
		}
		forward.ServeHTTP(w, r)
	}))
	defer front.Close()
	peer.url = front.URL
	o := small(binary, peer)
	o.out = filepath.Join(t.TempDir(), "results.md")
	r, err := run(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, write(r, o.out))

	doubts := map[string]string{}
	for _, f := range r.Figures {
		doubts[f.Name] = strings.Join(f.Marks, "; ")
	}
	require.Contains(t, doubts["profiles taken"], "peer refused 1 of 12 profiles: 503 Service Unavailable: no room")
	require.Contains(t, doubts["SelectMergeStacktraces 1 h, all services"], "totals differ")
	require.Contains(t, doubts["SelectSeries 1 h, step 15 s, by service_name"], "totals differ")
	require.Contains(t, doubts["pprof 1 h, all services"], "totals differ")
	require.Empty(t, doubts["LabelNames 1 h"])

	text, err := os.ReadFile(o.out)
	require.NoError(t, err)
	require.Regexp(t, `- \[\d+\] peer refused 1 of 12`, string(text))
	require.Contains(t, string(text), "| disk, settled |")
	b, err := os.ReadFile(strings.TrimSuffix(o.out, ".md") + ".json")
	require.NoError(t, err)
	var read Results
	require.NoError(t, json.Unmarshal(b, &read))
	require.Equal(t, r.Figures, read.Figures)
}

func TestOptionsNameWhatIsMissing(t *testing.T) {
	_, err := run(t.Context(), options{})
	require.ErrorContains(t, err, "-peer is missing")
	_, err = run(t.Context(), options{peer: target{url: "http://127.0.0.1:1"}, slices: 1, runs: 1})
	require.ErrorContains(t, err, "-concurrency")
}

func TestDisagree(t *testing.T) {
	tree := func(total int64, nodes int) *facts { return &facts{total, nodes, nodesOfTree} }
	list := func(n int) *facts { return &facts{0, n, "names"} }
	for _, c := range []struct {
		left, right *facts
		want        string
	}{
		{tree(100_000, 1000), tree(100_000, 800), ""},
		{tree(100_000, 1000), tree(100_090, 1000), ""},
		{tree(100_000, 1000), tree(100_110, 1000), "totals differ: 100000 and 100110"},
		{tree(100_110, 1000), tree(100_000, 1000), "totals differ: 100110 and 100000"},
		{tree(100_000, 1000), tree(100_000, 700), "sizes differ: 1000 and 700 nodes"},
		{tree(1, 1), tree(0, 0), "totals differ: 1 and 0"},
		{tree(0, 0), tree(0, 0), "both answers are empty"},
		{list(12), list(12), ""},
		{list(12), list(11), "sizes differ: 12 and 11 names"},
		{nil, list(11), ""}, // it failed, which is reported elsewhere
	} {
		require.Equal(t, c.want, disagree([]*facts{list(1), c.left}, []*facts{list(1), c.right}))
	}
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		n           int
		median, p95 float64
	}{{1, 1, 1}, {2, 1.5, 2}, {20, 10.5, 19}, {21, 11, 20}, {100, 50.5, 95}} {
		var of []float64
		for i := c.n; i > 0; i-- {
			of = append(of, float64(i))
		}
		v := summary(of)
		require.Equal(t, fmt.Sprint(c.median, c.p95, c.n), fmt.Sprint(v.Median, *v.P95, v.Runs))
	}
}
