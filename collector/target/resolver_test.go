package target

import (
	"archive/zip"
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/collector/relabel"
)

// The test binary itself is the process under test when asked to be.
func TestMain(m *testing.M) {
	if os.Getenv("FLAMELINE_TEST_WAIT") != "" {
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
		os.Exit(0)
	}
	if os.Getenv("FLAMELINE_TEST_LABELS") != "" {
		printRaw()
		os.Exit(0)
	}
	if os.Getenv("FLAMELINE_TEST_CONTEXT") != "" {
		publish()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A child is a process that runs until stop; go lets it read a line.
type child struct {
	pid  int
	send func()
	stop func()
}

// start runs a command, which prints a line when it is ready.
func start(t *testing.T, env []string, name string, args ...string) child {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	stop := sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(stop)
	return child{pid: cmd.Process.Pid, stop: stop, send: func() {
		fmt.Fprintln(in)
		_, err := lines.ReadString('\n')
		require.NoError(t, err)
	}}
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	exe, err = filepath.EvalSymlinks(exe)
	require.NoError(t, err)
	return exe
}

// here returns the service that this machine's control groups give its
// processes, which goes before the program; want otherwise.
func here(t *testing.T, want string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	c := parseCgroup(data)
	short := c.container()
	if len(short) == 64 {
		short = short[:shortID]
	}
	return cmp.Or(c.service(), short, want)
}

// fixture copies what procfs says about a process, with another control group.
func fixture(t *testing.T, pid int, cgroup string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, fmt.Sprint(pid))
	require.NoError(t, os.Mkdir(dir, 0o755))
	for _, name := range []string{"stat", "environ", "cmdline"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	require.NoError(t, err)
	require.NoError(t, os.Symlink(exe, filepath.Join(dir, "exe")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup"), []byte(cgroup), 0o644))
	return root
}

func TestLabelsOfRealProcess(t *testing.T) {
	c := start(t, []string{"FLAMELINE_TEST_WAIT=1", "OTEL_RESOURCE_ATTRIBUTES=service.name=shop%20cart"}, self(t))
	r := New(Options{Node: "n1"})
	ls := r.Labels(c.pid, Hint{})
	require.Equal(t, "shop cart", ls.Get(LabelService))
	require.Equal(t, self(t), ls.Get(LabelExe))
	require.Equal(t, "n1", ls.Get(LabelNode))
	require.Equal(t, filepath.Base(self(t))[:min(15, len(filepath.Base(self(t))))], ls.Get(LabelComm))
	require.Empty(t, ls.Get("pid"))

	// A process that is gone keeps its labels; one never seen takes the hint.
	c.stop()
	time.Sleep(trustTime)
	require.Equal(t, ls, r.Labels(c.pid, Hint{Comm: "other"}))
	require.Equal(t, labels.FromStrings(LabelService, "hinted", LabelComm, "thread", LabelExe, "/usr/bin/python3", LabelContainer, id, LabelNode, "n1"),
		New(Options{Node: "n1"}).Labels(c.pid, Hint{Comm: "thread", Exe: "/usr/bin/python3", ContainerID: id, Env: map[string]string{"OTEL_SERVICE_NAME": "hinted"}}))
	require.Equal(t, labels.FromStrings(LabelService, "app", LabelComm, "thread", LabelExe, "/opt/app", LabelNode, "n1"),
		New(Options{Node: "n1"}).Labels(c.pid, Hint{Comm: "thread", Exe: "/opt/app"}))
	require.Equal(t, labels.FromStrings(LabelService, "a-program-with-a-long-name", LabelComm, "a-program-with-", LabelExe, "/opt/a-program-with-a-long-name", LabelNode, "n1"),
		New(Options{Node: "n1"}).Labels(c.pid, Hint{Exe: "/opt/a-program-with-a-long-name"}))
	require.Equal(t, labels.FromStrings(LabelService, "unknown", LabelComm, "unknown", LabelNode, "n1"),
		New(Options{Node: "n1"}).Labels(c.pid, Hint{}))
}

// service_name in its order, each step taken away in turn.
func TestServiceOrder(t *testing.T) {
	c := start(t, []string{"FLAMELINE_TEST_WAIT=1", "OTEL_SERVICE_NAME=configured"}, self(t))
	plain := start(t, []string{"FLAMELINE_TEST_WAIT=1"}, self(t))
	name := func(pid int, cgroup string, o Options) string {
		o.ProcRoot = fixture(t, pid, cgroup)
		return New(o).Labels(pid, Hint{}).Get(LabelService)
	}
	unit := "0::/docker/" + id + "/system.slice/httpd.service\n"
	container := "0::/docker/" + id + "\n"
	require.Equal(t, "configured", name(c.pid, unit, Options{}))
	require.Equal(t, "httpd", name(plain.pid, unit, Options{}))
	require.Equal(t, id[:12], name(plain.pid, container, Options{}))
	require.Equal(t, "web-1", name(plain.pid, container, Options{Containers: known{id: {"__meta_docker_container_name": "/web-1"}}}))
	require.Equal(t, "web", name(plain.pid, container, Options{Containers: known{id: {
		"__meta_docker_container_name": "/web-1", "__meta_docker_container_label_com_docker_compose_service": "web",
	}}}))
	require.Equal(t, "shop", name(plain.pid, container, Options{Containers: known{id: {
		"__meta_kubernetes_pod_name": "shop-1-x", "__meta_kubernetes_workload_name": "shop", "__meta_kubernetes_pod_container_name": "app",
	}}}))
	require.Equal(t, id[:12], name(plain.pid, container, Options{Containers: known{}}))
	require.Equal(t, filepath.Base(self(t)), name(plain.pid, "0::/user.slice/user-0.slice/session-1.scope\n", Options{}))
}

// known is what a source knows about containers, by ID.
type known map[string]map[string]string

func (k known) Lookup(_ context.Context, ids []string, pod string) labels.Labels {
	for _, id := range append(slices.Clone(ids), pod) {
		if m := k[id]; m != nil {
			return labels.FromMap(m)
		}
	}
	return labels.EmptyLabels()
}

func TestLabelsOfScripts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
		return path
	}
	r := New(Options{})
	python, err := exec.LookPath("python3")
	require.NoError(t, err)
	script := write("billing.py", "print('ready', flush=True)\nimport time\ntime.sleep(60)\n")
	require.Equal(t, here(t, "billing"), r.Labels(start(t, nil, python, "-u", script).pid, Hint{}).Get(LabelService))
	t.Setenv("PYTHONPATH", dir)
	require.Equal(t, here(t, "billing"), r.Labels(start(t, nil, python, "-W", "ignore", "-m", "billing").pid, Hint{}).Get(LabelService))
	shell := write("backup.sh", "#!/bin/sh\necho ready\nread x\n")
	require.Equal(t, here(t, "backup"), r.Labels(start(t, nil, shell).pid, Hint{}).Get(LabelService))

	if javac, err := exec.LookPath("javac"); err == nil {
		src := write("Shop.java", `public class Shop { public static void main(String[] a) throws Exception { System.out.println("ready"); System.in.read(); } }`)
		out, err := exec.Command(javac, "-d", dir, src).CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, here(t, "Shop"), r.Labels(start(t, nil, "java", "-Xmx32m", "-cp", dir, "Shop").pid, Hint{}).Get(LabelService))
		jar := filepath.Join(dir, "order-service-1.2.3.jar")
		f, err := os.Create(jar)
		require.NoError(t, err)
		z := zip.NewWriter(f)
		for name, read := range map[string]string{"META-INF/MANIFEST.MF": "", "Shop.class": filepath.Join(dir, "Shop.class")} {
			w, err := z.Create(name)
			require.NoError(t, err)
			data := []byte("Manifest-Version: 1.0\nMain-Class: Shop\n")
			if read != "" {
				data, err = os.ReadFile(read)
				require.NoError(t, err)
			}
			w.Write(data)
		}
		require.NoError(t, z.Close())
		require.NoError(t, f.Close())
		require.Equal(t, here(t, "order-service"), r.Labels(start(t, nil, "java", "-Xmx32m", "-jar", jar).pid, Hint{}).Get(LabelService))
	}
}

// exec changes the program of a process: its labels follow, also where the
// executable stays the same.
func TestLabelsFollowExec(t *testing.T) {
	dir := t.TempDir()
	second := filepath.Join(dir, "second.sh")
	require.NoError(t, os.WriteFile(second, []byte("echo ready\nread x\n"), 0o755))
	first := filepath.Join(dir, "first.sh")
	require.NoError(t, os.WriteFile(first, []byte("echo ready\nread x\nexec /bin/sh "+second+"\n"), 0o755))
	c := start(t, nil, "/bin/sh", first)
	r := New(Options{})
	require.Equal(t, here(t, "first"), r.Labels(c.pid, Hint{}).Get(LabelService))
	c.send()
	require.Equal(t, here(t, "second"), r.Labels(c.pid, Hint{Check: true}).Get(LabelService))
	r = New(Options{})
	c = start(t, nil, "/bin/sh", first)
	require.Equal(t, here(t, "first"), r.Labels(c.pid, Hint{}).Get(LabelService))
	c.send()
	time.Sleep(trustTime)
	require.Equal(t, here(t, "second"), r.Labels(c.pid, Hint{}).Get(LabelService))
	// The sampler has seen another executable: no need to wait that long.
	time.Sleep(trustOther)
	before := testutil.ToFloat64(r.lookups.WithLabelValues("cache"))
	r.Labels(c.pid, Hint{})
	require.Equal(t, before+1, testutil.ToFloat64(r.lookups.WithLabelValues("cache")))
}

// A process that renames itself has the name that it has given itself last.
func TestLabelsFollowNames(t *testing.T) {
	python, err := exec.LookPath("python3")
	require.NoError(t, err)
	script := filepath.Join(t.TempDir(), "billing.py")
	require.NoError(t, os.WriteFile(script, []byte("print('ready', flush=True)\ninput()\nopen('/proc/self/comm', 'w').write('shop-billing')\nprint('renamed', flush=True)\ninput()\n"), 0o644))
	c := start(t, nil, python, "-u", script)
	r := New(Options{})
	before := r.Labels(c.pid, Hint{})
	require.Equal(t, here(t, "billing"), before.Get(LabelService))
	c.send()
	r.mu.Lock()
	r.known[c.pid].Value.(*entry).checked = time.Time{}
	r.mu.Unlock()
	after := r.Labels(c.pid, Hint{})
	require.Equal(t, here(t, "billing"), after.Get(LabelService))
	require.Equal(t, "shop-billing", after.Get(LabelComm))
	require.NotEqual(t, before.Get(LabelComm), after.Get(LabelComm))
}

// Rules see all that is known about a process, and have the last word.
func TestRules(t *testing.T) {
	c := start(t, []string{"FLAMELINE_TEST_WAIT=1", "OTEL_RESOURCE_ATTRIBUTES=team=red"}, self(t))
	root := fixture(t, c.pid, "0::/system.slice/docker-"+id+".scope/system.slice/php-fpm@8.2.service\n")
	apply := func(rules string) map[string]string {
		var rs relabel.Rules
		require.NoError(t, yaml.Unmarshal([]byte(rules), &rs))
		require.NoError(t, rs.Validate())
		return New(Options{ProcRoot: root, Node: "n", Cluster: "eu", Rules: rs, Containers: known{id: {
			"__meta_docker_container_name": "/web-1", "__meta_docker_container_label_tier": "front",
		}}}).Labels(c.pid, Hint{}).Map()
	}
	got := apply(`
- {source_labels: [__meta_docker_container_label_tier], target_label: tier}
- {source_labels: [__meta_systemd_unit, __meta_systemd_slice], target_label: unit}
- {regex: __meta_otel_(team), replacement: $1, action: labelmap}
- {regex: exe|comm, action: labeldrop}
- {source_labels: [cluster, service_name], separator: /, target_label: service_name}
- {target_label: bad, replacement: "a\nb"}
`)
	require.Equal(t, map[string]string{
		"tier": "front", "unit": "php-fpm@8.2.service;system.slice", "team": "red", "cluster": "eu", "node": "n",
		"container": "web-1", "name": "web-1", "service_name": "eu/php-fpm", "bad": "a b",
	}, got)
	require.Empty(t, apply(`[{source_labels: [container], regex: web-.*, action: drop}]`))
	require.Equal(t, map[string]string{"service_name": "unknown"}, apply(`[{regex: .*, action: labeldrop}]`))
}

func TestLabelsOfKernelThreads(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "17")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stat"), []byte("17 (kworker/0:1-events) I 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0"), 0o644))
	r := New(Options{ProcRoot: root, Node: "n"})
	require.Equal(t, labels.FromStrings(LabelService, "kernel", LabelComm, "kworker", LabelNode, "n"), r.Labels(17, Hint{}))
	require.Equal(t, labels.FromStrings(LabelService, "kernel", LabelComm, "swapper", LabelNode, "n"), r.Labels(0, Hint{Comm: "swapper/1"}))
}

func TestCacheIsBounded(t *testing.T) {
	root := t.TempDir()
	for pid := range 50 {
		dir := filepath.Join(root, fmt.Sprint(pid))
		require.NoError(t, os.Mkdir(dir, 0o755))
		text := fmt.Sprintf("%d (p) S%s 98765 1 2", pid, strings.Repeat(" 0", 18))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "stat"), []byte(text), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte("/bin/p\x00"), 0o644))
	}
	reg := prometheus.NewRegistry()
	r := New(Options{ProcRoot: root, CacheSize: 10, Registerer: reg})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for pid := 1; pid < 50; pid++ {
				if got := r.Labels(pid, Hint{}).Get(LabelService); got != "p" {
					t.Errorf("process %d is %q", pid, got)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 10, r.recent.Len())
	require.Len(t, r.known, 10)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

type knownOne labels.Labels

func (k knownOne) Lookup(context.Context, []string, string) labels.Labels { return labels.Labels(k) }

// BenchmarkFinish finishes the labels of a process in a pod with 30 labels and
// annotations, which happens once for each series of a window, with the rules of usual
// configurations.
func BenchmarkFinish(b *testing.B) {
	pod := map[string]string{
		"__meta_kubernetes_namespace": "shop", "__meta_kubernetes_pod_name": "cart-1", "__meta_kubernetes_workload_name": "cart",
		"__meta_kubernetes_pod_container_name": "cart",
	}
	for i := range 30 {
		pod[fmt.Sprintf("__meta_kubernetes_pod_label_%d", i)] = "value"
	}
	var rules relabel.Rules
	require.NoError(b, yaml.Unmarshal([]byte("[{source_labels: [__meta_kubernetes_pod_label_7], target_label: team}, {regex: __meta_kubernetes_pod_label_(1.), action: labelmap}]"), &rules))
	require.NoError(b, rules.Validate())
	r := New(Options{Containers: knownOne(labels.FromMap(pod)), Rules: rules})
	raw := labels.FromStrings(rawIDs, id, metaContainer, id, LabelComm, "cart", LabelExe, "/cart", rawProgram, "cart")
	for b.Loop() {
		r.Finish(b.Context(), raw)
	}
}

func BenchmarkLabels(b *testing.B) {
	r := New(Options{})
	pid := os.Getpid()
	for b.Loop() {
		r.Labels(pid, Hint{})
	}
}
