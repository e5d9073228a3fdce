//go:build linux && (amd64 || arm64)

package sample

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// Requests of the kernel to a FUSE server (fuse(4), include/uapi/linux/fuse.h).
const (
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseInit    = 26
)

// mountSilent mounts a file, of a file system that answers everything but reads,
// and returns its path and what unmounts it.
func mountSilent(t *testing.T) (name string, unmount func()) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "silent")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err, "this test needs FUSE")
	options := fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0,allow_other", fd)
	require.NoError(t, unix.Mount("silent", name, "fuse", 0, options), "this test needs FUSE, and root")
	var serving sync.WaitGroup
	serving.Go(func() { serveSilent(fd) })
	unmount = sync.OnceFunc(func() {
		// Those that wait get an error.
		require.NoError(t, unix.Unmount(name, unix.MNT_FORCE|unix.MNT_DETACH))
		serving.Wait()
		_ = unix.Close(fd)
	})
	t.Cleanup(unmount)
	return name, unmount
}

// serveSilent answers requests until the file system is unmounted.
func serveSilent(fd int) {
	le := binary.LittleEndian
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, request)
		if err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		var body []byte
		status := int32(0)
		switch le.Uint32(request[4:]) {
		case fuseForget, fuseRead:
			continue
		case fuseInit:
			body = make([]byte, 64)
			le.PutUint32(body, 7)
			le.PutUint32(body[4:], 31)
			le.PutUint32(body[20:], 4096) // bytes of a write
		case fuseGetattr:
			body = make([]byte, 16+88)
			le.PutUint64(body, 3600) // seconds that this holds
			le.PutUint64(body[16:], 1)
			le.PutUint64(body[24:], 1<<20) // bytes
			le.PutUint32(body[76:], unix.S_IFREG|0o644)
			le.PutUint32(body[80:], 1)
		case fuseOpen:
			body = make([]byte, 16)
		default:
			status = -int32(unix.ENOSYS)
		}
		answer := make([]byte, 16, 16+len(body))
		le.PutUint32(answer, uint32(16+len(body)))
		le.PutUint32(answer[4:], uint32(status))
		copy(answer[8:], request[8:16])
		if _, err := unix.Write(fd, append(answer, body...)); err != nil && err != unix.ENOENT {
			return
		}
	}
}

// TestSilentFile reads memory of a process that is a page of a file which does not
// come. (The kernel reads arguments and environments for procfs only if they are
// in no file.)
func TestSilentFile(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it mounts a file system, as root")
	}
	file, unmount := mountSilent(t)
	cmd := exec.Command(buildC("native/silentfile.c")(t, t.TempDir())[0], file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var addr int64
	_, err = fmt.Fscan(out, &addr)
	require.NoError(t, err)

	m := newMetrics(nil)
	r := newRemoteMemories(m, testLog(t))
	r.guard.Limit = 10 * time.Millisecond
	for range 3 {
		_, err = memoryOf(r, libpf.PID(cmd.Process.Pid)).GetRemoteMemory().ReadAt(make([]byte, 8), addr)
		require.ErrorIs(t, err, untrusted.ErrTimeout)
	}
	require.Equal(t, 1, r.guard.Waiting())
	require.Equal(t, 1.0, testutil.ToFloat64(m.unreadableMemory.WithLabelValues("timeout")))
	// The thread returns when the file system is given up.
	unmount()
	require.Eventually(t, func() bool { return r.guard.Waiting() == 0 }, time.Minute, time.Millisecond)
}
