package sample

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// buildOld builds a program of one file with an old version of Go.
func buildOld(t testing.TB, version, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(source)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), data, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module old\n\ngo 1.16\n"), 0o600))
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", "main", "main.go")...)
	cmd.Dir = dir
	// "go test" sets GOROOT for its own version.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GOROOT=") }),
		"GOTOOLCHAIN="+version, "GOFLAGS=-mod=mod", "PWD="+dir, "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "build with %s, which the module proxy has: %s", version, out)
	return filepath.Join(dir, "main")
}

// TestGoTableOfOldVersions builds a program with versions of Go that have other
// function tables, stripped, and compares the functions at its addresses with
// those that its own runtime finds.
func TestGoTableOfOldVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it fetches old versions of Go")
	}
	for version, magic := range map[string]uint32{"go1.17.13": goMagic116, "go1.19.13": goMagic118} {
		t.Run(version, func(t *testing.T) {
			exe := buildOld(t, version, "testdata/golang/callers/main.go", "-ldflags=-s -w")
			out, err := exec.Command(exe).Output()
			require.NoError(t, err)
			f, err := os.Open(exe)
			require.NoError(t, err)
			defer f.Close()
			table, err := openGoTable(f)
			require.NoError(t, err)
			require.Equal(t, magic, table.layout.magic)
			checkCallers(t, table, out)
			checkAllFunctions(t, table)
		})
	}
}

// checkCallers compares a table with what the program in testdata/golang/callers
// has printed.
func checkCallers(t *testing.T, table *goTable, printed []byte) {
	t.Helper()
	var want, got []line
	seen, deepest := map[uint64]bool{}, 0
	for in := bufio.NewScanner(bytes.NewReader(printed)); in.Scan(); {
		var pc, entry uint64
		if _, err := fmt.Sscanf(in.Text(), "pc 0x%x 0x%x", &pc, &entry); err == nil {
			// The runtime has an address for each inlined call; those of one function
			// are next to each other, and the first is where the code is.
			if !seen[entry] {
				seen[entry] = true
				lines, err := table.lines(pc - 1)
				require.NoError(t, err)
				got, deepest = append(got, lines...), max(deepest, len(lines))
			}
			continue
		}
		fields := strings.SplitN(in.Text(), " ", 3)
		require.Len(t, fields, 3, in.Text())
		ln := line{function: fields[0], file: fields[2]}
		_, err := fmt.Sscan(fields[1], &ln.number)
		require.NoError(t, err)
		want = append(want, ln)
	}
	require.Equal(t, want, got)
	require.GreaterOrEqual(t, len(seen), 4)
	require.GreaterOrEqual(t, deepest, 4, "here, outer, middle, inner")
}

// checkAllFunctions checks that every function of a table has a name and most a
// file.
func checkAllFunctions(t *testing.T, table *goTable) {
	t.Helper()
	size, files := table.layout.entrySize(), 0
	p := make([]byte, size)
	for i := range table.count {
		require.NoError(t, table.read(p, table.funcs+int64(i)*size))
		entry, _ := table.entryAt(p)
		lines, err := table.lines(table.text + entry)
		require.NoError(t, err)
		require.NotEmpty(t, lines[len(lines)-1].function)
		if lines[0].file != "" {
			files++
		}
	}
	require.Greater(t, files, table.count*9/10)
}

// TestGoTableOfUnknownVersion checks that a table of an unknown version is not
// read as if it were a known one.
func TestGoTableOfUnknownVersion(t *testing.T) {
	p := loadGoProgram(t)
	for _, magic := range []uint32{0xfffffffb, 0xfffffff2, 0} {
		lie := p.with()
		lie.patches = append(lie.patches, patch{int64(p.pclntab.Offset), binary.LittleEndian.AppendUint32(nil, magic)})
		_, _, _, err := lookUp(lie, p.heavy)
		require.ErrorIs(t, err, errNoGoTable)
		require.ErrorContains(t, err, fmt.Sprintf("%#x", magic))
	}
}
