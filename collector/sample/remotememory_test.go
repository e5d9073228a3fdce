//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// startSilent starts a process that has memory which does not come, and returns
// its number and the memory's address.
func startSilent(t *testing.T) (pid libpf.PID, addr int64, kill func()) {
	t.Helper()
	cmd := exec.Command(buildC("native/silent.c")(t, t.TempDir())[0])
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	_, err = fmt.Fscan(out, &addr)
	require.NoError(t, err, "this test needs userfaultfd")
	return libpf.PID(cmd.Process.Pid), addr, kill
}

func memoryOf(r *remoteMemories, pid libpf.PID) process.Process {
	reader := processReader{memories: r, files: newFileChecks(r.metrics, r.log)}
	return reader.checked(process.New(pid, pid))
}

// TestSilentMemory reads memory that does not come: the reader is given up, the
// process is counted, named and left alone, and others can be read.
func TestSilentMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: userfaultfd needs root")
	}
	var log bytes.Buffer
	m := newMetrics(nil)
	r := newRemoteMemories(m, slog.New(slog.NewTextHandler(&log, nil)))
	r.guard.Limit = time.Millisecond
	pid, addr, kill := startSilent(t)
	p := make([]byte, 8)
	for range 3 {
		_, err := memoryOf(r, pid).GetRemoteMemory().ReadAt(p, addr)
		require.ErrorIs(t, err, untrusted.ErrTimeout)
	}
	require.Equal(t, 1, r.guard.Waiting(), "one thread waits for it")
	require.Equal(t, 1.0, testutil.ToFloat64(m.unreadableMemory.WithLabelValues("timeout")))
	require.Contains(t, log.String(), fmt.Sprintf("pid=%d", pid))
	require.Contains(t, log.String(), "silent")

	r.guard.Limit = 0 // the default
	self := libpf.PID(os.Getpid())
	want := bytes.Repeat([]byte("0123456789abcdef"), memoryPart/10)
	got := make([]byte, len(want))
	n, err := memoryOf(r, self).GetRemoteMemory().ReadAt(got, int64(uintptr(unsafe.Pointer(&want[0]))))
	require.NoError(t, err)
	require.Equal(t, len(want), n)
	require.Equal(t, want, got)

	// The thread returns with the end of the process.
	kill()
	require.Eventually(t, func() bool { return r.guard.Waiting() == 0 }, time.Minute, time.Millisecond)

	// Another process of the same number can be read.
	state := r.of(pid)
	require.False(t, state.refused())
}

// TestLateMemory checks that a process whose memory came late is read again soon, and
// ever later if it is late again.
func TestLateMemory(t *testing.T) {
	r := newRemoteMemories(newMetrics(nil), slog.New(slog.DiscardHandler))
	s := r.of(libpf.PID(os.Getpid()))
	require.False(t, s.refused())
	var refusals []time.Duration
	for range 8 {
		r.refuse(s, "memory", "timeout", untrusted.ErrTimeout)
		require.True(t, s.refused())
		require.Same(t, s, r.of(s.pid))
		refusals = append(refusals, s.refusal)
		s.until.Store(1) // it is over
		require.False(t, s.refused())
	}
	require.Equal(t, firstRefusal, refusals[0])
	require.Equal(t, 2*firstRefusal, refusals[1])
	require.Equal(t, unreadableTime, refusals[7])
}

// TestSilentMemoryIsBounded has every process of many have memory that does not
// come: each costs less time, and in the end none.
func TestSilentMemoryIsBounded(t *testing.T) {
	m := newMetrics(nil)
	r := newRemoteMemories(m, slog.New(slog.DiscardHandler))
	r.guard.Limit, r.guard.Stuck = time.Millisecond, 5
	release := make(chan struct{})
	for pid := range 20 {
		_, err := ofMemory(r, r.of(libpf.PID(1<<22+pid)), "memory", func() (int, error) { <-release; return 0, nil })
		require.Error(t, err)
	}
	require.Equal(t, 5, r.guard.Waiting())
	require.Equal(t, 5.0, testutil.ToFloat64(m.unreadableMemory.WithLabelValues("timeout")))
	require.Equal(t, 15.0, testutil.ToFloat64(m.unreadableMemory.WithLabelValues("busy")))
	close(release)
	require.Eventually(t, func() bool { return r.guard.Waiting() == 0 }, time.Minute, time.Millisecond)
	r.guard.Limit = 0
	n, err := ofMemory(r, r.of(1<<22+19), "memory", func() (int, error) { return 7, nil })
	require.NoError(t, err, "a process that was refused because of others")
	require.Equal(t, 7, n)
	require.True(t, r.silent[1<<22] != nil && r.silent[1<<22].refused())
}

// TestSilentMappings has a process whose list of mappings does not come.
func TestSilentMappings(t *testing.T) {
	m := newMetrics(nil)
	r := newRemoteMemories(m, slog.New(slog.DiscardHandler))
	release := make(chan struct{})
	defer close(release)
	reader := processReader{memories: r}
	reader.maps.Limit = time.Millisecond
	_, err := reader.checked(unlisted{release: release}).IterateMappings(func(process.RawMapping) bool { return true })
	require.True(t, os.IsPermission(err), "the library leaves the process alone: %v", err)
	require.Equal(t, 1.0, testutil.ToFloat64(m.unreadableMemory.WithLabelValues("timeout")))
}

type unlisted struct {
	process.Process
	release chan struct{}
}

func (unlisted) PID() libpf.PID { return 1 << 22 }

func (u unlisted) IterateMappings(func(process.RawMapping) bool) (uint32, error) {
	<-u.release
	return 0, nil
}

// TestSilentProcess samples a machine on which one process has memory that does
// not come. Processes that begin afterwards are sampled as ever, and sampling
// ends when it is told to.
func TestSilentProcess(t *testing.T) {
	requireKernel(t)
	command := buildC("native/burn.c")(t, t.TempDir())
	m, reg, stop := startSource(t, 397)
	startSilent(t)
	require.Eventually(t, func() bool {
		n, _ := metricSum(t, reg, "unreadable_memory_total")
		return n > 0
	}, time.Minute, 10*time.Millisecond, "the silent process was not read")
	b, err := burn(t, command, "3")
	require.NoError(t, err)
	stop()
	ss := m.stacks("pid", b.pid)
	total := sum(ss, nil)
	whole := sum(ss, func(s stack) bool {
		return s.has("worker", "turn") && (slices.Contains(s.functions, "burn_heavy") || slices.Contains(s.functions, "burn_light"))
	})
	t.Logf("%.3f of %.3f s whole", whole/1e9, total/1e9)
	require.InEpsilon(t, b.process, total, 0.1)
	require.Greater(t, whole, 0.7*total)
}

// TestKeptPages reads a process of which pages are kept: what was read stays as it
// was for the goroutine that keeps them, others see memory as it is, and where a
// page is missing the result is that of a read without kept pages.
func TestKeptPages(t *testing.T) {
	r := newRemoteMemories(newMetrics(nil), slog.New(slog.DiscardHandler))
	self := libpf.PID(os.Getpid())
	rm := memoryOf(r, self).GetRemoteMemory()
	memory, err := unix.Mmap(-1, 0, 3*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	missing := 2 * os.Getpagesize()
	require.NoError(t, unix.Mprotect(memory[missing:], unix.PROT_NONE))
	for i := range missing {
		memory[i] = byte(i / 7)
	}
	base := int64(uintptr(unsafe.Pointer(&memory[0])))
	read := func(at, length int) (got []byte, n int, failed bool) {
		got = make([]byte, length)
		n, err := rm.ReadAt(got, base+int64(at))
		return got[:n], n, err != nil
	}

	spans := [][2]int{{0, 8}, {pageSize - 3, 8}, {1, 2*pageSize + 9}, {missing - 4, 8}, {missing, 8}, {5, maxPagewise + 1}}
	for _, s := range spans {
		want, wantN, wantFailed := read(s[0], s[1])
		forget := r.keepPages(self)
		for range 2 {
			got, n, failed := read(s[0], s[1])
			require.Equal(t, wantFailed, failed, "%v", s)
			require.Equal(t, wantN, n, "%v", s)
			require.Equal(t, want, got, "%v", s)
		}
		forget()
	}

	forget := r.keepPages(self)
	_, _, failed := read(16, 1)
	require.False(t, failed)
	memory[16] = 200
	got, _, _ := read(16, 1)
	require.Equal(t, byte(16/7), got[0], "kept")
	other := make(chan byte)
	go func() {
		got, _, _ := read(16, 1)
		other <- got[0]
	}()
	require.Equal(t, byte(200), <-other, "another goroutine")
	require.Nil(t, r.pagesOf(self+1), "another process")
	forget()
	got, _, _ = read(16, 1)
	require.Equal(t, byte(200), got[0], "forgotten")
}

// BenchmarkReadProcess reads what the library reads to know a JVM: 7,500 values of
// 8, 40 and 1,024 bytes from 140 pages; each, and with the pages kept.
func BenchmarkReadProcess(b *testing.B) {
	const pages, values = 140, 7500
	memory := make([]byte, pages*pageSize)
	base := int64(uintptr(unsafe.Pointer(&memory[0])))
	self := libpf.PID(os.Getpid())
	for _, kept := range []bool{false, true} {
		b.Run(fmt.Sprintf("kept=%v", kept), func(b *testing.B) {
			r := newRemoteMemories(newMetrics(nil), slog.New(slog.DiscardHandler))
			rm := memoryOf(r, self).GetRemoteMemory()
			lengths := []int{8, 40, 1024}
			buffer := make([]byte, 1024)
			for b.Loop() {
				forget := func() {}
				if kept {
					forget = r.keepPages(self)
				}
				for i := range values {
					at := i * 7919 * 8 % (len(memory) - len(buffer))
					_, err := rm.ReadAt(buffer[:lengths[i%len(lengths)]], base+int64(at))
					require.NoError(b, err)
				}
				forget()
			}
		})
	}
}
