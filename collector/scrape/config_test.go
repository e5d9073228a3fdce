package scrape

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// parse reads a scrape_configs as collector/config does.
func parse(text string) ([]Config, error) {
	var file struct {
		ScrapeConfigs []Config `yaml:"scrape_configs"`
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return nil, err
	}
	return file.ScrapeConfigs, Validate(file.ScrapeConfigs)
}

func TestConfigReadsPrometheusShapes(t *testing.T) {
	configs, err := parse(`
scrape_configs:
  - job_name: plain
    static_configs:
      - targets: ["localhost:6060"]
  - job_name: full
    scrape_interval: 1m
    scrape_timeout: 5s
    scheme: https
    params:
      debug: ["0", "1"]
    body_size_limit: 2MB
    basic_auth:
      username: me
      password: secret
    tls_config:
      ca_file: ca.pem
      insecure_skip_verify: true
    follow_redirects: false
    proxy_url: http://proxy:3128
    http_headers:
      X-Scope-OrgID:
        values: [one]
    profiling_config:
      path_prefix: /internal
      pprof_config:
        process_cpu:
          enabled: false
        goroutine:
          enabled: true
          path: /goroutines
        memory: {enabled: true}
      symbol_config: {path: /names}
    static_configs:
      - targets: ["a:1", "b:2"]
        labels: {env: prod}
    relabel_configs:
      - source_labels: [env]
        regex: pr(.*)
        target_label: environment
  - job_name: token
    authorization:
      credentials: abc
`)
	require.NoError(t, err)
	require.Len(t, configs, 3)
	plain, full := configs[0], configs[1]
	require.Equal(t, model.Duration(15*time.Second), plain.ScrapeInterval)
	require.Equal(t, model.Duration(10*time.Second), plain.ScrapeTimeout)
	require.Equal(t, "http", plain.Scheme)
	require.True(t, plain.HTTPClientConfig.FollowRedirects)
	require.Equal(t, []string{"process_cpu"}, plain.ProfilingConfig.enabled())
	require.Equal(t, "/debug/pprof/profile", plain.ProfilingConfig.pprof("process_cpu").Path)

	require.Equal(t, model.Duration(time.Minute), full.ScrapeInterval)
	require.Equal(t, "me", full.HTTPClientConfig.BasicAuth.Username)
	require.True(t, full.HTTPClientConfig.TLSConfig.InsecureSkipVerify)
	require.False(t, full.HTTPClientConfig.FollowRedirects)
	require.Equal(t, int64(2<<20), int64(full.BodySizeLimit))
	require.Equal(t, []string{"memory", "goroutine"}, full.ProfilingConfig.enabled())
	require.Equal(t, "/names", full.ProfilingConfig.SymbolConfig.Path)
	require.Equal(t, "/goroutines", full.ProfilingConfig.pprof("goroutine").Path)
	require.Len(t, full.RelabelConfigs, 1)
	full.SetDirectory("/etc/flameline")
	require.Equal(t, "/etc/flameline/ca.pem", full.HTTPClientConfig.TLSConfig.CAFile)
	require.Equal(t, "Bearer", configs[2].HTTPClientConfig.Authorization.Type)
}

func TestTargetsAreRelabelled(t *testing.T) {
	configs, err := parse(`
scrape_configs:
  - job_name: shop
    params: {debug: ["0"]}
    profiling_config: {path_prefix: /base}
    static_configs:
      - targets: [a.example:6060, b.example:6060, c.example:6060, d.example:6060]
        labels: {__meta_team: payments, env: prod, __secret: x}
      - targets: [a.example:6060]
        labels: {__meta_team: payments, env: prod}
    relabel_configs:
      - {source_labels: [__address__], regex: "b\\..*", action: drop}
      - {source_labels: [__address__], regex: "[a-c]\\..*", action: keep}
      - {regex: "__meta_(.+)", action: labelmap}
      - {source_labels: [__address__], regex: "c\\.(.*):.*", target_label: __address__, replacement: "real.$1:7070"}
      - {source_labels: [__address__], regex: "real.*", target_label: __scheme__, replacement: https}
      - {source_labels: [__address__], regex: "real.*", target_label: __param_debug, replacement: "9"}
      - {source_labels: [__address__], regex: "real.*", target_label: __param_extra, replacement: "y"}
      - {source_labels: [__address__], regex: "real.*", target_label: service_name, replacement: cart}
      - {source_labels: [__address__], regex: "real.*", target_label: instance, replacement: c}
      - {source_labels: [__address__], regex: "real.*", target_label: __scrape_interval__, replacement: 30s}
      - {source_labels: [__address__], regex: "real.*", target_label: __profile_path_prefix__, replacement: /other/}
`)
	require.NoError(t, err)
	m, err := New(Options{Appender: newAppender(), Decode: decode})
	require.NoError(t, err)
	j, err := m.newJob(configs[0])
	require.NoError(t, err)
	targets := j.targets
	require.Len(t, targets, 2, "dropped, not kept and duplicate targets are gone")
	require.Equal(t, 2, j.droppedCount)
	require.Contains(t, j.dropped[0].Discovered.String(), `__address__="b.example:6060", __meta_team="payments"`)
	require.NoError(t, j.dropped[0].Err)
	require.Equal(t, `{env="prod", instance="a.example:6060", job="shop", service_name="shop", team="payments"}`, targets[0].labels.String())
	require.Equal(t, "http://a.example:6060/base?debug=0", targets[0].url.String())
	require.Equal(t, 15*time.Second, targets[0].interval)
	require.Equal(t, `{env="prod", instance="c", job="shop", service_name="cart", team="payments"}`, targets[1].labels.String())
	require.Equal(t, "https://real.example:7070/other/?debug=9&extra=y", targets[1].url.String())
	require.Equal(t, 30*time.Second, targets[1].interval)

	for name, text := range map[string]string{
		"no address":   "relabel_configs: [{target_label: __address__, replacement: ''}]",
		"a path":       "relabel_configs: [{target_label: __address__, replacement: 'a:1/x'}]",
		"bad interval": "relabel_configs: [{target_label: __scrape_interval__, replacement: '100ms'}]",
		"bad timeout":  "relabel_configs: [{target_label: __scrape_timeout__, replacement: 'x'}]",
		"bad scheme":   "relabel_configs: [{target_label: __scheme__, replacement: 'x'}]",
	} {
		configs, err := parse("scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['x:1']}]\n  " + text + "\n")
		require.NoError(t, err, name)
		err = configs[0].checkStatic(LabelLimits{})
		require.ErrorContains(t, err, `static_configs[0]: target "x:1"`, name)
	}
}
