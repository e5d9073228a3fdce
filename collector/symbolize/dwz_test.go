package symbolize

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLinesAfterDwz moves what two debug files have in common to a third, as Debian's
// packages do. The names of inlined functions are there; without it they are left out,
// and no other name takes their place.
func TestLinesAfterDwz(t *testing.T) {
	if _, err := exec.LookPath("dwz"); err != nil {
		t.Fatalf("%v: install dwz", err)
	}
	root := t.TempDir()
	debugDir := filepath.Join(root, "usr/lib/debug/.build-id/ab")
	require.NoError(t, os.MkdirAll(debugDir, 0o755))
	full := map[string]string{}
	for _, n := range []string{"1", "2"} {
		full[n] = compile(t, "g++", "shape.cc", "-g", "-O2", "-DN="+n, "-Wl,--build-id=0xabcdef012345678"+n)
		run(t, root, "objcopy", "--strip-all", full[n], "shape"+n)
		run(t, root, "objcopy", "--only-keep-debug", full[n], filepath.Join(debugDir, "cdef012345678"+n+".debug"))
	}
	var addrs []uint64
	for _, s := range nm(t, full["1"]) {
		addrs = append(addrs, s.addr, s.addr+s.size/2)
	}
	want := linesOf(t, Options{}, full["1"], addrs...)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/lib/debug/.dwz"), 0o755))
	common := filepath.Join(root, "usr/lib/debug/.dwz/common.debug")
	run(t, debugDir, "dwz", "-m", common, "-M", "/usr/lib/debug/.dwz/common.debug", "cdef0123456781.debug", "cdef0123456782.debug")

	lookup := func() [][]Line {
		s := open(t, Options{ProcRoot: procOf(t, root)})
		s.Add(FileID{1}, Binary{Path: "/shape1", PID: 7})
		return s.LookupAll(FileID{1}, addrs)
	}
	require.Equal(t, want, lookup())

	require.NoError(t, os.Remove(common))
	inlined, missing := 0, 0
	for i, lines := range lookup() {
		if len(want[i]) == 0 {
			continue
		}
		inlined += len(want[i]) - 1
		for _, l := range lines {
			if !slices.Contains(want[i], l) {
				t.Errorf("%#x: %v is not in %v", addrs[i], l, want[i])
			}
		}
		missing += len(want[i]) - len(lines)
	}
	require.Positive(t, missing)
	t.Logf("%d of %d inlined calls have no name without the common file", missing, inlined)
}

// TestLinesOfSplitDWARF leaves the entries in files of their own, which are not read:
// there are no lines then, which would be those of inlined functions.
func TestLinesOfSplitDWARF(t *testing.T) {
	path := compile(t, "g++", "shape.cc", "-g", "-O2", "-gsplit-dwarf")
	var addrs []uint64
	for _, s := range nm(t, path) {
		addrs = append(addrs, s.addr, s.addr+s.size/2)
	}
	for i, lines := range linesOf(t, Options{}, path, addrs...) {
		for _, l := range lines {
			require.Empty(t, l.File, "%#x", addrs[i])
		}
	}
}
