package scrape

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// decode is a reader of pprof for these tests.
func decode(body []byte) (*googlev1.Profile, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("pprof: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, 32<<20))
	if err != nil {
		return nil, fmt.Errorf("pprof: %w", err)
	}
	p := &googlev1.Profile{}
	if err := p.UnmarshalVT(raw); err != nil {
		return nil, fmt.Errorf("pprof: %w", err)
	}
	return p, nil
}

// An appender keeps the profiles that it is given, and sends a message per profile on a channel.
type appender struct {
	mu       sync.Mutex
	profiles []profile.Profile
	came     chan profile.Profile
	err      error
}

func newAppender() *appender { return &appender{came: make(chan profile.Profile, 1000)} }

func (a *appender) Append(_ context.Context, ps []profile.Profile) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.profiles = append(a.profiles, ps...)
	for _, p := range ps {
		a.came <- p
	}
	return nil
}

// next waits for a profile of a name.
func (a *appender) next(t *testing.T, name string) profile.Profile {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case p := <-a.came:
			if p.Labels.Get("__name__") == name {
				return p
			}
		case <-deadline:
			t.Fatalf("no profile %s came", name)
		}
	}
}

// busy builds and starts a Go service that serves its profiles.
func busy(t *testing.T) (address string) {
	t.Helper()
	dir := t.TempDir()
	src, err := os.ReadFile("testdata/busy.go.txt")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), src, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module busy\n\ngo 1.26\n"), 0o644))
	build := exec.Command("go", "build", "-o", "busy", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOEXPERIMENT=goroutineleakprofile")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	cmd := exec.Command(filepath.Join(dir, "busy"))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

func config(job, address string, interval time.Duration) Config {
	c := Default()
	c.JobName = job
	c.ScrapeInterval = model.Duration(interval)
	c.StaticConfigs = []*targetgroup.Group{{Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(address)}}}}
	return c
}

func on() *bool { yes := true; return &yes }

// run starts a manager that stops with the test.
func run(t *testing.T, a Appender, configs ...Config) *Manager {
	t.Helper()
	m, err := New(Options{Appender: a, Decode: decode, Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	require.NoError(t, m.ApplyConfig(configs))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.Empty(t, m.State().Jobs)
		require.Zero(t, testutil.CollectAndCount(newStateMetrics(m)), "targets that are scraped no more have no series")
	})
	return m
}

// names returns the functions of a profile with the value of each, by column.
func names(p *googlev1.Profile, column int) map[string]int64 {
	functions, locations := map[uint64]string{}, map[uint64][]string{}
	for _, f := range p.Function {
		functions[f.Id] = p.StringTable[f.Name]
	}
	for _, l := range p.Location {
		for _, line := range l.Line {
			locations[l.Id] = append(locations[l.Id], functions[line.FunctionId])
		}
	}
	out := map[string]int64{}
	for _, s := range p.Sample {
		seen := map[string]bool{}
		for _, id := range s.LocationId {
			for _, f := range locations[id] {
				if !seen[f] {
					seen[f] = true
					out[f] += s.Value[column]
				}
			}
		}
	}
	return out
}

func TestScrapeGoService(t *testing.T) {
	t.Parallel() // it mostly waits
	address := busy(t)
	c := config("busy", address, 2*time.Second)
	c.ProfilingConfig.PprofConfig.Memory.Enabled = on()
	c.ProfilingConfig.PprofConfig.Goroutine.Enabled = on()
	c.ProfilingConfig.PprofConfig.GoroutineLeak.Enabled = on()
	c.StaticConfigs[0].Labels = model.LabelSet{"env": "test", "service_name": "shop"}
	a := newAppender()
	m := run(t, a, c)

	var cpu, allocated, inUse, goroutine, leaked []*googlev1.Profile
	grown := func(p *googlev1.Profile) bool { return names(p, 1)["main.allocate"] > 0 }
	for deadline := time.After(2 * time.Minute); len(cpu) < 3 || !slices.ContainsFunc(allocated, grown) || len(goroutine) < 2 || len(leaked) == 0; {
		select {
		case p := <-a.came:
			name := p.Labels.Get("__name__")
			require.Equal(t, fmt.Sprintf(`{__name__=%q, env="test", instance=%q, job="busy", service_name="shop"}`, name, address), p.Labels.String())
			switch name {
			case "process_cpu":
				cpu = append(cpu, p.Pprof)
			case "memory":
				if typesOf(p.Pprof)[0] == "alloc_objects" {
					allocated = append(allocated, p.Pprof)
				} else {
					inUse = append(inUse, p.Pprof)
				}
			case "goroutine":
				goroutine = append(goroutine, p.Pprof)
			case "goroutineleak":
				leaked = append(leaked, p.Pprof)
			}
		case <-deadline:
			t.Fatalf("only %d CPU, %d and %d memory, %d goroutine profiles came", len(cpu), len(allocated), len(inUse), len(goroutine))
		}
	}
	for i, p := range cpu {
		require.Positive(t, names(p, 1)["main.burn"])
		require.GreaterOrEqual(t, time.Duration(p.DurationNanos), time.Second)
		if i == 0 {
			continue
		}
		// Each is in an interval of its own, and none overlaps another.
		require.Greater(t, p.TimeNanos/2e9, cpu[i-1].TimeNanos/2e9)
		require.GreaterOrEqual(t, p.TimeNanos, cpu[i-1].TimeNanos+cpu[i-1].DurationNanos)
	}
	require.Positive(t, names(goroutine[0], 0)["main.main"])
	require.EqualValues(t, 2, names(leaked[0], 0)["main.leak.func1"])
	// Memory in use holds when it was read, what was allocated is of the time
	// between.
	var read []int64
	for _, p := range inUse {
		require.Zero(t, p.DurationNanos)
		read = append(read, p.TimeNanos)
	}
	for _, p := range allocated {
		require.Contains(t, read, p.TimeNanos)
		require.Contains(t, read, p.TimeNanos+p.DurationNanos)
	}

	state := m.State()
	require.Len(t, state.Jobs, 1)
	require.Len(t, state.Jobs[0].Active, 4)
	for _, s := range state.Jobs[0].Active {
		require.NoError(t, s.Err)
		require.Positive(t, s.Samples)
	}
	requireUp(t, m, "busy", address, map[string]float64{"process_cpu": 1, "memory": 1, "goroutine": 1, "goroutineleak": 1})
	require.GreaterOrEqual(t, testutil.ToFloat64(m.metrics.covered.WithLabelValues("busy")), 3.0)
}

// A target that answers badly fails with the reason, and is up again when it
// answers well.
func TestScrapeBadServers(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte("not a profile, but long enough to be taken for one"))
	z.Close()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		reason  string
		message string
	}{
		"404": {http.NotFound, reasonStatus, "404 Not Found: 404 page not found"},
		"in use": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Could not enable CPU profiling: in use\nmore", http.StatusInternalServerError)
		}, reasonStatus, "in use"},
		"empty error":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, reasonStatus, "503 Service Unavailable"},
		"slow":             {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, reasonTimeout, "deadline"},
		"slow body":        {func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); <-r.Context().Done() }, reasonTimeout, "deadline"},
		"text":             {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello</html>") }, reasonMalformed, "pprof"},
		"empty":            {func(http.ResponseWriter, *http.Request) {}, reasonMalformed, "pprof"},
		"malformed":        {func(w http.ResponseWriter, _ *http.Request) { w.Write(zipped.Bytes()) }, reasonMalformed, "pprof"},
		"cut":              {func(w http.ResponseWriter, _ *http.Request) { w.Write(zipped.Bytes()[:20]) }, reasonMalformed, "pprof"},
		"huge":             {func(w http.ResponseWriter, _ *http.Request) { io.CopyN(w, zeros{}, 10<<20) }, reasonTooLarge, "larger than 1048576 bytes"},
		"huge, announced":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999") }, reasonTooLarge, "larger than"},
		"hangs up":         {func(w http.ResponseWriter, _ *http.Request) { c, _, _ := w.(http.Hijacker).Hijack(); c.Close() }, reasonConnect, "EOF"},
		"endless redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) }, reasonConnect, "redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.handler)
			defer server.Close()
			l := single(t, newAppender(), strings.TrimPrefix(server.URL, "http://"))
			start := time.Now()
			err := l.scrape(context.Background(), start, 0)
			require.ErrorContains(t, err, c.message)
			var known *scrapeError
			require.True(t, errors.As(err, &known))
			require.Equal(t, c.reason, known.reason)
			l.report(start, time.Since(start), err)
			require.ErrorContains(t, l.lastScrape().Err, "scrape "+server.URL+"/debug/pprof/goroutine: ")
			requireUp(t, l.manager, "bad", l.target.instance, map[string]float64{"goroutine": 0})
			require.Equal(t, 1.0, testutil.ToFloat64(l.manager.metrics.scrapes.WithLabelValues("bad", "goroutine", c.reason)))
		})
	}
	t.Run("refused", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := listener.Addr().String()
		listener.Close()
		err = single(t, newAppender(), address).scrape(context.Background(), time.Now(), 0)
		require.ErrorContains(t, err, "connection refused")
		require.NotContains(t, err.Error(), "Get ", "the URL is named once")
	})
	t.Run("full store", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(pprofOf(t, 1)) }))
		defer server.Close()
		a := newAppender()
		a.err = errors.New("disk is full")
		l := single(t, a, strings.TrimPrefix(server.URL, "http://"))
		err := l.scrape(context.Background(), time.Now(), 0)
		require.ErrorContains(t, err, "append: disk is full")
		a.err = nil
		require.NoError(t, l.scrape(context.Background(), time.Now(), 0))
		l.report(time.Now(), 0, nil)
		requireUp(t, l.manager, "bad", l.target.instance, map[string]float64{"goroutine": 1})
	})
}

// requireUp compares flameline_scrape_up of a target, by profile.
func requireUp(t *testing.T, m *Manager, job, instance string, want map[string]float64) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(newStateMetrics(m)))
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "flameline_scrape_up" {
			continue
		}
		for _, metric := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["job"] == job && labels["instance"] == instance {
				got[labels["profile"]] = metric.GetGauge().GetValue()
			}
		}
	}
	require.Equal(t, want, got)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// single returns the loop of a job's goroutine profile, which does not run.
func single(t *testing.T, a Appender, address string) *loop {
	t.Helper()
	c := config("bad", address, time.Second)
	off := false
	c.ProfilingConfig.PprofConfig.ProcessCPU.Enabled = &off
	c.ProfilingConfig.PprofConfig.Goroutine.Enabled = on()
	c.ScrapeTimeout = model.Duration(time.Second)
	c.BodySizeLimit = 1 << 20
	m, err := New(Options{Appender: a, Decode: decode})
	require.NoError(t, err)
	j, err := m.newJob(c)
	require.NoError(t, err)
	require.Len(t, j.targets, 1)
	require.Len(t, j.targets[0].loops, 1)
	m.jobs["bad"] = j
	return j.targets[0].loops[0]
}

func pprofOf(t *testing.T, value int64) []byte {
	t.Helper()
	return zipped(t, &googlev1.Profile{
		StringTable: []string{"", "goroutine", "count"},
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
		Sample:      []*googlev1.Sample{{Value: []int64{value}}},
	})
}

func zipped(t *testing.T, p *googlev1.Profile) []byte {
	t.Helper()
	raw, err := p.MarshalVT()
	require.NoError(t, err)
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(raw)
	require.NoError(t, z.Close())
	return out.Bytes()
}

func TestCredentialsAndParamsAreSent(t *testing.T) {
	got := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		w.Write(pprofOf(t, 1))
	}))
	defer server.Close()
	configs, err := parse(fmt.Sprintf(`
scrape_configs:
  - job_name: a
    basic_auth: {username: me, password: secret}
    params: {x: ["1"]}
    profiling_config: {path_prefix: /p/}
    static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(server.URL, "http://")))
	require.NoError(t, err)
	m, err := New(Options{Appender: newAppender(), Decode: decode})
	require.NoError(t, err)
	j, err := m.newJob(configs[0])
	require.NoError(t, err)
	require.NoError(t, j.targets[0].loops[0].scrape(context.Background(), time.Now(), 3*time.Second))
	r := <-got
	user, password, _ := r.BasicAuth()
	require.Equal(t, "me secret", user+" "+password)
	require.Equal(t, "/p/debug/pprof/profile?seconds=3&x=1", r.URL.String())
	require.Equal(t, userAgent, r.UserAgent())
}

func TestApplyConfig(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(pprofOf(t, 1)) }))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	a := newAppender()
	one, two := config("one", address, time.Second), config("two", address, time.Second)
	m := run(t, a, one, two)
	a.next(t, "process_cpu")
	job := func(name string) *job {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.jobs[name]
	}
	first := job("one")
	require.NotNil(t, first)

	changed := two
	changed.Params = map[string][]string{"a": {"b"}}
	before := job("two")
	require.NoError(t, m.ApplyConfig([]Config{config("one", address, time.Second), changed}))
	require.Same(t, first, job("one"), "a job that is the same goes on")
	require.NotSame(t, before, job("two"))

	bad := one
	bad.Scheme = "gopher"
	require.ErrorContains(t, m.ApplyConfig([]Config{bad}), "scrape_configs[0].scheme")
	require.Same(t, first, job("one"), "a wrong configuration changes nothing")
	bad = one
	bad.HTTPClientConfig.TLSConfig.CAFile = "/does/not/exist"
	require.ErrorContains(t, m.ApplyConfig([]Config{bad}), `job "one"`)
	require.Same(t, first, job("one"))

	require.NoError(t, m.ApplyConfig([]Config{changed}))
	require.Nil(t, job("one"))
	require.NoError(t, m.ApplyConfig(nil))
	require.Empty(t, m.State().Jobs)
}

// Over a day of answers that take their time, every interval has one start, within a
// second of its turn or little more, and nearly all the time is covered. Whatever the
// offset, that is so too for the intervals that begin at a multiple, as a chart's do.
func TestProfilesCoverTheTime(t *testing.T) {
	for _, interval := range []time.Duration{5 * time.Second, 15 * time.Second, time.Minute} {
		for _, late := range []time.Duration{time.Millisecond, 40 * time.Millisecond, 130 * time.Millisecond, 400 * time.Millisecond} {
			for _, offset := range []time.Duration{0, 1234 * time.Millisecond, interval - drift - 1} {
				now := time.Unix(1_700_000_000, 0).Truncate(interval).Add(offset + afterTurn)
				begin, covered, starts := now, time.Duration(0), map[int64]int{}
				for now.Sub(begin) < 24*time.Hour {
					if left := untilTurn(now, interval, offset); left < tooShort {
						now = now.Add(left + afterTurn)
					}
					since := interval - untilTurn(now, interval, offset)
					require.Less(t, since, time.Second+late, "%s, %s late", interval, late)
					starts[now.UnixNano()/int64(interval)]++
					length := profileLength(now, interval, offset)
					require.Zero(t, length%time.Second)
					require.Positive(t, length)
					covered += length
					now = now.Add(length + late)
				}
				require.Len(t, starts, int(24*time.Hour/interval), "%s, %s late", interval, late)
				for i, n := range starts {
					require.Equal(t, 1, n, "interval %d", i)
				}
				want := 1 - late.Seconds()/interval.Seconds() - 0.001
				require.Greater(t, covered.Seconds()/now.Sub(begin).Seconds(), want)
			}
		}
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	_, err := New(Options{})
	require.Error(t, err)
	m, err := New(Options{Appender: newAppender(), Decode: decode, Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, m.Run(ctx))
	require.Error(t, m.Run(ctx))
}
