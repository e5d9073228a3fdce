package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/flameline/flameline/collector/server"
)

// command runs the program to its end.
func command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	path, err := binary()
	require.NoError(t, err, "build the program")
	b, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return max(0, exitCode(exit)), string(b)
}

func exitCode(e *exec.ExitError) int {
	if e == nil {
		return 0
	}
	return e.ExitCode()
}

// A pusher pushes profiles, each with a function of its own, and remembers which
// were acknowledged.
type pusher struct {
	client       pushv1connect.PusherServiceClient
	mu           sync.Mutex
	sent         int
	acknowledged map[string]bool
	refusals     []error
}

func newPusher(url string) *pusher {
	// A connection for each push: none is kept.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return &pusher{client: pushv1connect.NewPusherServiceClient(client, url), acknowledged: map[string]bool{}}
}

func (p *pusher) push(t *testing.T) error {
	p.mu.Lock()
	id := fmt.Sprintf("push_%06d", p.sent)
	p.sent++
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := p.client.Push(ctx, connect.NewRequest(oneSample(t, "cart", id, time.Now())))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.acknowledged[id] = true
	} else {
		p.refusals = append(p.refusals, err)
	}
	return err
}

// check asks a service for all that was acknowledged.
func (p *pusher) check(t *testing.T, url string, began time.Time) {
	t.Helper()
	stored := functions(t, url, began)
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.acknowledged {
		require.EqualValues(t, 1, stored[id], "what was acknowledged as %s is not there once", id)
	}
}

func TestBackupCommand(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	web := file("web.yml", "basic_auth_users:\n  operator: "+string(hash)+"\n")
	store, backup := filepath.Join(dir, "store"), filepath.Join(dir, "backup")
	open := launch(t, nil, "--storage.path", store, "--ebpf.enabled", "false")
	open.waitReady(t)
	p := newPusher(open.url)
	for range 20 {
		require.NoError(t, p.push(t))
	}
	var stop atomic.Bool
	var g sync.WaitGroup
	g.Go(func() {
		for !stop.Load() {
			_ = p.push(t)
		}
	})
	before := newPusher(open.url)
	p.mu.Lock()
	for id := range p.acknowledged {
		before.acknowledged[id] = true
	}
	p.mu.Unlock()
	code, out := command(t, "store", "backup", backup, "--url", open.url)
	require.Zero(t, code, out)
	require.Contains(t, out, "all of it can be read")
	code, out = command(t, "store", "backup", backup, "--url", open.url)
	require.Equal(t, 1, code)
	require.Contains(t, out, "is there already")
	code, out = command(t, "store", "verify", store)
	require.Equal(t, 1, code)
	require.Contains(t, out, "a process has the store open")
	stop.Store(true)
	g.Wait()

	// A page of another origin may not ask.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, open.url+server.BackupPath, nil)
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	open.end(syscall.SIGTERM)

	// The backup is a store.
	restored := launch(t, nil, "--storage.path", backup, "--ebpf.enabled", "false", "--web.config.file", web)
	require.Eventually(t, func() bool {
		status, _ := restored.get("/ready")
		return status == http.StatusUnauthorized
	}, time.Minute, 10*time.Millisecond, "it starts, and asks for a password")
	code, out = command(t, "store", "backup", filepath.Join(dir, "second"), "--url", restored.url)
	require.Equal(t, 1, code)
	require.Contains(t, out, "401")
	code, out = command(t, "store", "backup", filepath.Join(dir, "second"), "--url", restored.url,
		"--http.config.file", file("http.yml", "basic_auth: {username: operator, password: secret}\n"))
	require.Zero(t, code, out)
	restored.end(syscall.SIGTERM)
	code, out = command(t, "store", "backup", filepath.Join(dir, "third"), "--storage.path", backup)
	require.Zero(t, code, out)
	for _, name := range []string{"second", "third"} {
		r := launch(t, nil, "--storage.path", filepath.Join(dir, name), "--ebpf.enabled", "false")
		r.waitReady(t)
		before.check(t, r.url, began)
		r.end(syscall.SIGTERM)
	}
	code, out = command(t, "store", "backup", filepath.Join(dir, "fourth"), "--url", restored.url)
	require.Equal(t, 1, code)
	require.Contains(t, out, "--storage.path")
}

func TestServeWithDamage(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	store := filepath.Join(dir, "store")
	run := func() *process {
		p := launch(t, nil, "--storage.path", store, "--ebpf.enabled", "false")
		p.waitReady(t)
		return p
	}
	p := run()
	push := newPusher(p.url)
	for range 30 {
		require.NoError(t, push.push(t))
	}
	p.end(syscall.SIGKILL)
	p = run() // writes the log into a table
	push.client = newPusher(p.url).client
	require.NoError(t, push.push(t))
	p.end(syscall.SIGTERM)
	tables, err := filepath.Glob(filepath.Join(store, "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	b, err := os.ReadFile(tables[0])
	require.NoError(t, err)
	b[100] ^= 4
	require.NoError(t, os.WriteFile(tables[0], b, 0o600))

	code, out := command(t, "store", "verify", store)
	require.Equal(t, 1, code)
	require.Contains(t, out, filepath.Base(tables[0]))
	require.Contains(t, out, "profiles of "+began.UTC().Format(time.DateOnly))

	p = run()
	functions(t, p.url, began)
	_, body := p.get("/api/v1/status")
	var status server.Status
	require.NoError(t, json.Unmarshal([]byte(body), &status))
	require.True(t, status.Store.Writable)
	require.NotEmpty(t, status.Store.Damage)
	require.Equal(t, filepath.Base(tables[0]), status.Store.Damage[0].File)
	require.Equal(t, began.UTC().Format(time.DateOnly)+"T00:00:00Z", status.Store.Damage[0].Start)
	status0, ready := p.get("/ready")
	require.Equal(t, http.StatusOK, status0, ready)
	push.client = newPusher(p.url).client
	require.NoError(t, push.push(t))
	_, metrics := p.get("/metrics")
	require.Contains(t, metrics, "flameline_store_damaged_parts 1")
	p.end(syscall.SIGTERM)
	require.Contains(t, p.log.String(), "a file of the store is corrupt; what can be read is served")
	require.Contains(t, p.log.String(), filepath.Base(tables[0]))
	added, err := os.ReadDir(store)
	require.NoError(t, err)
	for _, f := range added {
		require.False(t, f.IsDir(), "nothing is set aside while serving")
	}

	manifests, err := filepath.Glob(filepath.Join(store, "MANIFEST-*"))
	require.NoError(t, err)
	for _, m := range manifests {
		require.NoError(t, os.Remove(m))
	}
	p = launch(t, nil, "--storage.path", store, "--ebpf.enabled", "false")
	<-p.exited
	require.Equal(t, 1, p.cmd.ProcessState.ExitCode())
	require.Contains(t, p.log.String(), "flameline store repair")
	code, out = command(t, "store", "repair", store, filepath.Join(dir, "new"))
	require.Zero(t, code, out)
	require.Contains(t, out, filepath.Base(tables[0]))
	require.Contains(t, out, "all of it can be read")
	p = launch(t, nil, "--storage.path", filepath.Join(dir, "new"), "--ebpf.enabled", "false")
	p.waitReady(t)
	stored := functions(t, p.url, began)
	require.Contains(t, stored, fmt.Sprintf("push_%06d", push.sent-1), "what came after the damage stays")
	code, out = command(t, "store", "repair", store, filepath.Join(dir, "new"))
	require.Equal(t, 1, code)
	require.Contains(t, out, "is not empty")
}

// A disk filled to the brim: pushes are refused, queries answered, and pushes
// taken again once there is space.
func TestServeOnAFullDisk(t *testing.T) {
	if testing.Short() && os.Geteuid() != 0 {
		t.Skip("left out by -short without root: it mounts a small file system")
	}
	require.Zero(t, os.Geteuid(), "this test mounts a small file system, which needs root")
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	began := time.Now()
	store := filepath.Join(dir, "store")
	p := launch(t, nil, "--storage.path", store, "--ebpf.enabled", "false")
	p.waitReady(t)
	push := newPusher(p.url)
	for range 50 {
		require.NoError(t, push.push(t))
	}
	var stop atomic.Bool
	var g sync.WaitGroup
	for range 3 {
		g.Go(func() {
			for !stop.Load() {
				_ = push.push(t)
			}
		})
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	for err == nil {
		_, err = filler.Write(make([]byte, 64<<10))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	refused := func() (n int) {
		push.mu.Lock()
		defer push.mu.Unlock()
		return len(push.refusals)
	}
	require.Eventually(t, func() bool { return refused() >= 20 }, time.Minute, time.Millisecond, "pushes are refused")
	push.mu.Lock()
	for _, err := range push.refusals {
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
	}
	require.ErrorContains(t, push.refusals[len(push.refusals)-1], "store unavailable: ")
	push.mu.Unlock()
	push.check(t, p.url, began)
	_, body := p.get("/api/v1/status")
	require.Contains(t, body, `"writable":false`)
	_, metrics := p.get("/metrics")
	require.Contains(t, metrics, "flameline_store_writable 0")

	require.NoError(t, filler.Close())
	require.NoError(t, os.Remove(filler.Name()))
	require.Eventually(t, func() bool { return push.push(t) == nil }, time.Minute, 10*time.Millisecond, "pushes are taken again")
	stop.Store(true)
	g.Wait()
	push.check(t, p.url, began)
	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)
	p = launch(t, nil, "--storage.path", store, "--ebpf.enabled", "false")
	p.waitReady(t)
	push.check(t, p.url, began)
}

// under runs the program under a limit of the shell.
func under(limit string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", limit + ` && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
}

// Without file descriptors pushes fail or wait, and nothing that was acknowledged
// is lost.
func TestServeWithoutFileDescriptors(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	p := launch(t, under("ulimit -n 48"), "--storage.path", dir, "--ebpf.enabled", "false")
	p.waitReady(t)
	push := newPusher(p.url)
	for range 20 {
		require.NoError(t, push.push(t))
	}
	var idle []net.Conn
	for range 60 {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			idle = append(idle, c)
		}
	}
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			if err := push.push(t); err != nil && connect.CodeOf(err) != connect.CodeUnavailable && connect.CodeOf(err) != connect.CodeDeadlineExceeded {
				t.Errorf("a push without descriptors ends with %v", err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // so that the pushes are under way, or have ended
	for _, c := range idle {
		require.NoError(t, c.Close())
	}
	g.Wait()
	require.NoError(t, push.push(t))
	push.check(t, p.url, began)
	p.end(syscall.SIGTERM)
	require.True(t, p.cmd.ProcessState.Success(), p.log)
	p = launch(t, nil, "--storage.path", dir, "--ebpf.enabled", "false")
	p.waitReady(t)
	push.check(t, p.url, began)
}

// A log that cannot be written any more ends the service, and the next start has
// all that was acknowledged. Here it may not be longer than a limit.
func TestServeEndsWhenTheLogCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	p := launch(t, under("ulimit -f 512"), "--storage.path", dir, "--ebpf.enabled", "false")
	p.waitReady(t)
	push := newPusher(p.url)
	for push.push(t) == nil {
		require.Less(t, push.sent, 100000)
	}
	<-p.exited
	require.Equal(t, 1, p.cmd.ProcessState.ExitCode())
	require.Contains(t, p.log.String(), "the store failed for good")
	require.NotEmpty(t, push.acknowledged)
	p = launch(t, nil, "--storage.path", dir, "--ebpf.enabled", "false")
	p.waitReady(t)
	push.check(t, p.url, began)
}
