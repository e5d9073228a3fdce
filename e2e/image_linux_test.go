package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flameline/flameline/deploy"
	"github.com/flameline/flameline/e2e/load"
	"github.com/flameline/flameline/e2e/proc"
)

// certificates of authorities are where Debian and the image have them.
const certificates = "/etc/ssl/certs/ca-certificates.crt"

// imageRoot assembles the image's root file system.
func imageRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test runs the image in namespaces of its own, which takes root")
	}
	root := filepath.Join(openDir(t), "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	out, err := exec.Command("sh", "../deploy/rootfs.sh", demoCollector(t), certificates, root).CombinedOutput()
	require.NoError(t, err, string(out))
	return root
}

// A pod runs the image as a manifest says: with the container's user and capabilities, its
// volumes, and nothing else but a read-only root file system. Its namespaces for processes
// and the network are this machine's.
type pod struct {
	spec    corev1.PodSpec
	root    string            // the image
	config  map[string]string // the ConfigMap's files
	volumes string            // folder for the other volumes
}

// command returns a command that the calling thread may start, and that thread only: it is
// in the pod's mount namespace and has its capabilities left to give. The goroutine keeps
// the thread, which ends with it.
func (p *pod) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	c := p.spec.Containers[0]
	runtime.LockOSThread()
	if err := p.mount(&c); err != nil {
		return nil, err
	}
	if err := keepCapabilities(c.SecurityContext.Capabilities.Add); err != nil {
		return nil, err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/flameline", args...)
	// The program is looked up in the image.
	cmd.Err = nil
	cmd.Dir = "/var/lib/flameline"
	cmd.Env = []string{"PATH=/usr/bin", "NODE_NAME=node-1", "NODE_IP=127.0.0.1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root, Pdeathsig: syscall.SIGKILL, Credential: p.user()}
	return cmd, nil
}

// user is whom the container runs as.
func (p *pod) user() *syscall.Credential {
	id := func(of, inPod *int64) uint32 {
		if of == nil {
			of = inPod
		}
		return uint32(*of)
	}
	c, s := p.spec.Containers[0].SecurityContext, p.spec.SecurityContext
	if s == nil {
		s = &corev1.PodSecurityContext{}
	}
	return &syscall.Credential{Uid: id(c.RunAsUser, s.RunAsUser), Gid: id(c.RunAsGroup, s.RunAsGroup)}
}

// mount gives the thread a mount namespace with the image and the container's volumes.
func (p *pod) mount(c *corev1.Container) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	bind := func(from, to string, flags uintptr) error {
		to = filepath.Join(p.root, to)
		err := os.MkdirAll(to, 0o755)
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND, "")
		}
		if err == nil && flags != 0 {
			err = unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
		}
		if err != nil {
			return fmt.Errorf("mount %s at %s: %w", from, to, err)
		}
		return nil
	}
	// Mount points are made before the root is read-only.
	for _, m := range c.VolumeMounts {
		if strings.HasPrefix(m.MountPath, "/sys/") {
			continue
		}
		if err := os.MkdirAll(filepath.Join(p.root, m.MountPath), 0o755); err != nil {
			return err
		}
	}
	if err := bind(p.root, "", unix.MS_RDONLY); err != nil {
		return err
	}
	for _, special := range []struct{ kind, to string }{{"proc", "proc"}, {"sysfs", "sys"}} {
		if err := unix.Mount(special.kind, filepath.Join(p.root, special.to), special.kind, unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount %s: %w", special.kind, err)
		}
	}
	for _, m := range c.VolumeMounts {
		from, err := p.volume(m.Name)
		if err != nil {
			return err
		}
		var flags uintptr
		if m.ReadOnly {
			flags = unix.MS_RDONLY
		}
		if err := bind(from, m.MountPath, flags); err != nil {
			return err
		}
	}
	return nil
}

// volume returns the folder that a volume of the pod has on this machine.
func (p *pod) volume(name string) (string, error) {
	i := slices.IndexFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i >= 0 && p.spec.Volumes[i].HostPath != nil {
		path := p.spec.Volumes[i].HostPath.Path
		if path != "/sys/kernel/tracing" {
			return path, nil
		}
		// A node has it mounted, which this machine may not have.
		if err := unix.Mount("tracefs", path, "tracefs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return "", err
		}
		return path, nil
	}
	folder := filepath.Join(p.volumes, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return "", err
	}
	if i >= 0 && p.spec.Volumes[i].ConfigMap != nil {
		for file, text := range p.config {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o644); err != nil {
				return "", err
			}
		}
		return folder, nil
	}
	group := 0
	if s := p.spec.SecurityContext; s != nil && s.FSGroup != nil {
		group = int(*s.FSGroup)
	}
	return folder, errors.Join(os.Chown(folder, 0, group), os.Chmod(folder, 0o2777))
}

// keepCapabilities drops all capabilities but those named from what programs that this
// thread starts may have.
func keepCapabilities(names []corev1.Capability) error {
	numbers := map[corev1.Capability]int{
		"BPF": unix.CAP_BPF, "PERFMON": unix.CAP_PERFMON, "SYS_PTRACE": unix.CAP_SYS_PTRACE,
		"CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE, "SYSLOG": unix.CAP_SYSLOG, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	}
	var keep []int
	for _, n := range names {
		c, ok := numbers[n]
		if !ok {
			return fmt.Errorf("capability %s has no number here", n)
		}
		keep = append(keep, c)
	}
	for c := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

// run runs the program with arguments to its end.
func (p *pod) run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, messages bytes.Buffer
	done := make(chan error)
	go func() {
		cmd, err := p.command(t.Context(), args...)
		if err == nil {
			cmd.Stdout, cmd.Stderr = &out, &messages
			err = cmd.Run()
		}
		done <- err
	}()
	err = <-done
	return out.String(), messages.String(), err
}

// serve starts the container's own command on another address, waits until its readiness
// probe is content, and checks its liveness probe; without probes, what they usually ask.
// It returns the address.
func (p *pod) serve(t *testing.T) string {
	t.Helper()
	address, err := proc.FreeAddress("127.0.0.1:0")
	require.NoError(t, err)
	c := p.spec.Containers[0]
	log := &bytes.Buffer{}
	started, ended := make(chan error), make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		cmd, err := p.command(ctx, append(slices.Clone(c.Args), "--web.listen-address="+address)...)
		if err == nil {
			cmd.Stdout, cmd.Stderr = log, log
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
			close(ended)
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		stop()
		<-ended
		if t.Failed() {
			t.Logf("the log of %s:\n%s", c.Name, log)
		}
	})
	url := "http://" + address
	ready, alive := "/ready", "/-/healthy"
	if c.ReadinessProbe != nil {
		ready, alive = c.ReadinessProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path
	}
	for proc.Answers(url+ready)(t.Context()) != nil {
		select {
		case err := <-ended:
			t.Fatalf("%s ended: %v\n%s", c.Name, err, log)
		case <-t.Context().Done():
			t.Fatalf("%s is not ready", c.Name)
		case <-time.After(50 * time.Millisecond):
		}
	}
	require.NoError(t, proc.Answers(url+alive)(t.Context()))
	return url
}

// TestImage runs the image's root file system as the manifests say: the agent samples a
// program of another user and sends its profiles to the server, which stores them in its
// volume; the debug pod records the same program, and the file comes by the standard
// output.
func TestImage(t *testing.T) {
	objects, err := deploy.Load(os.DirFS("../deploy/kubernetes"))
	require.NoError(t, err)
	configOf := func(name string) map[string]string {
		m, err := deploy.Find[*corev1.ConfigMap](objects, name)
		require.NoError(t, err)
		return m.Data
	}
	root, dir := imageRoot(t), openDir(t)

	set, err := deploy.Find[*appsv1.StatefulSet](objects, "flameline")
	require.NoError(t, err)
	server := &pod{spec: set.Spec.Template.Spec, root: root, config: configOf("flameline"), volumes: filepath.Join(dir, "server")}
	url := server.serve(t)
	require.FileExists(t, filepath.Join(server.volumes, "data", "store", "LOCK"))

	daemons, err := deploy.Find[*appsv1.DaemonSet](objects, "flameline-agent")
	require.NoError(t, err)
	config := configOf("flameline-agent")
	const service = "http://flameline.flameline.svc:4040" // deploy's tests compare it
	require.Contains(t, config["flameline.yaml"], service)
	config["flameline.yaml"] = strings.ReplaceAll(config["flameline.yaml"], service, url)
	agent := &pod{spec: daemons.Spec.Template.Spec, root: root, config: config, volumes: filepath.Join(dir, "agent")}

	out, messages, err := agent.run(t, "doctor")
	require.NoError(t, err, "%s%s", out, messages)
	require.NotRegexp(t, `(?m)^(fail|warn)  (?:capabilities|other_users|pid_namespace|tracefs)`, out)
	require.Regexp(t, `(?m)^ok    tracefs +mounted`, out)
	for i, name := range agent.spec.Containers[0].SecurityContext.Capabilities.Add {
		less := *agent
		less.spec = *agent.spec.DeepCopy()
		c := &less.spec.Containers[0].SecurityContext.Capabilities.Add
		*c = slices.Delete(*c, i, i+1)
		out, _, _ := less.run(t, "doctor")
		require.Regexp(t, `(?m)^(fail|warn)  (?:capabilities|other_users) .* grant CAP_`+string(name)+`$`, out)
	}

	order := load.Programs()[0]
	target, err := proc.FreeAddress("127.0.0.1:0")
	require.NoError(t, err)
	spec, err := order.Build(t.Context(), "..", dir, target, "--spike.first", "0s", "--spike.every", "0s")
	require.NoError(t, err)
	spec.User, spec.Group = nobody, nobody
	begin := time.Now()
	program := startProgram(t, spec, "http://"+target+"/metrics")
	require.NoError(t, os.Chmod(dir, 0o700), "only who may read all files finds the program")

	address := agent.serve(t)
	require.NoError(t, proc.Answers(address+"/metrics")(t.Context()))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := []string{"net/http.(*conn).serve", "main.(*server).handleOrder", "main.validateOrder", "regexp.Compile"}
	require.NoError(t, program.Await(ctx, func(ctx context.Context) error {
		tree, err := mergedTree(ctx, url, cpuType, `{service_name="order"}`, begin.UnixMilli(), time.Now().UnixMilli())
		if err != nil {
			return err
		}
		if path := widestPath(tree); len(tree.Nodes) < 2 || !inOrder(path, want...) {
			return fmt.Errorf("the widest path is\n\t%s", strings.Join(path, "\n\t"))
		}
		return nil
	}))

	debug, err := deploy.Find[*corev1.Pod](objects, "flameline-record")
	require.NoError(t, err)
	recorder := &pod{spec: debug.Spec, root: root, volumes: filepath.Join(dir, "record")}
	recorder.serve(t)
	out, messages, err = recorder.run(t, "record", "-p", strconv.Itoa(program.PID()), "-d", "3", "-o", "-", "--to=folded")
	require.NoError(t, err, messages)
	require.Contains(t, out, "main.(*server).handleOrder;main.validateOrder")
}
