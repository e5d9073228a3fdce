package sample

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// inner, middle and outer are inlined into here.
func inner(pcs []uintptr) int  { return runtime.Callers(1, pcs) }
func middle(pcs []uintptr) int { return inner(pcs) }
func outer(pcs []uintptr) int  { return middle(pcs) }

//go:noinline
func here(pcs []uintptr) int { return outer(pcs) }

// TestGoTableAgreesWithRuntime compares the functions at the addresses of this
// program with those that the Go runtime itself finds.
func TestGoTableAgreesWithRuntime(t *testing.T) {
	require.Equal(t, "linux", runtime.GOOS, "this test reads the test binary, which is an ELF file on Linux")
	exe, err := os.Executable()
	require.NoError(t, err)
	f, err := os.Open(exe)
	require.NoError(t, err)
	defer f.Close()
	table, err := openGoTable(f)
	require.NoError(t, err)

	pcs := make([]uintptr, 32)
	pcs = pcs[:here(pcs)]
	var got []line
	seen := map[uintptr]bool{}
	for _, pc := range pcs {
		// The runtime's own list has an entry for each inlined call; those of
		// one function are next to each other.
		fn := runtime.FuncForPC(pc - 1)
		if seen[fn.Entry()] {
			continue
		}
		seen[fn.Entry()] = true
		lines, err := table.lines(uint64(pc - 1))
		require.NoError(t, err)
		got = append(got, lines...)
	}
	var want []line
	for frames := runtime.CallersFrames(pcs); ; {
		fr, more := frames.Next()
		want = append(want, line{function: fr.Function, file: fr.File, number: int64(fr.Line)})
		if !more {
			break
		}
	}
	require.GreaterOrEqual(t, len(want), 4)
	for i, w := range want {
		require.Less(t, i, len(got), "missing %v", want[i:])
		require.Equal(t, w.function, got[i].function)
		require.Equal(t, w.number, got[i].number, w.function)
		require.Equal(t, filepath.Base(w.file), filepath.Base(got[i].file))
	}
}

// buildBurn builds a small Go program and returns its path.
func buildBurn(t testing.TB, flags ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "burn")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", bin, "testdata/golang/burn.go")...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

// TestGoTableStripped checks that a stripped program's tables are found, as a
// fixed address program and as a position independent one.
func TestGoTableStripped(t *testing.T) {
	for _, flags := range [][]string{{"-ldflags=-s -w"}, {"-ldflags=-s -w", "-buildmode=pie"}} {
		f, err := os.Open(buildBurn(t, flags...))
		require.NoError(t, err)
		defer f.Close()
		table, err := openGoTable(f)
		require.NoError(t, err, flags)
		// Every function of the program has a name and most a file.
		var names []string
		files := 0
		for i := range table.count {
			entry, err := table.word(table.funcs + int64(i)*8)
			require.NoError(t, err)
			lines, err := table.lines(table.text + uint64(entry))
			require.NoError(t, err)
			names = append(names, lines[len(lines)-1].function)
			if lines[0].file != "" {
				files++
			}
		}
		require.Contains(t, names, "main.burnHeavy", flags)
		require.Greater(t, files, table.count*9/10, flags)
	}
}
