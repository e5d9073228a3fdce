package symbolize

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// start runs a program until the test ends or stop is called, and returns when
// it has printed its first line.
func start(t *testing.T, path string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command(path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(stop)
	return cmd.Process.Pid, stop
}

func open(t *testing.T, o Options) *Symbolizer {
	t.Helper()
	s := New(o)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func addrOf(t *testing.T, path, name string) uint64 {
	t.Helper()
	for _, s := range nm(t, path) {
		if s.name == name {
			return s.addr
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}

func requireFunction(t *testing.T, s *Symbolizer, id FileID, addr uint64, want string) {
	t.Helper()
	lines, ok := s.Lookup(id, addr)
	require.True(t, ok, want)
	require.Equal(t, []Line{{Function: want}}, lines)
}

func TestLookupOfRunningProcess(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2")
	addr := addrOf(t, path, "global_work")
	pid, _ := start(t, path)
	begin, end := mapping(t, pid, path)
	s := open(t, Options{})
	s.Add(FileID{1}, Binary{Name: "shape", Path: path, PID: pid, Start: begin, End: end})
	requireFunction(t, s, FileID{1}, addr, "global_work")
	_, ok := s.Lookup(FileID{2}, addr)
	require.False(t, ok, "an unknown binary")
	_, ok = s.Lookup(FileID{1}, 1<<60)
	require.False(t, ok, "an address outside")
}

func TestLookupOfDeletedExecutable(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2")
	addr := addrOf(t, path, "global_work")
	pid, _ := start(t, path)
	begin, end := mapping(t, pid, path)
	require.NoError(t, os.Remove(path))
	// Another program takes its place, as an upgrade does.
	writeFile(t, path, []byte("#!/bin/sh\n"))
	s := open(t, Options{})
	s.Add(FileID{1}, Binary{Path: path + " (deleted)", PID: pid, Start: begin, End: end})
	requireFunction(t, s, FileID{1}, addr, "global_work")
	// Without the privilege for map_files the link to the executable serves.
	s.Add(FileID{2}, Binary{Path: path + " (deleted)", PID: pid})
	requireFunction(t, s, FileID{2}, addr, "global_work")
}

func TestLookupOfEndedProcess(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2")
	addr := addrOf(t, path, "global_work")
	pid, stop := start(t, path)
	begin, end := mapping(t, pid, path)
	s := open(t, Options{})
	s.Add(FileID{1}, Binary{Path: path, PID: pid, Start: begin, End: end})
	stop()
	require.NoError(t, os.Remove(path))
	requireFunction(t, s, FileID{1}, addr, "global_work")
	require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.files))
	s.expire(time.Now().Add(holdTime + time.Second))
	require.Equal(t, 0.0, testutil.ToFloat64(s.metrics.files), "descriptors are not held for ever")
	requireFunction(t, s, FileID{1}, addr, "global_work")
}

// A fixture in the place of /proc: a process with a root of its own, in which
// the debug file lies, reached over a symbolic link that means another place
// outside of that root.
func TestLookupInProcessRoot(t *testing.T) {
	full := compile(t, "gcc", "shape.c", "-O2", "-Wl,--build-id=0xabcdef0123456789abcdef0123456789abcdef01")
	addr := addrOf(t, full, "local_work")
	dir := t.TempDir()
	root := filepath.Join(dir, "container")
	debug := filepath.Join(root, "store/.build-id/ab/cdef0123456789abcdef0123456789abcdef01.debug")
	require.NoError(t, os.MkdirAll(filepath.Dir(debug), 0o755))
	run(t, "", "objcopy", "--only-keep-debug", full, debug)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/lib"), 0o755))
	require.NoError(t, os.Symlink("/store", filepath.Join(root, "usr/lib/debug")))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "app"), 0o755))
	run(t, "", "strip", "-o", filepath.Join(root, "app/shape"), full)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "proc/77"), 0o755))
	require.NoError(t, os.Symlink(root, filepath.Join(dir, "proc/77/root")))

	s := open(t, Options{ProcRoot: filepath.Join(dir, "proc")})
	s.Add(FileID{1}, Binary{Path: "/app/shape", PID: 77})
	requireFunction(t, s, FileID{1}, addr, "local_work")

	// The container's process ends: its path leads nowhere, but the descriptor
	// is held for as long as the binary is in use.
	run(t, "", "cp", full, filepath.Join(root, "app/full"))
	s.Add(FileID{4}, Binary{Path: "/app/full", PID: 77})
	requireFunction(t, s, FileID{4}, addr, "local_work")
	s.expire(time.Now().Add(holdTime + time.Second))
	s.mu.Lock()
	s.drop(s.entries[FileID{4}], "bytes")
	s.mu.Unlock()
	require.NoError(t, os.Remove(filepath.Join(dir, "proc/77/root")))
	requireFunction(t, s, FileID{4}, addr, "local_work")
	require.NoError(t, os.Symlink(root, filepath.Join(dir, "proc/77/root")))
	s.expire(time.Now().Add(time.Hour))
	require.Zero(t, testutil.ToFloat64(s.metrics.files))

	// A way out of the root leads nowhere; a FIFO does not block.
	require.NoError(t, os.Symlink(full, filepath.Join(root, "app/escape")))
	s.Add(FileID{2}, Binary{Path: "/app/escape", PID: 77})
	_, ok := s.Lookup(FileID{2}, addr)
	require.False(t, ok)
	run(t, "", "mkfifo", filepath.Join(root, "app/fifo"))
	s.Add(FileID{3}, Binary{Path: "/app/fifo", PID: 77})
	_, ok = s.Lookup(FileID{3}, addr)
	require.False(t, ok)
}

func TestLookupVDSO(t *testing.T) {
	r, size, err := openVDSO("/proc")
	require.NoError(t, err)
	require.Greater(t, size, int64(1000))
	path := filepath.Join(t.TempDir(), "vdso")
	data := make([]byte, size)
	_, err = r.ReadAt(data, 0)
	require.NoError(t, err)
	writeFile(t, path, data)
	s := open(t, Options{})
	s.Add(FileID{9}, Binary{Path: "linux-vdso.1.so", PID: os.Getpid()})
	found := 0
	for _, sym := range nm(t, path, "-D") {
		if strings.HasPrefix(sym.name, "__vdso_clock_gettime") {
			lines, ok := s.Lookup(FileID{9}, sym.addr)
			require.True(t, ok)
			require.Contains(t, lines[0].Function, "clock_gettime")
			found++
		}
	}
	require.NotZero(t, found)
}

// The memory stays within its bound whatever is looked up, a table is built
// once for all that ask at once, and a dropped table is built again.
func TestTablesAreBounded(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2", "-static")
	addr := addrOf(t, path, "global_work")
	one := tableOf(t, path).bytes()
	reg := prometheus.NewRegistry()
	s := open(t, Options{Registerer: reg, CacheBytes: one*2 + one/2})
	for i := range byte(10) {
		s.Add(FileID{i}, Binary{Path: path})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range byte(10) {
				if _, ok := s.Lookup(FileID{i}, addr); !ok {
					t.Error("lookup failed")
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, testutil.ToFloat64(s.metrics.bytes), float64(one*2+one/2))
	require.Equal(t, 2.0, testutil.ToFloat64(s.metrics.tables))
	builds := testutil.ToFloat64(s.metrics.builds.WithLabelValues("ok"))
	require.GreaterOrEqual(t, builds, 10.0)
	require.Equal(t, builds-2, testutil.ToFloat64(s.metrics.evictions.WithLabelValues("bytes")))
	requireFunction(t, s, FileID{0}, addr, "global_work")
	s.expire(time.Now().Add(time.Hour))
	require.Equal(t, 0.0, testutil.ToFloat64(s.metrics.tables))
	require.Equal(t, 0.0, testutil.ToFloat64(s.metrics.bytes))
	requireFunction(t, s, FileID{0}, addr, "global_work")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestFailuresAreRemembered(t *testing.T) {
	opened := 0
	s := open(t, Options{RetryAfter: time.Hour})
	s.Add(FileID{1}, Binary{Open: func() (Reader, int64, error) {
		opened++
		return nopCloser{strings.NewReader("no ELF file")}, 11, nil
	}})
	for range 5 {
		_, ok := s.Lookup(FileID{1}, 1)
		require.False(t, ok)
	}
	require.Equal(t, 1, opened)

	// A binary out of reach is tried again when another process offers it.
	path := compile(t, "gcc", "shape.c", "-O2")
	gone := filepath.Join(t.TempDir(), "gone")
	s.Add(FileID{2}, Binary{Path: gone})
	_, ok := s.Lookup(FileID{2}, 1)
	require.False(t, ok)
	s.Add(FileID{2}, Binary{Path: path})
	requireFunction(t, s, FileID{2}, addrOf(t, path, "global_work"), "global_work")
}

func TestReplacedFileIsNotRead(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2")
	s := open(t, Options{})
	s.Add(FileID{1}, Binary{Path: path})
	s.expire(time.Now().Add(holdTime + time.Second))
	other := compile(t, "gcc", "shape.c", "-O1", "-fno-pie", "-no-pie")
	require.NoError(t, os.Rename(other, path))
	_, ok := s.Lookup(FileID{1}, addrOf(t, path, "global_work"))
	require.False(t, ok, "another build under the same path has other addresses")
}

func TestOpenFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{OpenFiles: 3})
	for i := range byte(20) {
		path := filepath.Join(dir, fmt.Sprint(i))
		writeFile(t, path, []byte("x"))
		s.Add(FileID{i}, Binary{Path: path})
	}
	require.Len(t, s.held, 3)
	require.Equal(t, 3.0, testutil.ToFloat64(s.metrics.files))
}

func TestClose(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2")
	s := New(Options{})
	s.Add(FileID{1}, Binary{Path: path})
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, ok := s.Lookup(FileID{1}, 1)
	require.False(t, ok)
	s.Add(FileID{1}, Binary{Path: path})
	require.Empty(t, s.held)
}

var _ Reader = (*os.File)(nil)
var _ io.ReaderAt = nopCloser{}
