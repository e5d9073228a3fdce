package scrape

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// profiled starts a server with a profile of goroutines, and returns its address.
func profiled(t *testing.T) string {
	t.Helper()
	body := pprofOf(t, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// discovering reads a job of goroutine profiles with these keys of service discovery.
func discovering(t *testing.T, keys string) Config {
	t.Helper()
	configs, err := parse(`
scrape_configs:
  - job_name: found
    scrape_interval: 1s
    profiling_config:
      pprof_config:
        process_cpu: {enabled: false}
        goroutine: {enabled: true}
    ` + strings.ReplaceAll(strings.TrimSpace(keys), "\n", "\n    ") + "\n")
	require.NoError(t, err)
	return configs[0]
}

// wantTargets waits until the instances of the job found are these.
func wantTargets(t *testing.T, m *Manager, instances ...string) {
	t.Helper()
	var got []string
	require.Eventually(t, func() bool {
		got = nil
		for _, j := range m.State().Jobs { // none before the manager runs
			for _, a := range j.Active {
				got = append(got, a.Labels.Get("instance"))
			}
		}
		slices.Sort(got)
		return slices.Equal(got, instances)
	}, time.Minute, 20*time.Millisecond, "want %q, got %q", instances, &got)
}

// loops returns the loops of the job found, by instance.
func loops(m *Manager) map[string]*loop {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]*loop{}
	for _, t := range m.jobs["found"].targets {
		out[t.instance] = t.loops[0]
	}
	return out
}

// write replaces a file at once.
func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o644))
	require.NoError(t, os.Rename(file+".new", file))
}

// Targets of a file come and go as the file changes, and those that stay are not
// disturbed, whatever labels without effect change.
func TestFileDiscovery(t *testing.T) {
	t.Parallel() // it mostly waits
	address := profiled(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "targets.yml")
	group := func(instance string, more string) string {
		return fmt.Sprintf("- targets: [%q]\n  labels: {instance: %s, env: prod%s}\n", address, instance, more)
	}
	write(t, file, group("a", "")+group("b", "")+group("no", ""))
	c := discovering(t, `
file_sd_configs:
  - files: [targets.yml]
relabel_configs:
  - {source_labels: [instance], regex: "no", action: drop}
  - {source_labels: [__meta_filepath], regex: ".*/(.*)", target_label: file}
`)
	c.SetDirectory(dir)
	a := newAppender()
	m := run(t, a, c)
	p := a.next(t, "goroutine")
	require.Equal(t, "targets.yml", p.Labels.Get("file"))
	require.Equal(t, "found", p.Labels.Get("service_name"))
	require.Equal(t, "prod", p.Labels.Get("env"))
	wantTargets(t, m, "a", "b")
	dropped := m.State().Jobs[0].Dropped
	require.Len(t, dropped, 1)
	require.Equal(t, "no", dropped[0].Discovered.Get("instance"))
	require.NoError(t, dropped[0].Err)

	before := loops(m)
	write(t, file, group("b", ", __meta_version: two")+group("c", "")+"- targets: [a/b, '']\n")
	wantTargets(t, m, "b", "c")
	require.Same(t, before["b"], loops(m)["b"])
	active := m.State().Jobs[0].Active
	require.Equal(t, "two", active[slices.IndexFunc(active, func(t ActiveTarget) bool { return t.Labels.Get("instance") == "b" })].Discovered.Get("__meta_version"))
	dropped = m.State().Jobs[0].Dropped
	require.Len(t, dropped, 2)
	require.ErrorContains(t, dropped[0].Err, `"a/b" is not an address`)
	require.ErrorContains(t, dropped[1].Err, "no address")
}

// An HTTP server's list is read with the credentials, and stays while the server fails.
func TestHTTPDiscovery(t *testing.T) {
	t.Parallel() // it mostly waits
	address := profiled(t)
	var instances atomic.Pointer[[]string]
	var failures atomic.Int64
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		now := *instances.Load()
		if user+password != "mesecret" || now == nil {
			failures.Add(1)
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		var groups []map[string]any
		for _, i := range now {
			groups = append(groups, map[string]any{"targets": []string{address}, "labels": map[string]string{"instance": i}})
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(groups)
	}))
	t.Cleanup(list.Close)
	instances.Store(&[]string{"a", "b"})
	m := run(t, newAppender(), discovering(t, `
http_sd_configs:
  - url: `+list.URL+`/targets
    refresh_interval: 100ms
    basic_auth: {username: me, password: secret}
`))
	wantTargets(t, m, "a", "b")
	instances.Store(new([]string))
	require.Eventually(t, func() bool { return failures.Load() > 3 }, time.Minute, 20*time.Millisecond)
	wantTargets(t, m, "a", "b")
	instances.Store(&[]string{"b", "c"})
	wantTargets(t, m, "b", "c")
}

// Containers are found by Docker's API on its socket; the answers have the form of
// Docker 28's.
func TestDockerDiscovery(t *testing.T) {
	t.Parallel() // it mostly waits
	address := profiled(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.48") })
	answer := func(file string) http.HandlerFunc {
		text, err := os.ReadFile("testdata/" + file)
		require.NoError(t, err)
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(strings.ReplaceAll(string(text), "6060", port)))
		}
	}
	mux.Handle("/{version}/containers/json", answer("docker_containers.json"))
	mux.Handle("/{version}/networks", answer("docker_networks.json"))
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })

	a := newAppender()
	m := run(t, a, discovering(t, `
docker_sd_configs:
  - host: unix://`+socket+`
    refresh_interval: 1s
relabel_configs:
  - {source_labels: [__meta_docker_container_label_profile], regex: "yes", action: keep}
  - {source_labels: [__meta_docker_network_name], target_label: network}
  - {source_labels: [__meta_docker_container_name], regex: "/(.*)", target_label: instance}
`))
	wantTargets(t, m, "shop-cart-1", "worker")
	services := map[string]string{}
	for len(services) < 2 {
		p := a.next(t, "goroutine")
		services[p.Labels.Get("instance")] = p.Labels.Get("service_name")
		require.Equal(t, "shop_default", p.Labels.Get("network"))
	}
	require.Equal(t, map[string]string{"shop-cart-1": "cart", "worker": "worker"}, services)
	require.Equal(t, 1, m.State().Jobs[0].DroppedCount)
}

// A kubernetesAPI is the part of Kubernetes' API server that lists and watches pods.
type kubernetesAPI struct {
	events chan string // of the one watch after the list
}

func (k *kubernetesAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	switch {
	case r.URL.Path != "/api/v1/namespaces/shop/pods":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	case query.Get("labelSelector") != "profile=yes":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400}`)
	case query.Get("sendInitialEvents") != "": // servers before 1.32 do not know it
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case query.Get("watch") == "":
		fmt.Fprint(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"10"},"items":[]}`)
	default:
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case e := <-k.events:
				fmt.Fprintln(w, e)
				w.(http.Flusher).Flush()
			}
		}
	}
}

func TestKubernetesDiscovery(t *testing.T) {
	t.Parallel() // it mostly waits
	host, port, err := net.SplitHostPort(profiled(t))
	require.NoError(t, err)
	api := &kubernetesAPI{events: make(chan string, 10)}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	event := func(kind, name, labels, annotations string) {
		api.events <- fmt.Sprintf(`{"type":%q,"object":{"kind":"Pod","apiVersion":"v1",
			"metadata":{"name":%q,"namespace":"shop","uid":%q,"resourceVersion":"11","labels":{%s},"annotations":{%s}},
			"spec":{"nodeName":"node-1","containers":[{"name":"main","image":"cart:1","ports":[{"name":"http","containerPort":%s,"protocol":"TCP"},{"name":"other","containerPort":1,"protocol":"TCP"}]}]},
			"status":{"phase":"Running","podIP":%q,"hostIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}]}}}`,
			kind, name, name, labels, annotations, port, host)
	}
	a := newAppender()
	m := run(t, a, discovering(t, `
kubernetes_sd_configs:
  - role: pod
    api_server: `+server.URL+`
    namespaces: {names: [shop]}
    selectors: [{role: pod, label: profile=yes}]
relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: http, action: keep}
  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: instance}
  - {source_labels: [__meta_kubernetes_pod_annotation_profile_path], regex: (.+), target_label: __profile_path_goroutine__}
`))
	event("ADDED", "cart-0", `"profile":"yes","app.kubernetes.io/name":"cart"`, `"profile/path":"/elsewhere"`)
	event("ADDED", "cart-1", `"profile":"yes"`, ``)
	wantTargets(t, m, "cart-0", "cart-1")
	require.Equal(t, 2, m.State().Jobs[0].DroppedCount, "the other port of each")
	services := map[string]string{}
	for len(services) < 2 {
		p := a.next(t, "goroutine")
		services[p.Labels.Get("pod")] = p.Labels.Get("service_name")
		require.Equal(t, "shop", p.Labels.Get("namespace"))
	}
	require.Equal(t, map[string]string{"cart-0": "cart", "cart-1": "main"}, services)
	before := loops(m)
	require.Equal(t, "/elsewhere", before["cart-0"].url.Path)
	event("MODIFIED", "cart-0", `"profile":"yes","app.kubernetes.io/name":"cart"`, `"profile/path":"/elsewhere","new":"annotation"`)
	event("DELETED", "cart-1", `"profile":"yes"`, ``)
	wantTargets(t, m, "cart-0")
	require.Same(t, before["cart-0"], loops(m)["cart-0"])
}
