package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ask returns the status of a request to a process with a Host and an Origin.
func (p *process) ask(t *testing.T, method, path, host, origin, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Host = host
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// A service on a loopback address takes requests of this machine's programs, and not
// those that web pages make its browsers send.
func TestServeForThisMachine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "flameline.yml")
	require.NoError(t, os.WriteFile(file, []byte("web: {allowed_hosts: [host.docker.internal], allowed_origins: [\"https://proxy.example\"]}\nstorage: {path: "+
		filepath.Join(dir, "b")+"}\nebpf: {enabled: false}\n"), 0o600))
	plain := launch(t, nil, "--storage.path", filepath.Join(dir, "a"), "--ebpf.enabled", "false")
	named := launch(t, nil, "--config.file", file)
	plain.waitReady(t)
	named.waitReady(t)
	const ingest = "/ingest?name=shop"
	for _, host := range []string{"localhost", "127.0.0.1:4040", "shop.localhost:1"} {
		require.Equal(t, http.StatusOK, plain.ask(t, http.MethodPost, ingest, host, "", "main;work 1\n"), host)
	}
	for _, path := range []string{"/", "/metrics", "/ready", "/render", ingest} {
		require.Equal(t, http.StatusForbidden, plain.ask(t, http.MethodPost, path, "evil.example:4040", "http://evil.example:4040", ""), path)
		require.Equal(t, http.StatusForbidden, plain.ask(t, http.MethodGet, path, "evil.example:4040", "", ""), path)
	}
	require.Equal(t, http.StatusForbidden, plain.ask(t, http.MethodPost, ingest, "localhost", "https://evil.example", "main;work 1\n"))
	require.Equal(t, http.StatusForbidden, plain.ask(t, http.MethodPost, ingest, "host.docker.internal:4040", "", "main;work 1\n"))
	require.Equal(t, http.StatusOK, named.ask(t, http.MethodPost, ingest, "host.docker.internal:4040", "", "main;work 1\n"))
	require.Equal(t, http.StatusOK, named.ask(t, http.MethodPost, ingest, "127.0.0.1:4040", "https://proxy.example", "main;work 1\n"))
	require.Equal(t, http.StatusForbidden, named.ask(t, http.MethodPost, ingest, "127.0.0.1:4040", "https://other.example", "main;work 1\n"))

	for text, want := range map[string]string{
		`allowed_hosts: ["http://a.example"]`: `web.allowed_hosts: "http://a.example" is a URL; write "a.example"`,
		`allowed_origins: [a.example]`:        `web.allowed_origins: "a.example" is not an origin`,
	} {
		require.NoError(t, os.WriteFile(file, []byte("web: {"+text+"}\n"), 0o600))
		p := launch(t, func(cmd *exec.Cmd) { cmd.Dir = dir }, "--config.file", file)
		<-p.exited
		require.Equal(t, 1, p.cmd.ProcessState.ExitCode())
		require.Contains(t, p.log.String(), want)
	}
}
