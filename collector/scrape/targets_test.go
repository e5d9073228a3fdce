package scrape

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// A counter is an appender that counts profiles by instance.
type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) Append(_ context.Context, ps []profile.Profile) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ps {
		c.seen[p.Labels.Get("instance")]++
	}
	return nil
}

func (c *counter) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// Thousands of targets have offsets that are spread over the interval, and all of them
// are scraped. Their metrics are those of the job.
func TestThousandsOfTargets(t *testing.T) {
	t.Parallel() // it mostly waits
	const targets, interval = 2000, 10 * time.Second
	address := profiled(t)
	c := discovering(t, "static_configs: []")
	c.ScrapeInterval = model.Duration(interval)
	group := &targetgroup.Group{}
	for i := range targets {
		group.Targets = append(group.Targets, model.LabelSet{
			model.AddressLabel: model.LabelValue(address), "instance": model.LabelValue(fmt.Sprint(i)),
		})
	}
	c.StaticConfigs = []*targetgroup.Group{group}
	seen := &counter{seen: map[string]int{}}
	m, err := New(Options{Appender: seen, Decode: decode})
	require.NoError(t, err)
	require.NoError(t, m.ApplyConfig([]Config{c}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	require.Eventually(t, func() bool { return seen.distinct() == targets }, time.Minute, 50*time.Millisecond)

	perSecond := map[time.Duration]int{}
	for _, l := range loops(m) {
		require.Less(t, l.offset, interval)
		perSecond[l.offset/time.Second]++
	}
	for second := range interval / time.Second {
		require.InDelta(t, targets/10, perSecond[second], targets/25, "scrapes in second %d", second)
	}
	require.NoError(t, testutil.CollectAndCompare(newStateMetrics(m), strings.NewReader(fmt.Sprintf(`
# HELP flameline_scrape_targets Targets of a job, by the result of the last scrape of a profile: up, down, or unknown before the first.
# TYPE flameline_scrape_targets gauge
flameline_scrape_targets{health="up",job="found",profile="goroutine"} %d
`, targets)), "flameline_scrape_targets", "flameline_scrape_up", "flameline_scrape_duration_seconds"))
	cancel()
	require.NoError(t, <-done)
}

// A CPU profile starts early enough to stay in its interval, and offsets are the same
// after a restart.
func TestSpread(t *testing.T) {
	for i := range 1000 {
		key := fmt.Sprint(i)
		require.Less(t, spread(nameCPU, key, 15*time.Second), 13*time.Second)
		require.Zero(t, spread(nameCPU, key, time.Second))
		require.Less(t, spread(nameMemory, key, time.Second), time.Second)
	}
	require.Equal(t, spread(nameMemory, "a", time.Minute), spread(nameMemory, "a", time.Minute))
	require.NotEqual(t, spread(nameMemory, "a", time.Minute), spread(nameMutex, "a", time.Minute))
}

func TestProfilesHaveTheirOwnIntervals(t *testing.T) {
	configs, err := parse(`
scrape_configs:
  - job_name: found
    scrape_interval: 15s
    params: {token: [x]}
    profiling_config:
      pprof_config:
        memory: {enabled: true, scrape_interval: 1m, scrape_timeout: 30s, params: {gc: ["1"]}}
        mutex: {enabled: true}
    static_configs: [{targets: [a:1]}]
    relabel_configs:
      - {target_label: __profile_path_mutex__, replacement: ""}
      - {target_label: __profile_path_block__, replacement: /locks}
`)
	require.NoError(t, err)
	m, err := New(Options{Appender: newAppender(), Decode: decode})
	require.NoError(t, err)
	j, err := m.newJob(configs[0])
	require.NoError(t, err)
	got := map[string]string{}
	for _, l := range j.targets[0].loops {
		got[l.name] = fmt.Sprint(l.url.String(), " ", l.interval, " ", l.timeout)
	}
	require.Equal(t, map[string]string{
		"block":       "http://a:1/locks?token=x 15s 10s",
		"memory":      "http://a:1/debug/pprof/allocs?gc=1&token=x 1m0s 30s",
		"process_cpu": "http://a:1/debug/pprof/profile?token=x 15s 10s",
	}, got)
}

func TestServiceName(t *testing.T) {
	for name, c := range map[string]struct{ labels, want string }{
		"job":                     {`{}`, "shop"},
		"label":                   {`{service_name: a, __meta_kubernetes_pod_container_name: b}`, "a"},
		"relabelled job":          {`{job: a, __meta_kubernetes_pod_container_name: b}`, "a"},
		"annotation":              {`{__meta_kubernetes_pod_annotation_resource_opentelemetry_io_service_name: a, __meta_kubernetes_pod_label_app_kubernetes_io_name: b}`, "a"},
		"Pyroscope's annotation":  {`{__meta_kubernetes_pod_annotation_pyroscope_io_service_name: a, __meta_kubernetes_pod_container_name: b}`, "a"},
		"recommended label":       {`{__meta_kubernetes_pod_label_app_kubernetes_io_name: a, __meta_kubernetes_pod_container_name: b}`, "a"},
		"container":               {`{__meta_kubernetes_pod_container_name: a}`, "a"},
		"Compose's":               {`{__meta_docker_container_label_com_docker_compose_service: a, __meta_docker_container_name: /b}`, "a"},
		"Docker's container":      {`{__meta_docker_container_name: /a}`, "a"},
		"empty values are absent": {`{service_name: "", __meta_docker_container_name: /}`, "shop"},
	} {
		configs, err := parse("scrape_configs: [{job_name: shop, static_configs: [{targets: [x:1], labels: " + c.labels + "}]}]")
		require.NoError(t, err, name)
		m, err := New(Options{Appender: newAppender(), Decode: decode})
		require.NoError(t, err)
		j, err := m.newJob(configs[0])
		require.NoError(t, err, name)
		require.Equal(t, c.want, j.targets[0].labels.Get("service_name"), name)
	}
}

func group(n int, more ...string) *targetgroup.Group {
	g := &targetgroup.Group{Source: "test", Labels: model.LabelSet{}}
	for i := 0; i < len(more); i += 2 {
		g.Labels[model.LabelName(more[i])] = model.LabelValue(more[i+1])
	}
	for i := range n {
		g.Targets = append(g.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(fmt.Sprintf("t%02d:1", i))})
	}
	return g
}

// What service discovery sends is bounded: targets by target_limit, where those that are
// scraped stay, listed ones by keep_dropped_targets, and labels by the limits.
func TestLimitsOfTargets(t *testing.T) {
	c := discovering(t, "target_limit: 3\nkeep_dropped_targets: 2")
	m, err := New(Options{Appender: newAppender(), Decode: decode, LabelLimits: LabelLimits{MaxLabels: 5, MaxLabelNameBytes: 20, MaxLabelValueBytes: 30}})
	require.NoError(t, err)
	j, err := m.newJob(c)
	require.NoError(t, err)
	instances := func() (out []string) {
		for _, t := range j.targets {
			out = append(out, t.instance)
		}
		return out
	}
	last := group(10)
	last.Targets = last.Targets[7:]
	j.sync([]*targetgroup.Group{last})
	require.Equal(t, []string{"t07:1", "t08:1", "t09:1"}, instances())
	kept := j.targets[0]
	j.sync([]*targetgroup.Group{group(9)})
	require.Equal(t, []string{"t00:1", "t07:1", "t08:1"}, instances())
	require.Same(t, kept, j.targets[1])
	require.Len(t, j.dropped, 2)
	require.Equal(t, 6, j.droppedCount)
	require.ErrorContains(t, j.dropped[0].Err, "more than 3 targets (target_limit)")

	for name, labels := range map[string][]string{
		"limits.max_labels":            {"a", "1", "b", "2", "c", "3"},
		"limits.max_label_name_bytes":  {strings.Repeat("a", 21), "1"},
		"limits.max_label_value_bytes": {"a", strings.Repeat("1", 31)},
		"not UTF-8":                    {"a", "\xff"},
		"not a label name":             {"\xff", "a"},
		"__profile_path_goroutine__":   {"__profile_path_goroutine__", "x"},
	} {
		j.sync([]*targetgroup.Group{group(1, labels...)})
		require.Empty(t, j.targets, name)
		require.ErrorContains(t, j.dropped[0].Err, name)
	}
}

// stateOf is a manager with a target that is up, one that is down, one that was not
// scraped yet, and one that was dropped. Their labels are hostile.
func stateOf(t *testing.T) *Manager {
	t.Helper()
	c := discovering(t, "relabel_configs: [{source_labels: [__address__], regex: 't03.*', action: drop}]")
	m, err := New(Options{Appender: newAppender(), Decode: decode})
	require.NoError(t, err)
	j, err := m.newJob(c)
	require.NoError(t, err)
	j.sync([]*targetgroup.Group{group(4, "x", "</code><script>alert(1)</script>")})
	m.jobs["found"] = j
	j.targets[0].loops[0].setSamples(7)
	j.targets[0].loops[0].report(time.Unix(1_700_000_000, 0), 1500*time.Millisecond, nil)
	j.targets[1].loops[0].report(time.Unix(1_700_000_000, 0), time.Second, errors.New("connection <refused>"))
	return m
}

func get(t *testing.T, h http.Handler, url string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
	return w
}

func TestTargetsAPI(t *testing.T) {
	m := stateOf(t)
	type answer struct {
		Status string
		Data   struct {
			ActiveTargets       []map[string]any
			DroppedTargets      []map[string]any
			DroppedTargetCounts map[string]int
		}
	}
	read := func(query string) (a answer) {
		w := get(t, APIHandler(m), "/api/v1/targets"+query)
		require.Equal(t, http.StatusOK, w.Code)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
		return a
	}
	a := read("")
	require.Equal(t, "success", a.Status)
	require.Len(t, a.Data.ActiveTargets, 3)
	up := a.Data.ActiveTargets[0]
	require.Equal(t, map[string]any{"instance": "t00:1", "job": "found", "service_name": "found", "x": "</code><script>alert(1)</script>"}, up["labels"])
	require.Equal(t, "t00:1", up["discoveredLabels"].(map[string]any)["__address__"])
	for key, want := range map[string]any{
		"scrapePool": "found", "scrapeUrl": "http://t00:1/debug/pprof/goroutine", "lastError": "", "health": "up",
		"lastScrapeDuration": 1.5, "scrapeInterval": "1s", "scrapeTimeout": "10s", "profile": "goroutine", "lastSamples": 7.0,
	} {
		require.Equal(t, want, up[key], key)
	}
	require.Equal(t, "down", a.Data.ActiveTargets[1]["health"])
	require.Contains(t, a.Data.ActiveTargets[1]["lastError"], "connection <refused>")
	require.Equal(t, "unknown", a.Data.ActiveTargets[2]["health"])
	require.Equal(t, "0001-01-01T00:00:00Z", a.Data.ActiveTargets[2]["lastScrape"], "as Prometheus writes it")
	require.Len(t, a.Data.DroppedTargets, 1)
	require.Equal(t, map[string]int{"found": 1}, a.Data.DroppedTargetCounts)

	a = read("?state=active&scrapePool=found")
	require.Len(t, a.Data.ActiveTargets, 3)
	require.Empty(t, a.Data.DroppedTargets)
	a = read("?state=dropped")
	require.Empty(t, a.Data.ActiveTargets)
	require.Len(t, a.Data.DroppedTargets, 1)
	require.Empty(t, read("?scrapePool=other").Data.ActiveTargets)
	require.Equal(t, http.StatusBadRequest, get(t, APIHandler(m), "/api/v1/targets?state=x").Code)
	require.JSONEq(t, `{"status":"success","data":{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}}`,
		get(t, APIHandler(&Manager{}), "/api/v1/targets").Body.String())
}

func TestTargetsPage(t *testing.T) {
	w := get(t, PageHandler(stateOf(t)), "/targets")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	page := w.Body.String()
	for _, want := range []string{
		`1 up</span>`, `1 down</span>`, `1 not scraped yet</span>`, `1 dropped`, `http://t00:1/debug/pprof/goroutine`,
		`connection &lt;refused&gt;`, `instance=&#34;t00:1&#34;`, `__address__=&#34;t03:1&#34;`, `1.5s`,
	} {
		require.Contains(t, page, want)
	}
	require.NotContains(t, page, "<script>")
	require.Less(t, strings.Index(page, "t01:1"), strings.Index(page, "t00:1"), "what is down comes first")
	require.Contains(t, get(t, PageHandler(&Manager{}), "/targets").Body.String(), "No targets")
}

// Large answers wait for one another, small ones do not wait for them, and answers that
// have not begun take no room.
func TestAnswerMemory(t *testing.T) {
	m := &answerMemory{small: make(chan struct{}, 2), large: make(chan struct{}, 1)}
	large := bytes.Repeat([]byte{1}, smallAnswer+1)
	body, release, err := m.read(t.Context(), bytes.NewReader(large))
	require.NoError(t, err)
	require.Equal(t, large, body)

	small, releaseSmall, err := m.read(t.Context(), strings.NewReader("x"))
	require.NoError(t, err)
	require.Equal(t, "x", string(small))
	releaseSmall()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, releaseOther, err := m.read(ctx, bytes.NewReader(large))
	require.ErrorIs(t, err, context.Canceled, "one large answer is being read")
	releaseOther()
	release()
	require.Empty(t, m.small)
	require.Empty(t, m.large)

	late, write := io.Pipe()
	go func() { write.CloseWithError(errors.New("broken")) }()
	_, release, err = m.read(t.Context(), late)
	require.ErrorContains(t, err, "broken")
	release()
	require.Empty(t, m.small)
}

// Any labels that service discovery sends make a target, drop it, or are an error; those
// of a target are valid.
func FuzzTarget(f *testing.F) {
	f.Add("__address__", "a:1", "x", "y")
	f.Add("__scheme__", "https", "__param_\xff", "\x00")
	f.Add("__scrape_interval__", "1e9y", "__profile_path_prefix__", "../%zz?#")
	configs, err := parse(`
scrape_configs:
  - job_name: a
    relabel_configs:
      - {regex: "__meta_(.+)", action: labelmap}
      - {source_labels: [x], regex: "(.+)", target_label: "${1}", replacement: v}
`)
	require.NoError(f, err)
	c, limits := configs[0], LabelLimits{10, 50, 50}
	b := labels.NewBuilder(labels.EmptyLabels())
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		c.discoveredLabels(b, model.LabelSet{model.LabelName(n1): model.LabelValue(v1)}, model.LabelSet{"__address__": "b:2", model.LabelName(n2): model.LabelValue(v2)})
		target, err := c.target(b, limits)
		if target == nil || err != nil {
			return
		}
		require.NoError(t, limits.check(target.labels))
		require.NotEmpty(t, target.labels.Get("service_name"))
		target.newLoops(&Manager{}, &c, nil)
		for _, l := range target.loops {
			_, err := http.NewRequest(http.MethodGet, l.url.String(), nil)
			if err != nil {
				t.Skip() // a scrape fails with it
			}
		}
	})
}
