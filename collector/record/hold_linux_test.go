package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// startHeld runs a command that is held, and returns its output and exit code. held is
// called each time that the command is stopped.
func startHeld(t *testing.T, held func(pid int), command ...string) (output string, code int) {
	requireKernel(t)
	t.Helper()
	var out bytes.Buffer
	c, err := prepare(Options{SessionOptions: SessionOptions{Selection: Selection{Command: command}}, Stdout: &out, Stderr: &out})
	require.NoError(t, err)
	require.True(t, c.hold)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, c.start(newMembers(Selection{Command: command}, nil).start, held))
	code = c.Wait()
	return out.String(), code
}

// TestHeldCommand checks with the kernel's list of mappings that a command is held at
// exec and with its libraries loaded, and that it runs as always afterwards.
func TestHeldCommand(t *testing.T) {
	var maps []string
	out, code := startHeld(t, func(pid int) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		require.NoError(t, err)
		maps = append(maps, string(data))
	}, "sh", "-c", "grep TracerPid /proc/self/status; exit 7")
	require.Equal(t, 7, code)
	require.Equal(t, "TracerPid:\t0\n", out)
	require.Len(t, maps, 2)
	require.NotContains(t, maps[0], "/libc")
	require.Contains(t, maps[1], "/libc", "the libraries are loaded")
}

// TestHeldCommandGetsSignals checks that a command that is held ends by signals as any
// other.
func TestHeldCommandGetsSignals(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		for stop := range 2 {
			calls := 0
			_, code := startHeld(t, func(pid int) {
				if calls++; calls == stop+1 {
					require.NoError(t, unix.Kill(pid, sig))
				}
			}, "sh", "-c", "exit 0")
			require.Equal(t, 128+int(sig), code, "%v at stop %d", sig, stop)
		}
	}
}

// TestHeldScript checks that a script, whose interpreter is what the kernel starts, is held too.
func TestHeldScript(t *testing.T) {
	name := t.TempDir() + "/script"
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\necho \"$1\"\n"), 0o755))
	stops := 0
	out, code := startHeld(t, func(int) { stops++ }, name, "word")
	require.Zero(t, code)
	require.Equal(t, "word\n", out)
	require.Equal(t, 2, stops)
}

// TestGainsRights checks that a command is not held that would lose rights by that.
func TestGainsRights(t *testing.T) {
	name := t.TempDir() + "/program"
	require.NoError(t, os.WriteFile(name, nil, 0o755))
	require.False(t, gainsRights(name))
	require.NoError(t, os.Chmod(name, 0o755|os.ModeSetuid))
	require.True(t, gainsRights(name))
	require.True(t, gainsRights(name+".missing"), "what is not known is not held")
}

func TestEntryOf(t *testing.T) {
	vector := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			b = binary.NativeEndian.AppendUint64(b, n)
		}
		return b
	}
	at, ok := entryOf(vector(3, 64, auxBase, 0x7f0000000000, auxEntry, 0x401000, 0, 0))
	require.True(t, ok)
	require.EqualValues(t, 0x401000, at)
	_, ok = entryOf(vector(auxBase, 0, auxEntry, 0x401000))
	require.False(t, ok, "a static program")
	_, ok = entryOf(vector(auxBase, 0x7f0000000000, auxEntry))
	require.False(t, ok, "cut")
	_, ok = entryOf([]byte(strings.Repeat("\xff", 15)))
	require.False(t, ok)
}
