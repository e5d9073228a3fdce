package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/flameline/flameline/collector/sample"
)

// nobody is the user and group without rights.
const nobody = 65534

// unprivileged makes a command run without rights, where the test has any to
// give up, in a directory that it may write to.
func unprivileged(t *testing.T) (edit func(*exec.Cmd), dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "flameline-nobody-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return func(cmd *exec.Cmd) {
		cmd.Dir = dir
		if os.Geteuid() == 0 {
			require.NoError(t, os.Chown(dir, nobody, nobody))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
	}, dir
}

func TestServeWithoutPrivileges(t *testing.T) {
	edit, dir := unprivileged(t)
	p := launch(t, edit)
	p.waitReady(t)

	status, body := p.get("/api/v1/status")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"ready":true`)
	require.Contains(t, body, `"state":"off"`)
	require.Contains(t, body, "CAP_BPF", "the reason names what is missing")

	began := time.Now()
	client := pushv1connect.NewPusherServiceClient(http.DefaultClient, p.url)
	_, err := client.Push(t.Context(), connect.NewRequest(oneSample(t, "cart", "checkout", began)))
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"checkout": 1}, functions(t, p.url, began))

	for _, path := range []string{"/", "/metrics", "/-/healthy", "/-/ready"} {
		status, body := p.get(path)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
	}
	_, metrics := p.get("/metrics")
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total", "flameline_build_info",
		"flameline_server_pushed_profiles_total 1", `flameline_server_request_duration_seconds_count{code="ok",method="Push"} 1`} {
		require.Contains(t, metrics, name)
	}

	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)
	require.Equal(t, 1, strings.Count(p.log.String(), "eBPF sampling is off"), "one log line says it:\n%s", p.log)
	require.DirExists(t, filepath.Join(dir, "data"), "the store is in ./data by default")
}

func TestServeInsistsOnSampling(t *testing.T) {
	edit, _ := unprivileged(t)
	p := launch(t, edit, "--ebpf.enabled", "true")
	<-p.exited
	require.Equal(t, 1, p.cmd.ProcessState.ExitCode())
	require.Contains(t, p.log.String(), "flameline: ebpf.enabled is true, but: ")
	require.Contains(t, p.log.String(), "CAP_BPF")
}

func TestServeNamesWhatItCannotUse(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	first := launch(t, nil, "--storage.path", filepath.Join(dir, "store"), "--ebpf.enabled", "false")
	first.waitReady(t)
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a flag":         {[]string{"--ebpf.enabled", "maybe"}, 2, `"maybe" is not true, false or auto`},
		"an unknown key": {[]string{"--config.file", file("a.yml", "storage:\n  pfad: x\n")}, 1, `a.yml:2: unknown key "pfad"`},
		"a frequency":    {[]string{"--ebpf.frequency=-3"}, 1, "ebpf.frequency: -3 is not within"},
		"a store in use": {[]string{"--storage.path", filepath.Join(dir, "store"), "--ebpf.enabled", "false"}, 1, "open store "},
		"a web config":   {[]string{"--web.config.file", file("web.yml", "basic_auth_user: {}\n")}, 1, "web.yml"},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, func(cmd *exec.Cmd) { cmd.Dir = dir }, tc.args...)
			<-p.exited
			require.Equal(t, tc.code, p.cmd.ProcessState.ExitCode(), p.log)
			require.Contains(t, p.log.String(), tc.want)
		})
	}
	t.Run("an address", func(t *testing.T) {
		p := launch(t, func(cmd *exec.Cmd) {
			cmd.Dir, cmd.Args = dir, append(cmd.Args[:2], "--web.listen-address", strings.TrimPrefix(first.url, "http://"))
		})
		<-p.exited
		require.Equal(t, 1, p.cmd.ProcessState.ExitCode(), p.log)
		require.Contains(t, p.log.String(), "address already in use")
	})
}

// Flags win over the file, which wins over the defaults.
func TestServeReadsItsConfiguration(t *testing.T) {
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	web := filepath.Join(dir, "web.yml")
	require.NoError(t, os.WriteFile(web, []byte("basic_auth_users:\n  reader: "+string(hash)+"\n"), 0o600))
	file := filepath.Join(dir, "flameline.yml")
	require.NoError(t, os.WriteFile(file, []byte("web:\n  listen_address: 192.0.2.1:1\n  config_file: "+web+
		"\nstorage:\n  path: "+filepath.Join(dir, "store")+"\nebpf:\n  enabled: false\nlog:\n  format: json\n"), 0o600))
	p := launch(t, nil, "--config.file", file)
	for {
		if status, _ := p.get("/ready"); status == http.StatusUnauthorized {
			break
		}
		select {
		case <-p.exited:
			t.Fatalf("the program ended:\n%s", p.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/status", nil)
	require.NoError(t, err)
	req.SetBasicAuth("reader", "secret")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)
	require.DirExists(t, filepath.Join(dir, "store"))
	require.Contains(t, p.log.String(), `"msg":"ready"`)
}

// SIGTERM in the middle of a window does not lose what was sampled in it.
func TestServeWritesTheLastWindow(t *testing.T) {
	t.Parallel() // it mostly waits
	dir := t.TempDir()
	p := launch(t, nil, "--storage.path", dir)
	p.waitReady(t)
	supported := sample.Supported()
	_, status := p.get("/api/v1/status")
	if supported != nil {
		require.Contains(t, status, `"state":"off"`, "%v", supported)
	} else {
		require.Contains(t, status, `"state":"on"`)
	}

	const window = 5 * time.Second
	time.Sleep(time.Until(time.Now().Truncate(window).Add(window)))
	began := time.Now().Truncate(window)
	for x := 0; time.Since(began) < 2*time.Second; x++ { // something to sample
	}
	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)

	p = launch(t, nil, "--storage.path", dir, "--ebpf.enabled", "false")
	p.waitReady(t)
	resp, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, p.url).GetProfileStats(t.Context(), connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
	require.NoError(t, err)
	require.Equal(t, supported == nil, resp.Msg.DataIngested)
	if supported == nil {
		require.Equal(t, began.UnixMilli()+1, resp.Msg.NewestProfileTime, "the newest profile is of the window that was cut short")
	}
}

// An agent's profiles end in its server's store, none in its own.
func TestServeAsAnAgent(t *testing.T) {
	dir := t.TempDir()
	central := launch(t, nil, "--storage.path", filepath.Join(dir, "central"), "--ebpf.enabled", "false")
	central.waitReady(t)
	// What there is to scrape: this process.
	target := httptest.NewServer(http.HandlerFunc(pprof.Profile))
	defer target.Close()
	file := filepath.Join(dir, "agent.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
storage: {path: `+filepath.Join(dir, "agent")+`}
ebpf: {enabled: false}
push: {url: "`+central.url+`"}
scrape_configs:
  - job_name: tests
    scrape_interval: 1s
    static_configs: [{targets: ["`+target.Listener.Addr().String()+`"]}]
`), 0o600))
	agent := launch(t, nil, "--config.file", file)
	agent.waitReady(t)
	_, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, agent.url).GetProfileStats(t.Context(), connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
	require.ErrorContains(t, err, central.url)

	// The agent lists what it scrapes; the server scrapes nothing.
	require.Eventually(t, func() bool {
		_, list := agent.get("/api/v1/targets")
		return strings.Contains(list, `"scrapeUrl":"`+target.URL+`/debug/pprof/profile"`)
	}, time.Minute, 10*time.Millisecond)
	_, page := agent.get("/targets")
	require.Contains(t, page, target.URL+"/debug/pprof/profile")
	_, page = central.get("/targets")
	require.Contains(t, page, "No targets")

	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, central.url)
	for x := 0; ; x++ { // busy, so that there is something in the profiles
		if x%(1<<26) != 0 {
			continue
		}
		values, err := q.LabelValues(t.Context(), connect.NewRequest(&typesv1.LabelValuesRequest{Name: "service_name"}))
		require.NoError(t, err)
		if len(values.Msg.Names) > 0 {
			require.Equal(t, []string{"tests"}, values.Msg.Names)
			break
		}
	}
	agent.end(syscall.SIGTERM)
	require.True(t, agent.cmd.ProcessState.Success(), agent.log)
	require.NoDirExists(t, filepath.Join(dir, "agent"))
}
