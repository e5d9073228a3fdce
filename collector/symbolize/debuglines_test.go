package symbolize

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// units builds a program of several units with a function f1, f2 and so on each, which
// inlines another one.
func units(t *testing.T, n int, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"-g", "-O2", "-o", "units"}, flags...)
	var calls strings.Builder
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("u%d.c", i)
		writeFile(t, filepath.Join(dir, name), fmt.Appendf(nil, `
static inline __attribute__((always_inline)) int add%d(volatile int *p) { return *p + %d; }
int f%d(volatile int *p) { return add%d(p); }
`, i, i, i, i))
		fmt.Fprintf(&calls, "int f%d(volatile int *);\n", i)
		args = append(args, name)
	}
	writeFile(t, filepath.Join(dir, "main.c"), []byte(calls.String()+"int main(int argc, char **argv) { volatile int x = argc; return f1(&x); }\n"))
	run(t, dir, "gcc", append(args, "main.c")...)
	return filepath.Join(dir, "units")
}

// TestUnitsAreDropped looks up addresses in more units than the cache may hold.
func TestUnitsAreDropped(t *testing.T) {
	const n = 8
	path := units(t, n)
	s := open(t, Options{CacheBytes: 8 << 10, Style: Short})
	s.Add(FileID{1}, Binary{Path: path})
	for range 2 {
		for i := 1; i <= n; i++ {
			addr := addrOf(t, path, fmt.Sprintf("f%d", i))
			lines, ok := s.Lookup(FileID{1}, addr)
			require.True(t, ok)
			file := filepath.Join(filepath.Dir(path), fmt.Sprintf("u%d.c", i))
			require.Equal(t, []Line{{fmt.Sprintf("add%d", i), file, 2}, {fmt.Sprintf("f%d", i), file, 3}}, lines)
			e := s.entries[FileID{1}]
			require.Equal(t, e.bytes+e.lines.bytes(), s.bytes)
			require.LessOrEqual(t, e.lines.unitBytes, s.o.CacheBytes/4)
			require.LessOrEqual(t, e.lines.answerBytes, s.o.CacheBytes/8)
			require.NotEmpty(t, e.lines.units)
			require.Less(t, len(e.lines.units), n)
		}
	}
	s.mu.Lock()
	s.drop(s.entries[FileID{1}], "idle")
	require.Zero(t, s.bytes)
	s.mu.Unlock()
}

// slowReader waits before it reads until it is released, once it is told to.
type slowReader struct {
	*os.File
	slow    *bool
	release chan struct{}
}

func (r slowReader) ReadAt(b []byte, off int64) (int, error) {
	if *r.slow {
		<-r.release
	}
	return r.File.ReadAt(b, off)
}

// TestSlowLines has a read of lines take longer than lookups wait. Functions have names
// meanwhile, no other read begins, and lines are there once it ends.
func TestSlowLines(t *testing.T) {
	path := units(t, 1)
	addr := addrOf(t, path, "f1")
	s := open(t, Options{})
	s.readingLines.Limit = 1 // ns
	slow, opened := false, 0
	release := make(chan struct{})
	s.Add(FileID{1}, Binary{Name: "slow", Open: func() (Reader, int64, error) {
		opened++
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		return slowReader{f, &slow, release}, info.Size(), err
	}})
	s.build(s.entries[FileID{1}])
	slow = true
	for range 3 {
		requireFunction(t, s, FileID{1}, addr, "f1")
	}
	close(release)
	require.Eventually(t, func() bool {
		lines, _ := s.Lookup(FileID{1}, addr)
		return len(lines) == 2 && lines[0].Line == 2
	}, 30*time.Second, time.Millisecond)
	require.Equal(t, 2, opened, "for names, and for lines")
}

// TestCostlyLinesArePutOff reads no lines of a binary any more that cost too much.
func TestCostlyLinesArePutOff(t *testing.T) {
	path := units(t, 2)
	s := open(t, Options{})
	s.Add(FileID{1}, Binary{Path: path})
	lines, _ := s.Lookup(FileID{1}, addrOf(t, path, "f1"))
	require.Len(t, lines, 2)
	e := s.entries[FileID{1}]
	require.Positive(t, e.linesSteps)
	s.keepLines(e, e.lines, &linesRead{steps: maxBinarySteps}, nil, 0)
	requireFunction(t, s, FileID{1}, addrOf(t, path, "f2"), "f2")
	lines, _ = s.Lookup(FileID{1}, addrOf(t, path, "f1"))
	require.Len(t, lines, 2, "what is known stays")
	// A day makes up for it.
	e.linesSince, e.linesRetry = time.Now().Add(-24*time.Hour), time.Time{}
	lines, _ = s.Lookup(FileID{1}, addrOf(t, path, "f2"))
	require.Len(t, lines, 2)
	require.Less(t, e.linesSteps, int64(maxBinarySteps))
}

// TestInflatedFiles has room for the compressed DWARF of one of two programs: that of
// the other is dropped and inflated again.
func TestInflatedFiles(t *testing.T) {
	dir := t.TempDir()
	first, second := units(t, 1, "-gz"), units(t, 1, "-gz")
	s := open(t, Options{InflateDir: dir})
	s.Add(FileID{1}, Binary{Path: first})
	s.Add(FileID{2}, Binary{Path: second})
	check := func(id byte) {
		lines, _ := s.Lookup(FileID{id}, addrOf(t, first, "f1"))
		require.Len(t, lines, 2)
		require.Equal(t, 1, inflatedFiles(t, dir))
	}
	check(1)
	s.o.InflateBytes = s.inflated
	require.Positive(t, s.inflated)
	check(2)
	require.Equal(t, s.o.InflateBytes, s.inflated)
	require.Nil(t, s.entries[FileID{1}].lines)
	check(1)
	require.NoError(t, s.Close())
	require.Zero(t, inflatedFiles(t, dir))
	require.Zero(t, s.inflated)

	// No room at all, and no directory.
	none := open(t, Options{InflateDir: dir, InflateBytes: 1})
	none.Add(FileID{1}, Binary{Path: first})
	requireFunction(t, none, FileID{1}, addrOf(t, first, "f1"), "f1")
	gone := open(t, Options{InflateDir: filepath.Join(first, "gone")})
	gone.Add(FileID{1}, Binary{Path: first})
	lines, _ := gone.Lookup(FileID{1}, addrOf(t, first, "f1"))
	require.Len(t, lines, 2, "inflated into memory")
	require.Equal(t, 0.0, testutil.ToFloat64(gone.metrics.bad.WithLabelValues("part", "malformed")))

	// The directory is made once it is needed.
	later := filepath.Join(dir, "below", "later")
	s = open(t, Options{InflateDir: later})
	require.NoDirExists(t, later)
	s.Add(FileID{1}, Binary{Path: first})
	lines, _ = s.Lookup(FileID{1}, addrOf(t, first, "f1"))
	require.Len(t, lines, 2)
	require.Equal(t, 1, inflatedFiles(t, later))
}

// inflatedFiles returns how many files without a name of a directory are open.
func inflatedFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.HasPrefix(target, dir+"/inflated-") {
			n++
		}
	}
	return n
}
