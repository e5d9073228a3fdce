package containers

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func id(digit string) string { return strings.Repeat(digit, 64) }

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

// A server answers with what is set, and counts requests.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	status   int
	body     []byte
	then     []byte // after the next answer
	requests atomic.Int64
	last     *http.Request
}

func (s *server) set(status int, body, then []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.then = status, body, then
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = r
	w.WriteHeader(s.status)
	w.Write(s.body)
	if s.then != nil {
		s.body, s.then = s.then, nil
	}
}

// newServer serves an answer over TLS.
func newServer(t *testing.T, body []byte) *server {
	s := &server{status: http.StatusOK, body: body}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

// runSet polls sources, one after another without pauses, until the test ends.
func runSet(t *testing.T, sources ...*Source) Set {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	set := Set(sources)
	ended := make(chan struct{})
	for _, s := range sources {
		s.step = time.Millisecond
	}
	go func() {
		set.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return set
}

func lookup(t *testing.T, set Set, pod string, ids ...string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ls := set.Lookup(ctx, ids, pod)
	require.NoError(t, ctx.Err())
	return ls.Map()
}

// kubelet returns a source that asks a server as a kubelet, with a service account's
// token and certificate.
func kubelet(t *testing.T, s *server, o Options) *Source {
	t.Helper()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	c := promconfig.DefaultHTTPClientConfig
	c.Authorization = &promconfig.Authorization{Type: "Bearer", CredentialsFile: token}
	c.TLSConfig.InsecureSkipVerify = true
	client, err := promconfig.NewClientFromConfig(c, "kubernetes")
	require.NoError(t, err)
	source, err := NewKubernetes(client, s.URL, true, "", o)
	require.NoError(t, err)
	return source
}

// What Kubernetes knows about each container, of any state and runtime.
func TestPods(t *testing.T) {
	s := newServer(t, recorded(t, "pods.json"))
	set := runSet(t, kubelet(t, s, Options{Interval: time.Hour}))
	const meta = "__meta_kubernetes_"
	for _, c := range []struct {
		name, pod, id                                          string
		namespace, podName, container, kind, workload, service string
	}{
		{"running", "", id("a"), "shop", "cart-7d9c6b8f5d-x2x9p", "cart", "Deployment", "cart", ""},
		{"before its restart", "", id("0"), "shop", "cart-7d9c6b8f5d-x2x9p", "cart", "Deployment", "cart", ""},
		{"sidecar", "", id("b"), "shop", "cart-7d9c6b8f5d-x2x9p", "istio-proxy", "Deployment", "cart", ""},
		{"init container that has ended", "", id("c"), "shop", "cart-7d9c6b8f5d-x2x9p", "migrate", "Deployment", "cart", ""},
		{"CRI-O", "", id("d"), "shop", "db-0", "postgres", "StatefulSet", "db", "orders-db"},
		{"job of a schedule", "", id("e"), "ops", "backup-29540160-k7k2s", "dump", "CronJob", "backup", ""},
		{"job", "", id("f"), "ops", "import-once-9sj2x", "import", "Job", "import-once", ""},
		{"Docker", "", id("1"), "monitoring", "node-exporter-4kq7c", "node-exporter", "DaemonSet", "node-exporter", ""},
		{"static pod", "", id("2"), "kube-system", "kube-proxy-kind-worker", "kube-proxy", "StaticPod", "kube-proxy", ""},
		{"bare pod", "", id("3"), "default", "debug", "shell", "BarePod", "debug", ""},
		{"ephemeral container", "", id("4"), "default", "debug", "debugger-x7", "BarePod", "debug", ""},
		{"pod", "2234abcd-0000-4111-8222-333344445555", "", "shop", "db-0", "", "StatefulSet", "db", "orders-db"},
		{"static pod by the kubelet's UID", "0123456789abcdef0123456789abcdef", "", "kube-system", "kube-proxy-kind-worker", "", "StaticPod", "kube-proxy", ""},
	} {
		var ids []string
		if c.id != "" {
			ids = []string{c.id}
		}
		got := lookup(t, set, c.pod, ids...)
		require.Equal(t, []string{c.namespace, c.podName, "kind-worker", c.container, c.kind, c.workload, c.service}, []string{
			got[meta+"namespace"], got[meta+"pod_name"], got[meta+"pod_node_name"], got[meta+"pod_container_name"],
			got[meta+"workload_kind"], got[meta+"workload_name"], got[meta+"pod_annotation_resource_opentelemetry_io_service_name"],
		}, c.name)
	}
	got := lookup(t, set, "", id("a"))
	for name, want := range map[string]string{
		"pod_uid": "1234abcd-0000-4111-8222-333344445555", "pod_ip": "10.244.0.7", "pod_host_ip": "172.18.0.2",
		"pod_label_app_kubernetes_io_version": "1.4.2", "pod_labelpresent_team": "true", "pod_annotation_prometheus_io_scrape": "true",
		"pod_annotation_kubectl_kubernetes_io_last_applied_configuration": "", // too long
		"pod_controller_kind": "ReplicaSet", "pod_controller_name": "cart-7d9c6b8f5d", "pod_deployment_name": "cart",
		"pod_container_id": "containerd://" + id("a"), "pod_container_image": "registry.example.com/cart:1.4.2", "pod_container_init": "false",
	} {
		require.Equal(t, want, got[meta+name], name)
	}
	require.Equal(t, "/pods", s.last.URL.String())
	require.Equal(t, "Bearer secret", s.last.Header.Get("Authorization"))
	require.LessOrEqual(t, s.requests.Load(), int64(2))
}

func TestAPIServer(t *testing.T) {
	s := newServer(t, recorded(t, "pods.json"))
	source, err := NewKubernetes(s.Client(), s.URL+"/", false, "kind-worker", Options{Interval: time.Hour})
	require.NoError(t, err)
	set := runSet(t, source)
	require.Equal(t, "cart", lookup(t, set, "", id("a"))["__meta_kubernetes_pod_container_name"])
	require.Equal(t, "/api/v1/pods?fieldSelector=spec.nodeName%3Dkind-worker&resourceVersion=0", s.last.URL.String())
	for _, bad := range []string{"", "kubernetes:443", "ftp://x", "https://"} {
		_, err := NewKubernetes(s.Client(), bad, true, "", Options{})
		require.ErrorContains(t, err, "is not the address of a server", bad)
	}
	_, err = NewKubernetes(s.Client(), s.URL, false, "", Options{})
	require.ErrorContains(t, err, "the name of the node is missing")
}

// An unknown container makes the source poll, again until its status is there; one that
// stays unknown does not delay anybody a second time.
func TestUnknownContainer(t *testing.T) {
	none := []byte(`{"items": []}`)
	s := newServer(t, none)
	set := runSet(t, kubelet(t, s, Options{Interval: time.Hour}))
	s.set(http.StatusOK, none, recorded(t, "pods.json"))
	require.Equal(t, "cart", lookup(t, set, "1234abcd-0000-4111-8222-333344445555", id("a"))["__meta_kubernetes_pod_container_name"])

	require.Equal(t, "cart", lookup(t, set, "1234abcd-0000-4111-8222-333344445555", id("9"))["__meta_kubernetes_workload_name"], "the pod is known")
	before := s.requests.Load()
	for range 100 {
		lookup(t, set, "", id("9"))
	}
	require.LessOrEqual(t, s.requests.Load(), before+1)

	// Several that ask at once share the answer.
	s.set(http.StatusOK, recorded(t, "pods.json"), []byte(strings.ReplaceAll(string(recorded(t, "pods.json")), id("a"), id("8"))))
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if got := set.Lookup(t.Context(), []string{id("8")}, "").Get("__meta_kubernetes_pod_container_name"); got != "cart" {
				t.Errorf("container is %q", got)
			}
		})
	}
	asking.Wait()
}

// What is known stays while the source is down, and while it lists nothing after its
// restart; a container that is started meanwhile is known once the source is back.
func TestRestartOfSource(t *testing.T) {
	all := recorded(t, "pods.json")
	s := newServer(t, all)
	reg := prometheus.NewRegistry()
	source := kubelet(t, s, Options{Interval: time.Millisecond, Metrics: NewMetrics(reg)})
	set := runSet(t, source)
	require.NotEmpty(t, lookup(t, set, "", id("a")))
	failed := source.o.Metrics.polls.WithLabelValues("kubernetes", "failed")
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"unavailable": {http.StatusServiceUnavailable, "starting"}, "forbidden": {http.StatusForbidden, "no"},
		"malformed": {http.StatusOK, `{"items": [{"metadata": 1}]}`}, "cut": {http.StatusOK, string(all[:len(all)/2])},
	} {
		before := testutil.ToFloat64(failed)
		s.set(answer.status, []byte(answer.body), nil)
		require.Eventually(t, func() bool { return testutil.ToFloat64(failed) > before }, time.Minute, time.Millisecond, name)
		require.Equal(t, "cart", lookup(t, set, "", id("a"))["__meta_kubernetes_pod_container_name"], name)
	}
	require.Zero(t, testutil.ToFloat64(source.o.Metrics.up.WithLabelValues("kubernetes")))
	got := make(chan labels.Labels)
	go func() { got <- set.Lookup(t.Context(), []string{id("8")}, "") }()
	s.set(http.StatusOK, []byte(`{"items": []}`), []byte(strings.ReplaceAll(string(all), id("a"), id("8"))))
	require.Equal(t, "cart", (<-got).Get("__meta_kubernetes_pod_container_name"))
	require.Equal(t, "cart", lookup(t, set, "", id("a"))["__meta_kubernetes_pod_container_name"], "ended while the kubelet was down")
	require.EqualValues(t, 1, testutil.ToFloat64(source.o.Metrics.up.WithLabelValues("kubernetes")))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestAnswerIsBounded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"items": [`)
		for {
			if _, err := io.WriteString(w, `{"metadata": {"name": "x"}},`); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	err := getJSON(t.Context(), s.Client(), s.URL, 1<<20, &podList{})
	require.ErrorContains(t, err, "the answer has more than 1048576 bytes")
}

// Docker's and Podman's API over a Unix socket, which comes and goes.
func TestDocker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	source := NewDocker(socket, false, Options{Interval: time.Millisecond})
	found, err := source.list(t.Context())
	require.NoError(t, err, "there is no socket")
	require.Empty(t, found)
	_, err = NewDocker(socket, true, Options{}).list(t.Context())
	require.ErrorContains(t, err, socket)

	serve := func() *http.Server {
		l, err := net.Listen("unix", socket)
		require.NoError(t, err)
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.String() != "/containers/json?all=1" {
				http.Error(w, `{"message": "page not found"}`, http.StatusNotFound)
				return
			}
			w.Write(recorded(t, "containers.json"))
		})}
		go s.Serve(l)
		return s
	}
	s := serve()
	set := runSet(t, source)
	const meta = "__meta_docker_container_"
	for digit, want := range map[string]string{"6": "/shop-web-1", "7": "/cache", "8": "/shop_queue.1.kq2x7d"} {
		require.Equal(t, want, lookup(t, set, "", id(digit))[meta+"name"])
	}
	web := lookup(t, set, "", id("6"))
	require.Equal(t, "web", web[meta+"label_com_docker_compose_service"])
	require.Equal(t, "shop-web", web[meta+"image"])
	require.Equal(t, "shop_default", web[meta+"network_mode"])
	require.Equal(t, "/shop-web-1", lookup(t, set, "", id("5"), id("6"))[meta+"name"], "a container within a container")
	s.Close()
	os.Remove(socket)
	require.Equal(t, "/cache", lookup(t, set, "", id("7"))[meta+"name"], "Docker is down")
	s = serve()
	defer s.Close()
	require.Equal(t, "/cache", lookup(t, set, "", id("7"))[meta+"name"])
}

func FuzzPods(f *testing.F) {
	var list struct{ Items []json.RawMessage }
	require.NoError(f, json.Unmarshal(recorded(f, "pods.json"), &list))
	for _, item := range list.Items {
		f.Add([]byte(item))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p pod
		if json.Unmarshal(data, &p) != nil {
			return
		}
		for _, found := range p.appendFound(nil) {
			found.labels.Range(func(l labels.Label) {
				if !model.UTF8Validation.IsValidLabelName(l.Name) || !strings.HasPrefix(l.Name, "__meta_") {
					t.Fatalf("label %q", l.Name)
				}
			})
		}
	})
}
