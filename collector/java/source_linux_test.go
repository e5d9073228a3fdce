package java

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestFlightRecorder records a JVM with its own flight recorder. Chunks must follow one
// another without a gap, and the end must leave nothing in the JVM and in its /tmp.
func TestFlightRecorder(t *testing.T) {
	j := start(t, alloc(t, classes(t), 1000, "-XX:TLABSize=128k", "-XX:-ResizeTLAB"))
	r := source(t, j.pid, Options{Interval: 2 * time.Second, AllocRate: 100_000}) // all: the shares are looked at
	await(t, "allocations and contentions", func() bool {
		_, samples := r.values("alloc_sample_objects")
		_, waits := r.values("delay")
		return samples > 1000 && waits > int64(2*time.Second)
	})
	require.True(t, r.attached())
	require.Contains(t, recordingsOf(t, j.pid), recordingOurs)
	r.stop()
	gapless(t, r.chunks, 100*time.Microsecond)
	sevenToThree(t, &r.memory, "alloc_sample_bytes")
	by, waits := r.values("delay")
	require.Greater(t, by["Alloc.contend"], waits*8/10, "%v", by) // the JVM's own classes wait too
	for _, p := range r.ps {
		require.Equal(t, "Alloc", p.Labels.Get("service_name"))
		require.Equal(t, "test", p.Labels.Get("node"))
	}
	require.NotContains(t, recordingsOf(t, j.pid), recordingOurs)
	noFolder(t, j.pid)
	require.NotContains(t, r.said.String(), "WARN")
}

// TestAsyncProfiler records a JVM with async-profiler: allocations, locks, and the
// memory that one method holds.
func TestAsyncProfiler(t *testing.T) {
	lib := profiler(t)
	j := start(t, alloc(t, classes(t), 0))
	// hold runs at once and so before a recording: another JVM holds later.
	late := start(t, alloc(t, classes(t), 8))
	r := source(t, j.pid, Options{Interval: 2 * time.Second, LiveWindow: time.Hour, AsyncProfiler: lib})
	o := source(t, late.pid, Options{Interval: 2 * time.Second, LiveWindow: 12 * time.Second, AsyncProfiler: lib})
	await(t, "allocations and contentions", func() bool {
		_, samples := r.values("alloc_in_new_tlab_objects")
		_, waits := r.values("delay")
		return samples > 1000 && waits > int64(2*time.Second)
	})
	sevenToThree(t, &r.memory, "alloc_in_new_tlab_bytes")
	by, waits := r.values("delay")
	require.Greater(t, by["Alloc.contend"], waits*8/10, "%v", by)
	await(t, "memory in use", func() bool {
		by, _ := o.values("live_bytes")
		return by["Alloc.hold"] > 0
	})
	r.stop()
	o.stop()
	gapless(t, r.chunks, 100*time.Microsecond)
	by, _ = o.values("live_bytes")
	require.InEpsilon(t, 60e6, by["Alloc.hold"], 0.4, "%v", by)
	noFolder(t, j.pid)
	noFolder(t, late.pid)
	require.NotContains(t, r.said.String(), "WARN")

	// A collector that comes later records again, with the library that is loaded.
	again := source(t, j.pid, Options{Interval: time.Second, AsyncProfiler: lib})
	await(t, "allocations", func() bool { _, n := again.values("alloc_in_new_tlab_bytes"); return n > 50<<20 })
	again.stop()
	maps, err := readProc(j.pid, "maps", maxMaps)
	require.NoError(t, err)
	mapped := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) > 5 && strings.Contains(f[5], libraryPrefix) {
			mapped[f[4]] = true // inode
		}
	}
	require.Len(t, mapped, 1, "the library is loaded once")
}

// TestAfterCrash takes over what a collector left that was killed, of both recorders.
func TestAfterCrash(t *testing.T) {
	lib, dir := profiler(t), classes(t)
	for name, o := range map[string]Options{"flight recorder": {}, "async-profiler": {AsyncProfiler: lib}} {
		t.Run(name, func(t *testing.T) {
			j := start(t, alloc(t, dir, 1000))
			o.Interval = time.Second
			old := crashed(t, j.pid, o)
			r := source(t, j.pid, o)
			await(t, "the lock to be seen", r.says(string(OtherCollector)))
			require.False(t, r.attached())
			r.stop()
			require.NoError(t, old.Close()) // as the kernel does for a process that has ended
			r = source(t, j.pid, o)
			await(t, "allocations", func() bool {
				_, a := r.values("alloc_in_new_tlab_bytes")
				_, b := r.values("alloc_sample_bytes")
				return a+b > 50<<20
			})
			r.stop()
			require.NotContains(t, r.said.String(), "WARN")
			noFolder(t, j.pid)
		})
	}
}

// crashed starts a recording and returns its folder, as a collector leaves it that ends
// without a chance to stop.
func crashed(t *testing.T, pid int, o Options) *folder {
	t.Helper()
	o.setDefaults()
	s := &Source{}
	p, err := inspect(&s.guard, pid)
	require.NoError(t, err)
	f, err := p.openFolder()
	require.NoError(t, err)
	a := &attachment{process: p, guard: &s.guard, tmp: f.tmp}
	var r recorder = &flightRecorder{attachment: a, folder: f, o: &o}
	if o.AsyncProfiler != "" {
		l, err := readLibrary(o.AsyncProfiler)
		require.NoError(t, err)
		r = &asyncProfiler{attachment: a, folder: f, library: l, o: &o}
	}
	require.NoError(t, r.start(t.Context()))
	return f
}

// TestLeftAlone has JVMs that are not to be touched: none gets a signal or a file.
func TestLeftAlone(t *testing.T) {
	dir := classes(t)
	for name, c := range map[string]struct {
		env     string
		options []string
		reason  Reason
	}{
		"opted out":       {env: OptOut + "=off", reason: OptedOut},
		"attach disabled": {options: []string{"-XX:+DisableAttachMechanism"}, reason: AttachDisabled},
		"by a variable":   {env: "JAVA_TOOL_OPTIONS=-XX:+DisableAttachMechanism", reason: AttachDisabled},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := alloc(t, dir, 1000, c.options...)
			cmd.Env = append(os.Environ(), c.env)
			j := start(t, cmd)
			r := source(t, j.pid, Options{})
			await(t, "the reason", r.says("reason="+string(c.reason)))
			r.stop()
			require.Equal(t, 1, strings.Count(r.said.String(), "reason="), "said once")
			require.NoFileExists(t, fmt.Sprintf("/tmp/.java_pid%d", j.pid))
			noFolder(t, j.pid)
			require.NoError(t, syscall.Kill(j.pid, 0), "the JVM runs")
			require.Equal(t, 1.0, testutil.ToFloat64(r.Source.metrics.skipped.WithLabelValues(string(c.reason))))
		})
	}
}

// TestReducedSignals records a JVM that handles no SIGQUIT and listens from its start.
func TestReducedSignals(t *testing.T) {
	j := start(t, alloc(t, classes(t), 1000, "-Xrs"))
	r := source(t, j.pid, Options{})
	await(t, "the recording", r.attached)
	r.stop()
	require.NoError(t, syscall.Kill(j.pid, 0), "the JVM runs")
}

// TestOthersProfile leaves JVMs alone that somebody else profiles.
func TestOthersProfile(t *testing.T) {
	lib, dir := profiler(t), classes(t)
	t.Run("async-profiler", func(t *testing.T) {
		j := start(t, alloc(t, dir, 1000, "-agentpath:"+lib+"=start,alloc=512k,jfr,file="+filepath.Join(t.TempDir(), "theirs.jfr")))
		r := source(t, j.pid, Options{AsyncProfiler: lib})
		await(t, "the reason", r.says("reason="+string(OtherProfiler)))
		require.NoFileExists(t, fmt.Sprintf("/tmp/.java_pid%d", j.pid))
	})
	t.Run("flight recorder", func(t *testing.T) {
		j := start(t, alloc(t, dir, 1000, "-XX:StartFlightRecording=name=theirs"))
		before := recordingsOf(t, j.pid)
		r := source(t, j.pid, Options{})
		await(t, "the reason", r.says("reason="+string(OtherRecording)))
		r.stop()
		require.Equal(t, before, recordingsOf(t, j.pid))
		noFolder(t, j.pid)
	})
}

// TestOtherUserAndMounts records a JVM of another user whose /tmp is a file system of
// its own and whose PID differs from ours, as in a container.
func TestOtherUserAndMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run as root: the JVM runs as another user")
	}
	lib, dir := profiler(t), classes(t)
	for name, o := range map[string]Options{"flight recorder": {}, "async-profiler": {AsyncProfiler: lib}} {
		t.Run(name, func(t *testing.T) {
			script := fmt.Sprintf(`mount -t tmpfs none /mnt && mkdir /mnt/c && cp -r %s/. /mnt/c &&
				mount -t tmpfs -o mode=1777 none /tmp && exec setpriv --reuid 65534 --regid 65534 --clear-groups %s -Xmx256m -cp /mnt/c Alloc 1000`, dir, tool(t, "java", "default-jdk-headless"))
			outer := start(t, exec.Command(tool(t, "unshare", "util-linux"), "--mount", "--pid", "--fork", "sh", "-c", script))
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", outer.pid, outer.pid))
			require.NoError(t, err)
			var pid int
			_, err = fmt.Sscan(string(children), &pid)
			require.NoError(t, err)
			t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) }) // it has another user, so unshare's --kill-child does not reach it
			o.Interval = time.Second
			r := source(t, pid, o)
			await(t, "allocations", func() bool {
				_, a := r.values("alloc_in_new_tlab_bytes")
				_, b := r.values("alloc_sample_bytes")
				return a+b > 50<<20
			})
			p, err := inspect(&r.guard, pid)
			require.NoError(t, err)
			require.Equal(t, 65534, p.uid)
			require.Equal(t, 1, p.inner)
			info, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", pid, p.folderPath()))
			require.NoError(t, err)
			require.Equal(t, uint32(65534), info.Sys().(*syscall.Stat_t).Uid)
			r.stop()
			require.NoFileExists(t, fmt.Sprintf("/proc/%d/root%s", pid, p.folderPath()))
			require.NotContains(t, r.said.String(), "WARN")
		})
	}
}

// TestReadOnlyTmp names the folder of a JVM whose /tmp cannot be written.
func TestReadOnlyTmp(t *testing.T) {
	dir := classes(t)
	script := fmt.Sprintf(`mount -t tmpfs none /mnt && mkdir /mnt/c && cp -r %s/. /mnt/c &&
		mount -t tmpfs none /tmp && mount -o remount,ro /tmp && exec %s -XX:-UsePerfData -Xmx256m -cp /mnt/c Alloc 1000`, dir, tool(t, "java", "default-jdk-headless"))
	j := start(t, exec.Command(tool(t, "unshare", "util-linux"), "--mount", "sh", "-c", script))
	r := source(t, j.pid, Options{})
	await(t, "the reason", r.says("mount a writable /tmp"))
	require.Equal(t, 1.0, testutil.ToFloat64(r.metrics.failures.WithLabelValues(string(NoFolder))))
}

// TestHostileTmp has links and folders of others where ours are due.
func TestHostileTmp(t *testing.T) {
	dir := classes(t)
	j := start(t, alloc(t, dir, 1000))
	p, err := inspectNow(j.pid)
	require.NoError(t, err)
	victim := t.TempDir()
	require.NoError(t, os.Symlink(victim, p.folderPath()))
	t.Cleanup(func() { os.RemoveAll(p.folderPath()) })
	_, err = p.openFolder()
	require.Equal(t, NoFolder, reasonOf(err, ""))
	require.NoError(t, os.Remove(p.folderPath()))

	require.NoError(t, os.Mkdir(p.folderPath(), 0o700))
	require.NoError(t, os.Chown(p.folderPath(), 12345, 12345))
	_, err = p.openFolder()
	require.ErrorContains(t, err, "user 12345 has made it")
	require.NoError(t, os.Remove(p.folderPath()))

	f, err := p.openFolder()
	require.NoError(t, err)
	defer f.Remove()
	secret := filepath.Join(victim, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(p.folderPath(), "recording.jfr")))
	_, err = f.read("recording.jfr", 100)
	require.ErrorIs(t, err, unix.ELOOP)
	require.NoError(t, f.write("recording.jfr", 0o600, []byte("ours")))
	b, err := os.ReadFile(secret)
	require.NoError(t, err)
	require.Equal(t, "secret", string(b))
	require.NoError(t, f.remove("recording.jfr"))
	require.NoError(t, unix.Mkfifo(filepath.Join(p.folderPath(), "recording.jfr"), 0o600))
	_, err = f.read("recording.jfr", 100) // does not wait for a writer
	require.Error(t, err)

	// A socket that a link names is not ours to talk to.
	a := &attachment{process: p, tmp: f.tmp}
	socket := fmt.Sprintf("/tmp/.java_pid%d", j.pid)
	require.NoError(t, os.Symlink(filepath.Join(victim, "socket"), socket))
	t.Cleanup(func() { os.Remove(socket) })
	_, err = a.dial(t.Context())
	require.ErrorContains(t, err, "is not a socket")
	require.False(t, a.signalled)
}

// TestNotAJVM never signals a process that is no JVM, or one that maps libjvm.so but
// does not handle SIGQUIT, which would end it.
func TestNotAJVM(t *testing.T) {
	sleep := start(t, exec.Command("sh", "-c", "echo ready; exec sleep 1000"))
	r := source(t, sleep.pid, Options{})
	_, err := inspectNow(sleep.pid)
	require.ErrorIs(t, err, errNoJVM)
	await(t, "it to be looked at", func() bool {
		r.Source.mu.Lock()
		defer r.Source.mu.Unlock()
		_, ok := r.others[sleep.pid]
		return ok
	})
	r.stop()
	require.NoError(t, syscall.Kill(sleep.pid, 0))

	// The same process as if it had become another since it was looked at.
	p := &process{pid: sleep.pid, inner: sleep.pid}
	p.start, err = startOf(sleep.pid)
	require.NoError(t, err)
	tmp, err := p.openTmp()
	require.NoError(t, err)
	defer tmp.Close()
	a := &attachment{process: p, guard: &r.guard, tmp: tmp}
	_, err = a.command(t.Context(), "jcmd", "VM.version")
	require.ErrorIs(t, err, errNoJVM)
	require.False(t, a.signalled)
	require.NoFileExists(t, fmt.Sprintf("/tmp/.attach_pid%d", sleep.pid))
	require.NoError(t, syscall.Kill(sleep.pid, 0), "it runs")

	// A JVM with -Xrs does not handle SIGQUIT.
	j := start(t, alloc(t, classes(t), 1000, "-Xrs"))
	jp, err := inspectNow(j.pid)
	require.NoError(t, err)
	require.False(t, jp.quit)
	a = &attachment{process: jp, guard: &r.guard, tmp: tmp}
	require.Equal(t, AttachDisabled, reasonOf(a.signal(), ""))
	require.NoError(t, syscall.Kill(j.pid, 0), "it runs")
}

// TestJVMEnds has a JVM end while it is recorded: its last allocations are stored.
func TestJVMEnds(t *testing.T) {
	j := start(t, alloc(t, classes(t), 1000))
	r := source(t, j.pid, Options{Interval: time.Hour, LiveWindow: time.Hour, AsyncProfiler: profiler(t)})
	await(t, "the recording", r.attached)
	time.Sleep(2 * time.Second) // of allocations
	require.NoError(t, j.cmd.Process.Signal(syscall.SIGTERM))
	j.cmd.Wait()
	r.stop()
	sevenToThree(t, &r.memory, "alloc_in_new_tlab_bytes")
	require.NotContains(t, r.said.String(), "WARN")
	_, err := os.Stat((&process{inner: j.pid}).folderPath())
	require.True(t, errors.Is(err, os.ErrNotExist))
}
