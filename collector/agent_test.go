package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"
)

// A countingTarget is a Go service as a scraper sees it: counters of allocations
// and of waiting that grow by one with every answer, and CPU profiles of one
// sample. It knows what a store that loses nothing has to hold.
type countingTarget struct {
	mu      sync.Mutex
	stopped bool // it answers no more

	allocated int64
	blocked   int64
	grown     map[string]int64 // what was added since the first answer, by profile
	answered  map[string]int
}

func newCountingTarget() *countingTarget {
	return &countingTarget{grown: map[string]int64{}, answered: map[string]int{}}
}

// restart makes the counters those of a new process.
func (c *countingTarget) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allocated, c.blocked = 0, 0
}

func (c *countingTarget) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/debug/pprof/profile" {
		time.Sleep(200 * time.Millisecond) // a profile takes time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		http.Error(w, "stopped", http.StatusServiceUnavailable)
		return
	}
	p := &googlev1.Profile{
		StringTable: []string{"", "main", "count", "cpu", "nanoseconds", "alloc_objects", "inuse_objects", "contentions"},
		Function:    []*googlev1.Function{{Id: 1, Name: 1}},
		Location:    []*googlev1.Location{{Id: 1, Line: []*googlev1.Line{{FunctionId: 1}}}},
		TimeNanos:   time.Now().UnixNano(),
	}
	name := strings.TrimPrefix(r.URL.Path, "/debug/pprof/")
	grow := func(n *int64) int64 {
		*n++
		if c.answered[name] > 0 {
			c.grown[name]++
		}
		return *n
	}
	var values []int64
	switch name {
	case "profile":
		p.SampleType = []*googlev1.ValueType{{Type: 3, Unit: 4}}
		p.PeriodType, p.Period = &googlev1.ValueType{Type: 3, Unit: 4}, 1
		p.DurationNanos = 1e6
		values = []int64{1}
		c.grown[name]++
	case "allocs", "heap":
		p.SampleType = []*googlev1.ValueType{{Type: 5, Unit: 2}, {Type: 6, Unit: 2}}
		values = []int64{grow(&c.allocated), 1}
	case "block":
		p.SampleType = []*googlev1.ValueType{{Type: 7, Unit: 2}}
		values = []int64{grow(&c.blocked)}
	default:
		http.NotFound(w, r)
		return
	}
	c.answered[name]++
	p.Sample = []*googlev1.Sample{{LocationId: []uint64{1}, Value: values}}
	raw, err := p.MarshalVT()
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(raw)
}

// answers waits until the target has answered n more scrapes of each profile.
func (c *countingTarget) answers(t *testing.T, n int) {
	t.Helper()
	c.mu.Lock()
	before := map[string]int{}
	for name, n := range c.answered {
		before[name] = n
	}
	c.mu.Unlock()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, name := range []string{"profile", "allocs", "block"} {
			if c.answered[name]-before[name] < n {
				return false
			}
		}
		return true
	}, 2*time.Minute, 10*time.Millisecond)
}

// A weatherProxy stands between agent and server.
type weatherProxy struct {
	mu     sync.Mutex
	mode   string
	server *url.URL
	pushes map[string]int // by mode
}

func (p *weatherProxy) set(t *testing.T, mode, server string) {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode, p.server = mode, u
}

// wait waits until something was pushed in a mode.
func (p *weatherProxy) wait(t *testing.T, mode string) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.pushes[mode] > 0
	}, 2*time.Minute, 10*time.Millisecond)
}

func (p *weatherProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	mode, server := p.mode, p.server
	p.pushes[mode]++
	p.mu.Unlock()
	proxy := httputil.NewSingleHostReverseProxy(server)
	switch mode {
	case "busy":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusTooManyRequests)
	case "loses answers":
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		proxy.ServeHTTP(w, r)
	}
}

// An agent's server is killed, is busy, and stores without its answers arriving;
// the process that is scraped starts anew meanwhile. In the end the server has
// everything that was scraped, once.
func TestAgentLosesNothing(t *testing.T) {
	t.Parallel() // it mostly waits
	dir := t.TempDir()
	serve := func() *process {
		p := launch(t, nil, "--storage.path", filepath.Join(dir, "central"), "--ebpf.enabled", "false")
		p.waitReady(t)
		return p
	}
	central := serve()
	target := newCountingTarget()
	scraped := httptest.NewServer(target)
	defer scraped.Close()
	weather := &weatherProxy{pushes: map[string]int{}}
	weather.set(t, "good", central.url)
	proxy := httptest.NewServer(weather)
	defer proxy.Close()
	file := filepath.Join(dir, "agent.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
storage: {path: `+filepath.Join(dir, "agent")+`}
ebpf: {enabled: false}
push: {url: "`+proxy.URL+`"}
scrape_configs:
  - job_name: tests
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{targets: ["`+scraped.Listener.Addr().String()+`"]}]
    profiling_config:
      pprof_config: {memory: {enabled: true}, block: {enabled: true}}
`), 0o600))
	agent := launch(t, nil, "--config.file", file)
	agent.waitReady(t)
	few := 3
	if testing.Short() {
		few = 1
	}
	target.answers(t, few)

	central.end(syscall.SIGKILL)
	target.answers(t, few)
	target.restart()
	target.answers(t, few)
	_, metrics := agent.get("/metrics")
	require.NotContains(t, metrics, "\nflameline_forward_queue_profiles 0\n", "profiles wait")
	central = serve()
	modes := []string{"loses answers", "busy", "fine"}
	if testing.Short() {
		modes = []string{"loses answers", "fine"}
	}
	for _, mode := range modes {
		weather.set(t, mode, central.url)
		weather.wait(t, mode)
	}

	target.mu.Lock()
	target.stopped = true
	target.mu.Unlock()
	require.Eventually(t, func() bool { // the last answers have arrived
		_, metrics := agent.get("/metrics")
		return !regexp.MustCompile(`\nflameline_scrape_up\{.*\} 1\n`).MatchString(metrics)
	}, 2*time.Minute, 10*time.Millisecond)
	// The end sends what waits.
	agent.end(syscall.SIGTERM)
	require.True(t, agent.cmd.ProcessState.Success(), agent.log)
	require.NotContains(t, agent.log.String(), "lost")
	for profileType, name := range map[string]string{
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds": "profile",
		"memory:alloc_objects:count::":                "allocs",
		"block:contentions:count::":                   "block",
	} {
		require.Greater(t, target.grown[name], int64(2*few))
		require.Equal(t, target.grown[name], total(t, central.url, profileType), name)
	}
}

// total returns the sum of all that is stored of a type.
func total(t *testing.T, url, profileType string) int64 {
	t.Helper()
	resp, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url).SelectMergeStacktraces(t.Context(),
		connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: profileType, LabelSelector: "{}",
			Start: time.Now().Add(-time.Hour).UnixMilli(), End: time.Now().Add(time.Hour).UnixMilli(),
		}))
	require.NoError(t, err)
	return resp.Msg.Flamegraph.Total
}

// An agent that ends while its server is away says how many profiles are lost.
func TestAgentSaysWhatItLoses(t *testing.T) {
	t.Parallel() // it mostly waits
	dir := t.TempDir()
	target := newCountingTarget()
	scraped := httptest.NewServer(target)
	defer scraped.Close()
	file := filepath.Join(dir, "agent.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
storage: {path: `+filepath.Join(dir, "agent")+`}
ebpf: {enabled: false}
push: {url: "http://127.0.0.1:1", max_queue_profiles: 2}
scrape_configs:
  - job_name: tests
    scrape_interval: 1s
    static_configs: [{targets: ["`+scraped.Listener.Addr().String()+`"]}]
    profiling_config: {pprof_config: {memory: {enabled: true}, block: {enabled: true}}}
`), 0o600))
	agent := launch(t, nil, "--config.file", file)
	agent.waitReady(t)
	target.answers(t, 3)
	_, metrics := agent.get("/metrics")
	dropped := regexp.MustCompile(`flameline_forward_profiles_total\{outcome="dropped"\} [1-9]`)
	require.Regexp(t, dropped, metrics)
	require.Regexp(t, `\nflameline_forward_queue_profiles 2\n`, metrics)
	agent.end(syscall.SIGTERM)
	require.True(t, agent.cmd.ProcessState.Success(), agent.log)
	require.Contains(t, agent.log.String(), "2 profiles could not be sent before the shutdown and are lost")
}
