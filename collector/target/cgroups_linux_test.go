package target

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/containers"
)

func hexID(digit string) string { return strings.Repeat(digit, 64) }

// hierarchies returns the mount points of this machine's control groups by version, of
// version 1 any hierarchy that has no controller which wants to be set up first. Without
// one of a version it mounts one, which root may.
func hierarchies(t *testing.T) map[int]string {
	t.Helper()
	found := map[int]string{}
	data, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before)[4], strings.Fields(after)
		switch {
		case kind[0] == "cgroup2":
			found[2] = mount
		case kind[0] == "cgroup" && !strings.Contains(kind[2], "cpuset") && !strings.Contains(kind[2], "memory"):
			found[1] = mount
		}
	}
	if found[2] == "" {
		found[2] = t.TempDir()
		require.NoError(t, unix.Mount("none", found[2], "cgroup2", 0, ""), "needs root")
		t.Cleanup(func() { unix.Unmount(found[2], unix.MNT_DETACH) })
	}
	if found[1] == "" {
		dir := t.TempDir()
		// Kernels may be without version 1.
		if err := unix.Mount("none", dir, "cgroup", 0, "none,name=flameline-test"); err == nil {
			found[1] = dir
			t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		}
	}
	return found
}

// moveTo moves a process into a new control group.
func moveTo(t *testing.T, hierarchy, group string, pid int) {
	t.Helper()
	dir := filepath.Join(hierarchy, group)
	require.NoError(t, os.MkdirAll(dir, 0o755), "needs root")
	t.Cleanup(func() { // when the process has gone
		require.Eventually(t, func() bool {
			err := os.Remove(dir)
			return err == nil || os.IsNotExist(err)
		}, 10*time.Second, time.Millisecond)
		for d := filepath.Dir(dir); d != filepath.Clean(hierarchy); d = filepath.Dir(d) {
			os.Remove(d) // unless there are others in it
		}
	})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0o644))
}

func recordedAnswer(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../containers/testdata/" + name)
	require.NoError(t, err)
	return data
}

// recordedSources are a kubelet and Docker that answer as they were recorded.
func recordedSources(t *testing.T) containers.Set {
	t.Helper()
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(recordedAnswer(t, "pods.json"))
	}))
	t.Cleanup(kubelet.Close)
	pods, err := containers.NewKubernetes(kubelet.Client(), kubelet.URL, true, "", containers.Options{})
	require.NoError(t, err)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	docker := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(recordedAnswer(t, "containers.json"))
	}))
	docker.Listener.Close()
	docker.Listener = func() net.Listener {
		l, err := net.Listen("unix", socket)
		require.NoError(t, err)
		return l
	}()
	docker.Start()
	t.Cleanup(docker.Close)
	set := containers.Set{pods, containers.NewDocker(socket, true, containers.Options{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
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

// A placed process is one in a control group, and the labels that cAdvisor and
// kube-state-metrics give its container.
type placed struct {
	name, group string
	want        map[string]string
}

const cartUID = "1234abcd-0000-4111-8222-333344445555"

func cart(container string) map[string]string {
	return map[string]string{
		"namespace": "shop", "pod": "cart-7d9c6b8f5d-x2x9p", "container": container, "node": "kind-worker",
		"workload": "cart", "workload_type": "deployment", "service_name": "cart",
	}
}

var placements = []placed{
	{"containerd, systemd driver", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(cartUID, "-", "_") + ".slice/cri-containerd-" + hexID("a") + ".scope", cart("cart")},
	{"sidecar, cgroupfs driver", "kubepods/burstable/pod" + cartUID + "/" + hexID("b"), cart("istio-proxy")},
	{"pause container", "kubepods/burstable/pod" + cartUID + "/" + hexID("5"), map[string]string{
		"namespace": "shop", "pod": "cart-7d9c6b8f5d-x2x9p", "node": "kind-worker", "workload": "cart", "workload_type": "deployment", "service_name": "cart",
	}},
	{"CRI-O", "kubepods.slice/kubepods-pod2234abcd_0000_4111_8222_333344445555.slice/crio-" + hexID("d") + ".scope/container", map[string]string{
		"namespace": "shop", "pod": "db-0", "container": "postgres", "node": "kind-worker", "workload": "db", "workload_type": "statefulset", "service_name": "orders-db",
	}},
	{"kind", "docker/" + hexID("6") + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod0123456789abcdef0123456789abcdef.slice/cri-containerd-" + hexID("2") + ".scope", map[string]string{
		"namespace": "kube-system", "pod": "kube-proxy-kind-worker", "container": "kube-proxy", "node": "kind-worker", "workload": "kube-proxy", "workload_type": "staticpod", "service_name": "kube-proxy",
	}},
	{"Docker Compose", "system.slice/docker-" + hexID("6") + ".scope", map[string]string{
		"name": "shop-web-1", "container": "shop-web-1", "node": "host", "service_name": "web",
	}},
	{"Docker, cgroupfs driver", "docker/" + hexID("7"), map[string]string{"name": "cache", "container": "cache", "node": "host", "service_name": "cache"}},
	{"Docker in a container of Docker", "docker/" + hexID("7") + "/docker/" + hexID("e")[:63] + "d", map[string]string{
		"name": "cache", "container": "cache", "node": "host", "service_name": "cache",
	}},
	{"cri-dockerd", "docker/" + hexID("9"), map[string]string{
		"namespace": "shop", "pod": "cart-7d9c6b8f5d-x2x9p", "container": "cart", "node": "host", "service_name": "cart",
	}},
	{"systemd", "system.slice/system-postgresql.slice/postgresql@15-main.service", map[string]string{"node": "host", "service_name": "postgresql"}},
	{"unit of a user", "user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service", map[string]string{"node": "host", "service_name": "syncthing"}},
}

// TestControlGroups moves processes into control groups of both versions, as container
// runtimes and systemd make them, and compares their labels.
func TestControlGroups(t *testing.T) {
	set := recordedSources(t)
	for version, mount := range hierarchies(t) {
		for _, p := range placements {
			t.Run(fmt.Sprintf("v%d %s", version, p.name), func(t *testing.T) {
				c := start(t, []string{"FLAMELINE_TEST_WAIT=1"}, self(t))
				moveTo(t, mount, p.group, c.pid)
				t.Cleanup(c.stop) // before the group is removed
				ls := New(Options{Node: "host", Containers: set}).Labels(c.pid, Hint{})
				got := ls.Map()
				delete(got, LabelComm)
				delete(got, LabelExe)
				require.Equal(t, p.want, got)
			})
		}
	}
}

// TestPrivateNamespaces reads processes from within a container whose control groups, and
// those of all others, have paths relative to its own.
func TestPrivateNamespaces(t *testing.T) {
	mount := hierarchies(t)[2]
	const pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234abcd_0000_4111_8222_333344445555.slice/"
	own := exec.Command("sh", "-c", "echo $$ > "+filepath.Join(mount, pod, "cri-containerd-"+hexID("b")+".scope/cgroup.procs")+` && exec unshare --cgroup "$0"`, self(t))
	own.Env = append(os.Environ(), "FLAMELINE_TEST_LABELS=1")
	in, err := own.StdinPipe()
	require.NoError(t, err)
	out, err := own.StdoutPipe()
	require.NoError(t, err)
	own.Stderr = os.Stderr
	placedIn := func(group string) int {
		c := start(t, []string{"FLAMELINE_TEST_WAIT=1"}, self(t))
		moveTo(t, mount, group, c.pid)
		t.Cleanup(c.stop)
		return c.pid
	}
	same := placedIn(pod + "cri-containerd-" + hexID("b") + ".scope")
	sibling := placedIn(pod + "cri-containerd-" + hexID("a") + ".scope")
	other := placedIn("kubepods.slice/kubepods-pod2234abcd_0000_4111_8222_333344445555.slice/crio-" + hexID("d") + ".scope")
	unit := placedIn("system.slice/nginx.service")
	require.NoError(t, own.Start())
	t.Cleanup(func() {
		own.Process.Kill()
		own.Wait()
	})
	answers := bufio.NewReader(out)
	for _, c := range []struct {
		pid                int
		path, id, pod, own string
	}{
		{same, "/", "", "", ""},
		{sibling, "/../cri-containerd-" + hexID("a") + ".scope", hexID("a"), "", ""},
		{other, "/../../../kubepods-pod2234abcd_0000_4111_8222_333344445555.slice/crio-" + hexID("d") + ".scope", hexID("d"), "2234abcd-0000-4111-8222-333344445555", ""},
		{unit, "/../../../../system.slice/nginx.service", "", "", "nginx"},
	} {
		fmt.Fprintln(in, c.pid)
		line, err := answers.ReadBytes('\n')
		require.NoError(t, err)
		var raw map[string]string
		require.NoError(t, json.Unmarshal(line, &raw), "%s", line)
		require.Equal(t, c.path, raw[metaCgroup])
		require.Equal(t, []string{c.id, c.pod, c.own}, []string{raw[metaContainer], raw[rawPod], raw[rawService]}, c.path)
	}
}

// printRaw makes a test process print what is known about processes whose numbers it
// reads.
func printRaw() {
	r := New(Options{})
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var pid int
		fmt.Sscan(in.Text(), &pid)
		json.NewEncoder(os.Stdout).Encode(r.Raw(pid, Hint{}).Map())
	}
}

// The container that this process runs in, if a cgroup namespace hides it, is known by
// the files that container runtimes mount into it.
func TestOwnContainer(t *testing.T) {
	docker := "1014 1002 0:50 / / rw - overlay overlay rw\n" +
		"1020 1014 254:1 /var/lib/docker/containers/" + id + "/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw\n" +
		"1021 1014 254:1 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw\n"
	kube := "1020 1014 254:1 /var/lib/kubelet/pods/" + uid + "/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw\n" +
		"1021 1014 254:1 /containers/" + id + "/evil /data rw,relatime - ext4 /dev/vda1 rw\n"
	for name, c := range map[string]struct{ mounts, cgroup, id, pod string }{
		"Docker":           {docker, "0::/\n", id, ""},
		"Kubernetes":       {kube, "0::/\n", "", uid},
		"not hidden":       {docker, "0::/system.slice/docker-" + id + ".scope\n", "", ""},
		"no container":     {"22 1 254:1 / / rw - ext4 /dev/vda1 rw\n", "0::/\n", "", ""},
		"malformed mounts": {"\n1 2\n", "0::/\n", "", ""},
	} {
		root := t.TempDir()
		procOf(t, root, "self", map[string][]byte{"cgroup": []byte(c.cgroup), "mountinfo": []byte(c.mounts)})
		procOf(t, root, "7", map[string][]byte{"stat": plainStat, "cgroup": []byte("0::/\n"), "cmdline": []byte("/bin/x\x00")})
		procOf(t, root, "8", map[string][]byte{"stat": plainStat, "cgroup": []byte("0::/../cri-containerd-" + hexID("a") + ".scope\n"), "cmdline": []byte("/bin/x\x00")})
		procOf(t, root, "9", map[string][]byte{"stat": plainStat, "cgroup": []byte("0::/..\n"), "cmdline": []byte("/bin/x\x00")})
		r := New(Options{ProcRoot: root})
		require.Equal(t, c.id, r.Raw(7, Hint{}).Get(metaContainer), name)
		require.Equal(t, c.pod, r.Raw(8, Hint{}).Get(rawPod), name)
		require.Empty(t, r.Raw(9, Hint{}).Get(metaContainer), name)
	}
	require.Equal(t, labels.EmptyLabels(), New(Options{}).Finish(t.Context(), labels.EmptyLabels()))
}
