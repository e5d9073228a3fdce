//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The monitor is the one thread that sleeps for microseconds while another one works.
func TestMonitorThread(t *testing.T) {
	requireKernel(t)
	tid, err := monitorThread()
	require.NoError(t, err)
	sleeps := func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
		require.NoError(t, err)
		return strings.HasPrefix(string(text), fmt.Sprint(unix.SYS_NANOSLEEP)+" ")
	}
	require.Eventually(t, sleeps, 10*time.Second, time.Millisecond)

	require.NoError(t, relaxMonitor())
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", tid))
	require.NoError(t, err)
	require.Equal(t, "1000000\n", string(text))
}
