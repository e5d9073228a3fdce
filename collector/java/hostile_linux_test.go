package java

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
	"github.com/flameline/flameline/pkg/profile"
)

// nobody is the user of hostile processes.
const nobody = 65534

// hostile starts a process with mounts of its own, which a shell's commands change before
// it becomes nobody's. $dir is its private folder.
func hostile(t *testing.T, commands string) *process {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: mounts file systems")
	}
	if os.Geteuid() != 0 {
		t.Fatal("run as root: the process mounts file systems and runs as another user")
	}
	script := fmt.Sprintf("dir=/tmp/%s$$\n%s\necho ready; exec setpriv --reuid %d --regid %d --clear-groups sleep 1000", folderPrefix, commands, nobody, nobody)
	j := start(t, exec.Command("unshare", "--mount", "sh", "-e", "-c", script))
	p := &process{pid: j.pid, inner: j.pid, uid: nobody, gid: nobody}
	var err error
	p.start, err = startOf(j.pid)
	require.NoError(t, err)
	return p
}

// treasure returns a folder of root with a file, and a check that both are as they were.
func treasure(t *testing.T, mode os.FileMode) (dir string, unharmed func()) {
	t.Helper()
	dir = publicDir(t)
	file := filepath.Join(dir, "file")
	content := append(header(chunkHeader+32, 70, 68, 5), []byte("what root has, which is recorded")...)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	require.NoError(t, os.Chmod(dir, mode))
	return dir, func() {
		t.Helper()
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, content, b)
		for _, name := range []string{dir, file} {
			info, err := os.Stat(name)
			require.NoError(t, err)
			require.Zero(t, info.Sys().(*syscall.Stat_t).Uid, name)
		}
	}
}

// TestHostileMounts has processes that mount folders of root where theirs are due, as any
// user may in a user namespace. Nothing in them may change.
func TestHostileMounts(t *testing.T) {
	for name, fill := range map[string]string{"private folder": "touch $dir/file", "empty private folder": ""} {
		t.Run(name, func(t *testing.T) {
			dir, unharmed := treasure(t, 0o700)
			p := hostile(t, "mount -t tmpfs none /mnt; mkdir /mnt/t; mount --bind "+dir+" /mnt/t\n"+
				"mount -t tmpfs -o mode=1777 none /tmp; mkdir $dir; "+fill+"\nmount --bind /mnt/t $dir")
			f, err := p.openFolder()
			if fill == "" { // what was mounted upon is taken away, and with it the mount
				require.NoError(t, err)
				require.NoError(t, f.Remove())
			} else {
				require.ErrorIs(t, err, unix.EXDEV)
			}
			unharmed()
		})
	}
	t.Run("folder of root", func(t *testing.T) { // without a mount
		p := hostile(t, "mount -t tmpfs -o mode=1777 none /tmp; mkdir -m 700 $dir; touch $dir/file")
		_, err := p.openFolder()
		require.ErrorContains(t, err, "user 0 has made it")
		require.FileExists(t, fmt.Sprintf("/proc/%d/root%s/file", p.pid, p.folderPath()))
	})
	t.Run("tmp", func(t *testing.T) {
		dir, unharmed := treasure(t, 0o755)
		p := hostile(t, "mount --bind "+dir+" /tmp")
		_, err := p.openFolder()
		require.ErrorContains(t, err, "user 65534 may not create entries in it")
		unharmed()
	})
	t.Run("files", func(t *testing.T) {
		dir, unharmed := treasure(t, 0o755)
		p := hostile(t, fmt.Sprintf("mkdir -m 700 $dir; chown %d:%d $dir; touch $dir/recording; mount --bind %s/file $dir/recording", nobody, nobody, dir))
		t.Cleanup(func() { os.RemoveAll(p.folderPath()) })
		f, err := p.openFolder()
		require.NoError(t, err)
		defer f.Close()
		_, err = f.readChunks(&untrusted.Guard{}, "recording", 0, 1<<20, nil, func(r recorded) { t.Errorf("took %q", r.chunk) })
		require.ErrorIs(t, err, unix.EXDEV)
		unharmed()
	})
}

// TestLeftEmptyFolder takes a folder over that was created and not given away yet.
func TestLeftEmptyFolder(t *testing.T) {
	p := hostile(t, "mount -t tmpfs -o mode=1777 none /tmp; mkdir -m 700 $dir")
	f, err := p.openFolder()
	require.NoError(t, err)
	require.NoError(t, f.Remove())
}

// privateFolder returns the folder of a process of another user.
func privateFolder(t *testing.T) *folder {
	t.Helper()
	p := hostile(t, "")
	f, err := p.openFolder()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Remove()) })
	return f
}

// TestHardLinks has names of root's files in the private folder, which a user may make
// where the kernel does not protect hard links: no hole may be cut into them.
func TestHardLinks(t *testing.T) {
	dir, unharmed := treasure(t, 0o755)
	f := privateFolder(t)
	for _, name := range []string{"recording", lockName, logName} {
		require.NoError(t, f.remove(name))
		require.NoError(t, os.Link(filepath.Join(dir, "file"), filepath.Join(f.path, name)))
		_, err := f.readChunks(&untrusted.Guard{}, name, 0, 1<<20, nil, func(r recorded) { t.Errorf("took %q", r.chunk) })
		require.ErrorContains(t, err, "belongs to user 0")
		_, err = f.openFile(name, unix.O_RDWR|unix.O_CREAT, 0o600)
		require.ErrorContains(t, err, "has 2 names")
		require.NoError(t, f.remove(name))
		unharmed()
	}
}

// TestEndlessRecording has a file of many terabytes that takes hardly any space: reading
// ends, and does not take up a call that others need.
func TestEndlessRecording(t *testing.T) {
	f := privateFolder(t)
	path := filepath.Join(f.path, "recording")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Chown(nobody, nobody))
	const most = 1 << 20
	for name, size := range map[string]int64{"small": chunkHeader, "large": most, "too large": most + 1} {
		for i := range int64(2 * maxChunks) {
			_, err = file.WriteAt(header(uint64(size), 70, 68, uint64(i+1)), i*size)
			require.NoError(t, err)
		}
		require.NoError(t, file.Truncate(1<<40))
		taken, bytes := 0, 0
		guard := &untrusted.Guard{}
		end, err := f.readChunks(guard, "recording", 0, most, nil, func(r recorded) {
			taken++
			bytes += len(r.chunk)
		})
		require.ErrorIs(t, err, untrusted.ErrTooLarge, name)
		require.Equal(t, int64(taken)*size, end, name)
		require.LessOrEqual(t, taken, maxChunks, name)
		require.LessOrEqual(t, bytes, maxChunkTimes*most, name)
		require.Zero(t, guard.Waiting())
		require.NoError(t, file.Truncate(0))
	}
}

// TestStuckProcess leaves a process alone that does not answer, so that it takes up one of
// the calls that may do so, not all of them.
func TestStuckProcess(t *testing.T) {
	s, err := New(Options{})
	require.NoError(t, err)
	pid := os.Getpid()
	require.True(t, s.due(pid))
	s.unreadable(pid, untrusted.ErrBusy)
	require.True(t, s.due(pid), "others are at fault")
	s.unreadable(pid, fmt.Errorf("maps: %w", untrusted.ErrTimeout))
	require.False(t, s.due(pid))
	s.unreadable(pid, errors.Join(os.ErrNotExist))
	require.False(t, s.due(pid))
}

// TestFakeJVMs has processes that pretend to be JVMs: one gets SIGQUIT and does not listen, one
// accepts and is silent, one answers without an end. None is recorded, keeps the source from
// ending, ends itself, or is left with a file of ours.
func TestFakeJVMs(t *testing.T) {
	dir := publicDir(t)
	bin := filepath.Join(dir, "fake")
	run(t, exec.Command(tool(t, "gcc", "gcc and libc6-dev"), "-pthread", "-w", "-o", bin, "testdata/fake.c"))
	var pids []int
	for _, how := range []string{"deaf", "endless", "silent", "silent"} {
		cmd := exec.Command(bin, filepath.Join(dir, "libjvm.so"), how)
		if os.Geteuid() == 0 && how == "silent" { // as another user, for one of both ways to connect
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			require.NoError(t, os.Chmod(dir, 0o777))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "libjvm.so"), nil, 0o666))
			require.NoError(t, os.Chmod(filepath.Join(dir, "libjvm.so"), 0o666))
		}
		pid := start(t, cmd).pid
		t.Cleanup(func() { os.Remove(fmt.Sprintf("/tmp/.java_pid%d", pid)) })
		pids = append(pids, pid)
	}
	var stored memory
	var said logged
	s, err := New(Options{
		Appender: &stored, Labels: func(pid int) labels.Labels { return labels.FromStrings("pid", fmt.Sprint(pid)) },
		Decode:   func(Chunk) ([]profile.Profile, error) { return nil, errors.New("nothing is recorded") },
		Selector: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "pid", fmt.Sprintf("%d|%d|%d|%d", pids[0], pids[1], pids[2], pids[3]))},
		Rescan:   200 * time.Millisecond, MinAge: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&said, nil)),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	await(t, "the deaf and the endless one to be given up", func() bool {
		return strings.Contains(said.String(), "does not listen for tools") && strings.Contains(said.String(), "answer has more than 262144 bytes")
	})
	cancel() // while the silent ones are waited for
	<-done
	require.NotContains(t, said.String(), "JVM is recorded")
	require.NotContains(t, said.String(), "may go on")
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, 0), "it runs")
		noFolder(t, pid)
	}
}
