package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/collector/scrape"
)

func write(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "flameline.yml")
	require.NoError(t, os.WriteFile(f, []byte(text), 0o600))
	return f
}

func TestLoadKeepsDefaultsWhereTheFileIsSilent(t *testing.T) {
	c, err := Load(write(t, `
web:
  listen_address: 127.0.0.1:4141
storage:
  retention: 7d
  max_bytes: 10GB
  cache_bytes: 1000
ebpf:
  enabled: false
`))
	require.NoError(t, err)
	want := Default()
	want.Web.ListenAddress = "127.0.0.1:4141"
	want.Storage.Retention = Duration(7 * 24 * time.Hour)
	want.Storage.MaxBytes = 10 << 30
	want.Storage.CacheBytes = 1000
	want.EBPF.Enabled = False
	require.Equal(t, want, c)
}

func TestMaxAgeIsTheShortest(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "30d storage.retention",
		"storage: {retention: 0}":     "0s ",
		"storage: {retention_1h: 9d}": "9d storage.retention_1h",
		"storage: {retention: 0, retention_5m: 9d, retention_raw: 1w}":                            "1w storage.retention_raw",
		"storage: {retention_raw: 1w}\nlimits: {max_age: 1h}":                                     "1h limits.max_age",
		"storage: {retention: 90d, retention_1h: 60d, retention_5m: 60d}\nlimits: {max_age: 70d}": "60d storage.retention_5m",
	} {
		c, err := Load(write(t, text))
		require.NoError(t, err)
		age, key := c.MaxAge()
		require.Equal(t, want, age.String()+" "+key, text)
	}
}

func TestLoadAcceptsAnEmptyFile(t *testing.T) {
	c, err := Load(write(t, "# nothing yet\n"))
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}

func TestLoadNamesFileLineAndKey(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown section":   {"web:\n  listen_address: :1\nstore:\n  path: x\n", `flameline.yml:3: unknown key "store"`},
		"unknown key":       {"storage:\n  path: x\n  retension: 3d\n", `flameline.yml:3: unknown key "retension"`},
		"duplicate key":     {"storage:\n  path: x\n  path: y\n", `flameline.yml:3: storage.path: mapping key "path" already defined at line 2`},
		"not yaml":          {"storage:\n\tpath: x\n", "flameline.yml:2: found character that cannot start any token"},
		"wrong type":        {"ebpf:\n  frequency: fast\n", "flameline.yml:2: ebpf.frequency: cannot construct !!str `fast` into int"},
		"bad duration":      {"storage:\n  retention: tomorrow\n", `flameline.yml:2: storage.retention: not a valid duration string: "tomorrow"`},
		"bad size":          {"storage:\n  max_bytes: lots\n", `flameline.yml:2: storage.max_bytes: "lots" is not a size such as 512MB`},
		"bad mode":          {"ebpf:\n  enabled: maybe\n", `flameline.yml:2: ebpf.enabled: "maybe" is not true, false or auto`},
		"frequency":         {"ebpf:\n  frequency: 0\n", "flameline.yml: ebpf.frequency: 0 is not within 1 and 1000"},
		"rule":              {"labels:\n  cluster: x\n  relabel_configs:\n    - {target_label: a, replacement: b}\n    - {regex: '('}\n", "flameline.yml:5: labels.relabel_configs[1].regex: error parsing regexp"},
		"incomplete rule":   {"labels:\n  relabel_configs:\n    - {target_label: a, replacement: b}\n    - {action: replace}\n", "flameline.yml:4: labels.relabel_configs[1]: relabel configuration for replace action requires 'target_label' value"},
		"misspelt rule":     {"labels:\n  relabel_configs:\n    - {target: a}\n", `flameline.yml:3: unknown key "target"`},
		"unknown source":    {"labels:\n  kubernetes:\n    from: etcd\n", `flameline.yml: labels.kubernetes.from: "etcd" is neither kubelet nor api_server`},
		"misspelt source":   {"labels:\n  kubernets:\n    from: kubelet\n", `flameline.yml:2: unknown key "kubernets"`},
		"often":             {"labels:\n  docker:\n    refresh_interval: 10ms\n", "flameline.yml: labels.docker.refresh_interval: 10ms is not within 1s and 1h"},
		"no sockets":        {"labels:\n  docker:\n    enabled: true\n    sockets: []\n", "flameline.yml: labels.docker.sockets: is empty"},
		"credentials":       {"labels:\n  kubernetes:\n    basic_auth: {username: a}\n    bearer_token: x\n", "flameline.yml: labels.kubernetes: at most one of basic_auth"},
		"waits":             {"ebpf:\n  off_cpu:\n    stacks_per_second: 0\n", "flameline.yml: ebpf.off_cpu.stacks_per_second: 0 is not within 1 and 10000"},
		"misspelt wait":     {"ebpf:\n  off_cpu:\n    enable: true\n", `flameline.yml:3: unknown key "enable"`},
		"interval":          {"ebpf:\n  interval: 7s\n", "flameline.yml: ebpf.interval: 7s is not a divisor of one minute"},
		"JVM interval":      {"java:\n  interval: 1s\n", "flameline.yml: java.interval: 1s is not within 5s and 1h"},
		"JVM allocations":   {"java:\n  alloc_interval: 1KB\n", "flameline.yml: java.alloc_interval: 1024 is not within 64KiB and 1GiB"},
		"JVM locks":         {"java:\n  lock_threshold: 0\n", "flameline.yml: java.lock_threshold: 0s is not within 1ms and 1h"},
		"JVM memory":        {"java:\n  live_window: 30s\n", "flameline.yml: java.live_window: 30s is not within java.interval (1m) and 1d"},
		"JVM number":        {"java:\n  max_processes: 0\n", "flameline.yml: java.max_processes: 0 is not within 1 and 10000"},
		"JVM selector":      {"java:\n  selector: '{a='\n", "flameline.yml: java.selector: selector \"{a=\""},
		"negative":          {"limits:\n  max_labels: -1\n", "flameline.yml: limits.max_labels: is negative"},
		"raw for too long":  {"storage:\n  retention: 1w\n  retention_raw: 8d\n", "flameline.yml: storage.retention_raw: 8d is longer than storage.retention, which is 1w"},
		"5m for too long":   {"storage:\n  retention_1h: 1d\n  retention_5m: 2d\n  retention_raw: 3d\n", "storage.retention_5m: 2d is longer than storage.retention_1h, which is 1d"},
		"raw for no hour":   {"storage:\n  retention_raw: 5m\n", "storage.retention_raw: 5m is less than 1h"},
		"negative max age":  {"limits:\n  max_age: -1h\n", `flameline.yml:2: limits.max_age: not a valid duration string: "-1h"`},
		"no default nodes":  {"limits:\n  default_nodes: 0\n", "limits.default_nodes: 0 is not positive"},
		"empty address":     {"web:\n  listen_address: ''\n", "web.listen_address: is empty"},
		"scrape key":        {"scrape_configs:\n  - job_name: x\n    scrape_intervall: 5s\n", `flameline.yml:3: unknown key "scrape_intervall"`},
		"relabelling":       {"scrape_configs:\n  - job_name: x\n    relabel_configs:\n      - action: nonsense\n", `flameline.yml:4: scrape_configs[0].relabel_configs[0].action: unknown relabel action "nonsense"`},
		"a job twice":       {"scrape_configs:\n  - job_name: x\n  - job_name: x\n", `"x"`},
		"push":              {"push:\n  url: http://x\n  basic_auth: {username: a}\n  authorization: {credentials: b}\n", "push: at most one of basic_auth"},
		"push queue":        {"push:\n  max_queue_bytes: 0\n", "push.max_queue_bytes: 0 is not positive"},
		"push profiles":     {"push:\n  max_queue_profiles: -1\n", "push.max_queue_profiles: -1 is not positive"},
		"push key":          {"push:\n  uri: http://x\n", `flameline.yml:2: unknown key "uri"`},
		"a second document": {"web: {}\n---\nweb: {}\n", "a second YAML document"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, tc.text))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestLoadSaysWhichFileIsMissing(t *testing.T) {
	_, err := Load("/nonexistent/flameline.yml")
	require.ErrorContains(t, err, "/nonexistent/flameline.yml")
}

// The files that docs/configuration.md shows are read as they stand there, and
// the long one holds every default.
func TestDocumentedFilesAreRead(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	require.Len(t, blocks, 9)

	c, err := Load(write(t, blocks[0][1]))
	require.NoError(t, err)
	want := Default()
	want.Limits.MaxConcurrentQueries, want.ScrapeConfigs = 8, []scrape.Config{}
	require.Equal(t, want, c)
	var keys map[string]map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(strings.Replace(blocks[0][1], "scrape_configs: []", "", 1)), &keys))
	require.Len(t, keys["limits"], reflect.TypeFor[Limits]().NumField())
	require.Len(t, keys["web"], reflect.TypeFor[Web]().NumField())
	require.Len(t, keys["storage"], reflect.TypeFor[Storage]().NumField())
	require.Len(t, keys["labels"], reflect.TypeFor[Labels]().NumField())
	require.Len(t, keys["java"], reflect.TypeFor[Java]().NumField())

	c, err = Load(write(t, blocks[1][1]))
	require.NoError(t, err)
	age, _ := c.MaxAge()
	require.Equal(t, "1w", age.String())
	c, err = Load(write(t, blocks[2][1]))
	require.NoError(t, err)
	require.Equal(t, "eu-1", c.Labels.Cluster)
	require.Len(t, c.Labels.RelabelConfigs, 3)
	c, err = Load(write(t, blocks[3][1]))
	require.NoError(t, err)
	require.Len(t, c.ScrapeConfigs, 1)
	file := write(t, blocks[4][1])
	c, err = Load(file)
	require.NoError(t, err)
	require.Len(t, c.ScrapeConfigs, 3)
	require.Equal(t, []string{filepath.Join(filepath.Dir(file), "targets/*.yml")}, c.ScrapeConfigs[0].FileSDConfigs[0].Files)
	require.EqualValues(t, "pod", c.ScrapeConfigs[1].KubernetesSDConfigs[0].Role)
	require.Equal(t, "unix:///var/run/docker.sock", c.ScrapeConfigs[2].DockerSDConfigs[0].Host)
	c, err = Load(write(t, blocks[5][1]))
	require.NoError(t, err)
	require.Len(t, c.ScrapeConfigs, 2)
	require.Equal(t, "/pprof/heap", c.ScrapeConfigs[0].ProfilingConfig.PprofConfig.Memory.Path)
	require.Equal(t, "/debug/pprof/symbol", c.ScrapeConfigs[1].ProfilingConfig.SymbolConfig.Path)
	c, err = Load(write(t, blocks[6][1]))
	require.NoError(t, err)
	require.Equal(t, "node-1", c.Push.HTTPClientConfig.BasicAuth.Username)
}
