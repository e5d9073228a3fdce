//go:build linux && (amd64 || arm64)

package sample

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"golang.org/x/sys/unix"
)

func TestParseMount(t *testing.T) {
	device, kind, ok := parseMount("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - fuse.sshfs me@host:/ rw,errors=continue")
	require.True(t, ok)
	require.EqualValues(t, 98<<8, device)
	require.True(t, isRemote(kind))
	_, kind, ok = parseMount("29 1 0:26 / / rw - overlay overlay rw")
	require.True(t, ok)
	require.False(t, isRemote(kind))
	for _, kind := range []string{"nfs", "nfs4", "fuseblk", "cifs", "smb3", "9p", "ceph"} {
		require.True(t, isRemote(kind), kind)
	}
	for _, bad := range []string{"", "1 2", "1 2 3 - x", "1 2 a:b / / - ext4 x"} {
		_, _, ok = parseMount(bad)
		require.False(t, ok, bad)
	}
}

// TestMayHang asks for the device of a temporary directory and for one that does
// not exist.
func TestMayHang(t *testing.T) {
	var st unix.Stat_t
	require.NoError(t, unix.Stat("/proc/self", &st))
	var s fileSystems
	self := libpf.PID(os.Getpid())
	require.False(t, s.mayHang(self, uint64(unix.Major(st.Dev))<<8+uint64(unix.Minor(st.Dev))))
	require.True(t, s.mayHang(self, unknownDevice))
	require.True(t, s.mayHang(self, unknownDevice))
}
