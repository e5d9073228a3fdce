package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/config"
)

// TestStartLabels reads the configuration of both sources from a file, and finishes the
// labels of a process in a container with what a kubelet tells.
func TestStartLabels(t *testing.T) {
	answer, err := os.ReadFile("containers/testdata/pods.json")
	require.NoError(t, err)
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pods" || r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		w.Write(answer)
	}))
	defer kubelet.Close()
	load := func(text string) *config.Config {
		file := filepath.Join(t.TempDir(), "flameline.yml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		c, err := config.Load(file)
		require.NoError(t, err)
		return c
	}
	c := load(`
labels:
  cluster: eu-1
  kubernetes:
    enabled: true
    from: kubelet
    url: ` + kubelet.URL + `
    authorization: {credentials: secret}
    tls_config: {insecure_skip_verify: true}
  docker: {sockets: [` + filepath.Join(t.TempDir(), "none.sock") + `]}
  relabel_configs:
    - {source_labels: [__meta_kubernetes_pod_label_team], target_label: team}
`)
	targets, stop, err := startLabels(t.Context(), c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	defer stop()
	got := targets.Finish(t.Context(), labels.FromStrings("__container_ids", strings.Repeat("b", 64), "cluster", "eu-1", "comm", "envoy")).Map()
	require.Equal(t, map[string]string{
		"namespace": "shop", "pod": "cart-7d9c6b8f5d-x2x9p", "container": "istio-proxy", "node": "kind-worker", "cluster": "eu-1", "comm": "envoy",
		"workload": "cart", "workload_type": "deployment", "service_name": "cart", "team": "checkout",
	}, got)

	_, _, err = startLabels(t.Context(), load("labels: {kubernetes: {enabled: true, url: 'kubelet:10250'}}"), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, `labels.kubernetes: "kubelet:10250" is not the address of a server`)
}
