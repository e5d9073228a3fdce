package main

import (
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/config"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

const cpuProfile = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// burnAs starts a busy program as a service, which is killed at the end of the test.
func burnAs(t *testing.T, service string) *exec.Cmd {
	t.Helper()
	return background(t, "env", "OTEL_SERVICE_NAME="+service, buildBurnC(t, t.TempDir()), "1000")
}

// secondsOf is the CPU time that a server has of a selector.
func secondsOf(t *testing.T, url, selector string) float64 {
	t.Helper()
	resp, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url).SelectMergeStacktraces(t.Context(),
		connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: cpuProfile, LabelSelector: selector,
			Start: time.Now().Add(-time.Hour).UnixMilli(), End: time.Now().Add(time.Hour).UnixMilli(),
		}))
	require.NoError(t, err)
	return float64(resp.Msg.Flamegraph.Total) / 1e9
}

// atMost is the CPU time that samples may add up to: 5 % more than was used, and three times
// the standard error of their number, to which other programs on the machine add.
func atMost(used, hz float64) float64 { return 1.05*used + 3*math.Sqrt(used/hz) }

// until waits for a state of the only capture of a server, or its latest.
func until(t *testing.T, api flamelinev1connect.CaptureServiceClient, what string, is func(*flamelinev1.Capture) bool) (c *flamelinev1.Capture) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := api.ListCaptures(t.Context(), connect.NewRequest(&flamelinev1.ListCapturesRequest{}))
		require.NoError(t, err)
		if len(resp.Msg.Captures) == 0 {
			return false
		}
		c = resp.Msg.Captures[0]
		return is(c)
	}, 2*time.Minute, 50*time.Millisecond, what)
	return c
}

// A capture has the CPU time of the processes that match, at its frequency, and changes no
// sum that does not ask for it.
func TestLiveCapture(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	p := launch(t, nil, "--storage.path", filepath.Join(dir, "data"), "--ebpf.enabled", "true")
	p.waitReady(t)
	order := burnAs(t, "order-test")
	burnAs(t, "other")
	api := flamelinev1connect.NewCaptureServiceClient(http.DefaultClient, p.url)

	before := cpuSeconds(t, order.Process.Pid)
	r := runTool(t, dir, nil, "capture", "--server", p.url, `{service_name="order-test"}`, "-d", "8s", "-F", "499", "-o", "out.pb.gz")
	used := cpuSeconds(t, order.Process.Pid) - before
	require.Zero(t, r.code)
	require.Regexp(t, `: [1-9]\d* process(es)? of the server's machine`, r.stderr)
	require.Regexp(t, `: done; [1-9]\d* CPU samples of [1-9]\d* process`, r.stderr)
	link, err := url.Parse(strings.TrimSpace(r.stdout))
	require.NoError(t, err)
	require.Equal(t, cpuProfile, link.Query().Get("profileTypeId"))
	require.Regexp(t, `^\{capture="cap-[^"]*"\}$`, link.Query().Get("labelSelector"))

	profile := readPprof(t, filepath.Join(dir, "out.pb.gz"))
	var heavy, all float64
	for _, s := range profile.Sample {
		all += float64(s.Value[0]) / 1e9
		for _, l := range s.Location {
			for _, ln := range l.Line {
				if ln.Function.Name == "burn_heavy" {
					heavy += float64(s.Value[0]) / 1e9
				}
			}
		}
	}
	require.InDelta(t, 0.7, heavy/all, 0.08)
	require.LessOrEqual(t, all, atMost(used, 499))
	require.Greater(t, all, 0.2)
	require.InDelta(t, 8, float64(profile.DurationNanos)/1e9, 3)

	captured := secondsOf(t, p.url, link.Query().Get("labelSelector"))
	require.InDelta(t, all, captured, 1e-6)
	require.Zero(t, secondsOf(t, p.url, `{capture!="",service_name!="order-test"}`))
	var late *exec.Cmd
	outer := t
	t.Run("processes that begin, stop", func(t *testing.T) {
		started, err := api.Capture(t.Context(), connect.NewRequest(&flamelinev1.CaptureRequest{
			LabelSelector: `{service_name="order-test"}`, Duration: 300_000,
			Kinds: []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_CPU, flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU},
		}))
		require.NoError(t, err)
		id := started.Msg.Capture.Id
		_, err = api.Capture(t.Context(), connect.NewRequest(&flamelinev1.CaptureRequest{LabelSelector: `{}`, Duration: 1000}))
		require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
		require.ErrorContains(t, err, id)
		before := until(t, api, "it runs", func(c *flamelinev1.Capture) bool { return c.State == flamelinev1.CaptureState_CAPTURE_STATE_RUNNING })
		late = burnAs(outer, "order-test")
		until(t, api, "the process that began is seen", func(c *flamelinev1.Capture) bool { return c.Nodes[0].Processes > before.Nodes[0].Processes })
		sum := secondsOf(t, p.url, `{capture="`+id+`"}`)
		seen := cpuSeconds(t, late.Process.Pid)
		require.NoError(t, order.Process.Signal(syscall.SIGSTOP)) // what comes now is of the other one
		require.Eventually(t, func() bool { return secondsOf(t, p.url, `{capture="`+id+`"}`) > sum+seen+2 }, time.Minute, 100*time.Millisecond)
		_, err = api.StopCapture(t.Context(), connect.NewRequest(&flamelinev1.StopCaptureRequest{Id: id}))
		require.NoError(t, err)
		c := until(t, api, "it is stopped", func(c *flamelinev1.Capture) bool { return c.State == flamelinev1.CaptureState_CAPTURE_STATE_STOPPED })
		require.Equal(t, id, c.Id)
		require.Len(t, c.Nodes[0].Counts, 2, "CPU samples and waits")
		types, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, p.url).LabelValues(t.Context(),
			connect.NewRequest(&typesv1.LabelValuesRequest{Name: "__name__", Matchers: []string{`{capture="` + id + `"}`}}))
		require.NoError(t, err)
		require.Equal(t, []string{"off_cpu", "process_cpu"}, types.Msg.Names)
	})
	// The usual profiles have each second of both processes once.
	require.NoError(t, late.Process.Signal(syscall.SIGSTOP))
	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)
	p = launch(t, nil, "--storage.path", filepath.Join(dir, "data"), "--ebpf.enabled", "false")
	p.waitReady(t)
	lived := cpuSeconds(t, order.Process.Pid) + cpuSeconds(t, late.Process.Pid)
	usual, captured := secondsOf(t, p.url, `{service_name="order-test"}`), secondsOf(t, p.url, `{service_name="order-test",capture!=""}`)
	require.Greater(t, usual, 0.7*lived)
	require.LessOrEqual(t, usual, atMost(lived, 19))
	require.Greater(t, usual+captured, atMost(lived, 19), "the test would see captures in the sum")
}

// A server without a sampler has its agent sample, which only connects outwards. Ctrl-C
// ends a capture early, and keeps it.
func TestLiveCaptureOfAnAgent(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	burnAs(t, "order-test")
	central := launch(t, nil, "--storage.path", filepath.Join(dir, "data"), "--ebpf.enabled", "false")
	central.waitReady(t)
	file := filepath.Join(dir, "agent.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
storage: {path: `+filepath.Join(dir, "agent")+`}
ebpf: {enabled: true}
push: {url: "`+central.url+`/"}
labels: {node: worker-7}
`), 0o600))
	agent := launch(t, nil, "--config.file", file)
	agent.waitReady(t)
	require.Eventually(t, func() bool {
		_, metrics := central.get("/metrics")
		return strings.Contains(metrics, "\nflameline_capture_agents 1\n")
	}, time.Minute, 50*time.Millisecond, "the agent asks")

	r := runTool(t, dir, nil, "capture", "--server", central.url, `{service_name="order-test"}`, "-d", "3s", "-F", "199", "-o", "-", "--to", "folded")
	require.Zero(t, r.code)
	require.Contains(t, r.stderr, "1 agent that will look for theirs")
	require.Regexp(t, `worker-7: done; [1-9]\d* CPU samples of [1-9]\d* process`, r.stderr)
	stacks := parseFolded(t, r.stdout)
	heavy, light := below(stacks, "turn", "burn_heavy"), below(stacks, "turn", "burn_light")
	require.InDelta(t, 0.7, heavy/(heavy+light), 0.12)
	require.Zero(t, secondsOf(t, central.url, `{capture!="",node!="worker-7"}`))

	path, err := binary()
	require.NoError(t, err)
	cmd := exec.Command(path, "capture", "--server", central.url, `{service_name="order-test"}`, "-d", "10m")
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Start())
	api := flamelinev1connect.NewCaptureServiceClient(http.DefaultClient, central.url)
	until(t, api, "it samples", func(c *flamelinev1.Capture) bool {
		return c.State == flamelinev1.CaptureState_CAPTURE_STATE_RUNNING && c.Nodes[0].Profiles > 0
	})
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), errs.String())
	require.Contains(t, errs.String(), "worker-7: stopped; ")
	require.Contains(t, out.String(), central.url+"/?")
}

func TestCaptureErrors(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, nil, "--storage.path", filepath.Join(dir, "data"), "--ebpf.enabled", "false")
	p.waitReady(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{`{service_name="order-test"}`}, 1, "this machine is not sampled, and no agent has asked in the last 30s"},
		{[]string{`{}`, "-F", "2000"}, 2, "-F: 2000 is not within 1 and 1000"},
		{[]string{`{}`, "-d", "11m"}, 2, "-d: 11m0s is not within 1s and 10m0s"},
		{[]string{`{a=`}, 2, "selector"},
		{[]string{`{__name__="process_cpu"}`}, 2, "label_selector: __name__ is no label of a process"},
		{[]string{`{}`, "-e", "gpu"}, 2, "-e gpu is none of cpu, off-cpu, wall, page-faults, alloc"},
		{[]string{`{}`, "-e", "wall", "-o", "x.svg"}, 2, "-o: -e wall stores CPU and off-CPU time apart"},
		{[]string{`{}`, "-o", "x.unknown"}, 2, "unknown"},
	} {
		r := runTool(t, dir, nil, append([]string{"capture", "--server", p.url}, c.args...)...)
		require.Equal(t, c.code, r.code, c.args)
		require.Contains(t, r.stderr, c.want)
	}
}

func TestWhoMayCapture(t *testing.T) {
	for _, c := range []struct {
		address string
		enabled config.Mode
		want    string // of the error; "" if it is allowed
	}{
		{"127.0.0.1:4040", config.Auto, ""},
		{"[::1]:4040", config.Auto, ""},
		{"localhost:4040", config.Auto, ""},
		{"127.0.0.1:4040", config.False, "capture.enabled is false"},
		{":4040", config.Auto, "capture.enabled: true allows it"},
		{"0.0.0.0:4040", config.Auto, "capture.enabled: true allows it"},
		{"10.0.0.1:4040", config.Auto, "capture.enabled: true allows it"},
		{"0.0.0.0:4040", config.True, ""},
	} {
		conf := config.Default()
		conf.Web.ListenAddress, conf.Capture.Enabled = c.address, c.enabled
		err := capturesAllowed(conf)
		if c.want == "" {
			require.NoError(t, err, c.address)
		} else {
			require.ErrorContains(t, err, c.want, c.address)
		}
	}
}
