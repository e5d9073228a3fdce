//go:build linux && (amd64 || arm64)

package sample

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/lpm"
	"go.opentelemetry.io/ebpf-profiler/support"
	"golang.org/x/sys/unix"
)

// TestUnnamedRuns checks which ranges are taken for those of a JIT compiler.
func TestUnnamedRuns(t *testing.T) {
	var ms []mapping
	for _, line := range []string{
		"1000-2000 r-xp 00000000 fe:00 77 /usr/bin/node",
		"2000-3000 rw-p 00000000 00:00 0 ",
		"3000-4000 rwxp 00000000 00:00 0 ",
		"4000-9000 ---p 00000000 00:00 0 [anon:v8]",
		"a000-b000 r-xp 00000000 00:00 0",
		"b000-c000 rw-p 00000000 00:00 0 [heap]",
		"c000-d000 rw-p 00000000 00:00 0",
		"e000-f000 r-xp 00000000 fe:00 78 /a file (deleted)",
		"7fff0000-7fff1000 r-xp 00000000 00:00 0 [vdso]",
		"", "nonsense", "5000-4000 r-xp 0 00:00 0", "1-2 r", "x-y r-xp 0 00:00 0",
	} {
		if m, ok := memoryMapping(line); ok {
			ms = append(ms, m)
		}
	}
	require.Len(t, ms, 9)
	runs := unnamedRuns(ms)
	require.Len(t, runs, 2)
	require.Equal(t, []mapping{ms[1], ms[2], ms[3]}, runs[0])
	require.Equal(t, []mapping{ms[4]}, runs[1])
	require.Empty(t, unnamedRuns(nil))

	prefixes, err := lpm.CalculatePrefixList(0x7f0000000000, 0x7f0000003000)
	require.NoError(t, err)
	require.Equal(t, []uint64{0x7f0000002000, 0x7f0000003000}, []uint64{prefixEnd(prefixes[0]), prefixEnd(prefixes[1])})
}

// TestOwnMappings reads those of this process.
func TestOwnMappings(t *testing.T) {
	const size = 3 << 12
	code, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(code)) }()
	ms, err := readMappings(libpf.PID(os.Getpid()))
	require.NoError(t, err)
	require.NotEmpty(t, unnamedRuns(ms))
	for _, run := range unnamedRuns(ms) {
		require.False(t, keepsFramePointers(libpf.PID(os.Getpid()), run), "nothing is in %v", run)
	}
	start, exe := identify(libpf.PID(os.Getpid()))
	self, err := os.Executable()
	require.NoError(t, err)
	require.Equal(t, self, exe)
	require.NotEmpty(t, start)
}

// TestLookBounds hands over stacktraces that are not what the kernel sends.
func TestLookBounds(t *testing.T) {
	j := &jitCode{wanted: make(chan libpf.PID, 2)}
	frame := func(kind libpf.FrameType, flags libpf.FrameFlags, length uint8, data uint64) uint64 {
		return libpf.NewEbpfFrameHeader(kind, flags, length, data)
	}
	for _, data := range [][]uint64{nil, {0}, {frame(libpf.NativeFrame, 0, 9, 0)}, {frame(libpf.NativeFrame, 0, 0, 0)}} {
		j.look(&libpf.EbpfTrace{PID: 1, FrameData: data})
		j.look(&libpf.EbpfTrace{PID: 1, FrameData: data, NumKernelFrames: 5})
	}
	require.Empty(t, j.wanted)
	cut := frame(libpf.UnknownFrame, support.FrameFlagError, 1, codeUnnamed)
	for range 3 { // does not block
		j.look(&libpf.EbpfTrace{PID: 7, FrameData: []uint64{0x1234, frame(libpf.NativeFrame, 0, 2, 8), 9, cut}, NumKernelFrames: 1})
	}
	require.Len(t, j.wanted, 2)
	require.EqualValues(t, 7, <-j.wanted)
}
