package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Every mistake is refused with its line and its key.
func TestLoadNamesLineAndKeyOfTargets(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"unknown key":         {"scrape_configs:\n- job_name: a\n  scrape_intervall: 1s\n", []string{"flameline.yml:3: ", "scrape_intervall"}},
		"unknown nested key":  {"scrape_configs:\n- job_name: a\n  tls_config:\n    ca_path: x\n", []string{"flameline.yml:4: ", "ca_path"}},
		"unknown profile":     {"scrape_configs:\n- job_name: a\n  profiling_config:\n    pprof_config:\n      cpu: {}\n", []string{"flameline.yml:5: ", "cpu"}},
		"unknown symbol key":  {"scrape_configs:\n- job_name: a\n  profiling_config:\n    symbol_config:\n      url: x\n", []string{"flameline.yml:5: ", "url"}},
		"unknown target key":  {"scrape_configs:\n- job_name: a\n  static_configs:\n  - target: [x]\n", []string{"flameline.yml:4: ", "target"}},
		"unknown SD key":      {"scrape_configs:\n- job_name: a\n  file_sd_configs:\n  - files: [a.yml]\n    refresh: 1s\n", []string{"flameline.yml:5: ", `unknown key "refresh"`}},
		"SD without a URL":    {"scrape_configs:\n- job_name: a\n  http_sd_configs:\n  - refresh_interval: 1s\n", []string{"flameline.yml:4: scrape_configs[0].http_sd_configs[0]: ", "URL is missing"}},
		"SD without a role":   {"scrape_configs:\n- job_name: a\n  kubernetes_sd_configs:\n  - namespaces: {names: [x]}\n", []string{"flameline.yml:4: ", "role missing"}},
		"SD with a bad host":  {"scrape_configs:\n- job_name: a\n  docker_sd_configs:\n  - port: 1\n", []string{"flameline.yml:4: ", "host missing"}},
		"SD without a port":   {"scrape_configs:\n- job_name: a\n  dns_sd_configs:\n  - names: [x]\n    type: A\n", []string{"flameline.yml:4: ", "a port is required"}},
		"empty SD":            {"scrape_configs:\n- job_name: a\n  dns_sd_configs:\n  -\n", []string{"flameline.yml:3: ", "dns_sd_configs", "empty"}},
		"unknown SD":          {"scrape_configs:\n- job_name: a\n  consul_sd_configs: []\n", []string{"flameline.yml:3: ", "consul_sd_configs"}},
		"interval of a type":  {"scrape_configs:\n- job_name: a\n  profiling_config: {pprof_config: {mutex: {scrape_interval: 100ms}}}\n", []string{"flameline.yml:3: ", "mutex.scrape_interval", "whole number"}},
		"no job name":         {"scrape_configs:\n- scheme: http\n", []string{"flameline.yml:2: ", "job_name", "missing"}},
		"duration":            {"scrape_configs:\n- job_name: a\n  scheme: http\n  scrape_interval: soon\n", []string{"flameline.yml:4: ", "scrape_configs[0].scrape_interval: ", "soon"}},
		"fraction":            {"scrape_configs:\n- job_name: a\n  scrape_interval: 1500ms\n", []string{"flameline.yml:3: ", "scrape_interval", "whole number of seconds"}},
		"zero interval":       {"scrape_configs:\n- job_name: a\n  scrape_interval: 0s\n", []string{"flameline.yml:3: ", "scrape_interval"}},
		"zero timeout":        {"scrape_configs:\n- job_name: a\n  scrape_timeout: 0s\n", []string{"flameline.yml:3: ", "scrape_timeout"}},
		"scheme":              {"scrape_configs:\n- job_name: a\n  scheme: ftp\n", []string{"flameline.yml:3: ", "scheme", "ftp"}},
		"regex":               {"scrape_configs:\n- job_name: a\n  relabel_configs:\n  - regex: \"(\"\n", []string{"flameline.yml:4: scrape_configs[0].relabel_configs[0].regex: ", "missing closing )"}},
		"relabel action":      {"scrape_configs:\n- job_name: a\n  relabel_configs:\n  - action: burn\n", []string{"flameline.yml:4: ", "relabel_configs", "burn"}},
		"relabel target":      {"scrape_configs:\n- job_name: a\n  relabel_configs:\n  - action: replace\n", []string{"flameline.yml:4: scrape_configs[0].relabel_configs[0]: ", "target_label"}},
		"empty relabel":       {"scrape_configs:\n- job_name: a\n  relabel_configs:\n  -\n", []string{"flameline.yml:4: ", "relabel_configs[0]"}},
		"two kinds of auth":   {"scrape_configs:\n- job_name: a\n  basic_auth: {username: x}\n  authorization: {credentials: y}\n", []string{"flameline.yml:2: ", "at most one of"}},
		"two jobs":            {"scrape_configs:\n- job_name: a\n- job_name: a\n", []string{"scrape_configs[1].job_name", "twice"}},
		"nothing to pull":     {"scrape_configs:\n- job_name: a\n  profiling_config: {pprof_config: {process_cpu: {enabled: false}}}\n", []string{"flameline.yml:3: ", "profiling_config", "no profile"}},
		"path":                {"scrape_configs:\n- job_name: a\n  profiling_config: {pprof_config: {mutex: {path: x}}}\n", []string{"flameline.yml:3: scrape_configs[0].profiling_config.pprof_config.mutex.path: "}},
		"type":                {"scrape_configs:\n- job_name: [a]\n", []string{"flameline.yml:2: scrape_configs[0].job_name: cannot construct"}},
		"negative size limit": {"scrape_configs:\n- job_name: a\n  body_size_limit: x\n", []string{"flameline.yml:3: ", "body_size_limit"}},
	} {
		_, err := Load(write(t, c.text))
		require.Error(t, err, name)
		for _, want := range c.want {
			require.ErrorContains(t, err, want, name)
		}
	}
}
