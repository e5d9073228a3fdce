package symbolize

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReadPerfMap(t *testing.T) {
	m, err := readPerfMap(strings.NewReader(`7f0000001000 40 LazyCompile:*validate /app/server.js:10
0x7f0000001040 0x10 py::work:/app/main.py
7f0000002000 100 old
7f0000002080 100 new
7f0000002000 20 newest
zz 10 not hexadecimal
7f0000003000 0 empty
ffffffffffffffff ffff beyond the end
7f0000004000
7f0000005000 10 _ZN4shop5totalEv
7f0000006000 10 half writ`))
	require.NoError(t, err)
	at := func(addr uint64) string {
		name, ok := m.find(addr)
		if !ok {
			return ""
		}
		return m.raw(name)
	}
	require.Equal(t, "LazyCompile:*validate /app/server.js:10", at(0x7f000000103f))
	require.Equal(t, "py::work:/app/main.py", at(0x7f0000001040))
	require.Equal(t, "", at(0x7f0000001050))
	require.Equal(t, "newest", at(0x7f0000002000))
	require.Equal(t, "old", at(0x7f0000002020))
	require.Equal(t, "new", at(0x7f0000002080))
	require.Equal(t, "new", at(0x7f000000217f))
	require.Equal(t, "", at(0x7f0000003000))
	require.Equal(t, "", at(^uint64(0)))
	_, err = readPerfMap(strings.NewReader("nothing"))
	require.ErrorIs(t, err, errNoSymbols)
}

func TestLookupPerfMap(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	writeFile(t, filepath.Join(dir, "proc/500/status"), []byte("Name:\tnode\nPid:\t500\nNSpid:\t500\t12\t7\n"))
	require.NoError(t, os.Symlink(root, filepath.Join(dir, "proc/500/root")))
	file := filepath.Join(root, "tmp/perf-7.map")
	s := open(t, Options{ProcRoot: filepath.Join(dir, "proc")})

	_, ok := s.LookupPerfMap(500, 0x1000)
	require.False(t, ok, "no map yet")
	writeFile(t, file, []byte("1000 10 first\n"))
	s.perf.maps[500].next = time.Time{}
	lines, ok := s.LookupPerfMap(500, 0x100f)
	require.True(t, ok)
	require.Equal(t, []Line{{Function: "first"}}, lines)

	writeFile(t, file, []byte("1000 10 first\n1010 10 _ZN4shop5totalEv\n"))
	_, ok = s.LookupPerfMap(500, 0x1010)
	require.False(t, ok, "a map is not read again at once")
	s.perf.maps[500].next = time.Time{}
	lines, ok = s.LookupPerfMap(500, 0x1010)
	require.True(t, ok)
	require.Equal(t, []Line{{Function: "shop::total"}}, lines)

	_, ok = s.LookupPerfMap(501, 0x1010)
	require.False(t, ok, "no such process")
	require.Positive(t, s.perf.size())
	s.expire(time.Now().Add(time.Hour))
	require.Zero(t, s.perf.size())
}

func TestPerfMapsAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{ProcRoot: filepath.Join(dir, "proc"), CacheBytes: 64 << 10})
	for pid := 1; pid <= 20; pid++ {
		root := filepath.Join(dir, fmt.Sprint("root", pid))
		writeFile(t, filepath.Join(dir, fmt.Sprintf("proc/%d/status", pid)), []byte("Name:\tnode\n"))
		require.NoError(t, os.Symlink(root, filepath.Join(dir, fmt.Sprintf("proc/%d/root", pid))))
		var text strings.Builder
		for i := range 100 {
			fmt.Fprintf(&text, "%x 10 function number %d\n", 0x1000+i*16, i)
		}
		writeFile(t, filepath.Join(root, fmt.Sprintf("tmp/perf-%d.map", pid)), []byte(text.String()))
		lines, ok := s.LookupPerfMap(pid, 0x1010)
		require.True(t, ok)
		require.Equal(t, "function number 1", lines[0].Function)
		require.LessOrEqual(t, s.perf.size(), s.perf.maxBytes)
	}
	require.Less(t, len(s.perf.maps), 20)
}

func TestNamespacePID(t *testing.T) {
	require.Equal(t, 7, namespacePID([]byte("Name:\tx\nNSpid:\t500\t12\t7\n"), 500))
	require.Equal(t, 500, namespacePID([]byte("NSpid:\t500\n"), 500))
	require.Equal(t, 500, namespacePID([]byte("NSpid:\n"), 500))
	require.Equal(t, 500, namespacePID(nil, 500))
}
