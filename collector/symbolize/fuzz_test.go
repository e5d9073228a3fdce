package symbolize

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// seeds are small real binaries: with symbols, stripped with MiniDebugInfo,
// with PLT stubs, 32 bit.
func seeds(f *testing.F) [][]byte {
	dir := f.TempDir()
	src := filepath.Join(dir, "a.c")
	writeFile(f, src, []byte("extern int other(int); static int local(int n) { return n * 3; }\n"+
		"int visible(int n) { return local(n) + other(n); }\nint other(int n) { return n; }\n"))
	build := func(name string, flags ...string) string {
		out := filepath.Join(dir, name)
		run(f, dir, "gcc", append(flags, "-nostdlib", "-shared", "-fPIC", "-O0", "-Wl,-z,noseparate-code", "-o", out, src)...)
		return out
	}
	files := []string{build("with"), build("hash", "-Wl,--hash-style=sysv")}
	run(f, dir, "xz", "-k", "with")
	run(f, dir, "objcopy", "--strip-all", "--add-section=.gnu_debugdata=with.xz", "with", "mini")
	files = append(files, filepath.Join(dir, "mini"))
	if exec.Command("gcc", "-m32", "-nostdlib", "-shared", "-o", filepath.Join(dir, "m32"), src).Run() == nil {
		files = append(files, filepath.Join(dir, "m32"))
	}
	var out [][]byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

// Whatever the bytes, reading symbols neither panics nor takes much more
// memory than the file has bytes, and what it yields is sorted, disjoint and
// named.
func FuzzReadTable(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		table, err := buildTable(&file{Reader: nopCloser{bytes.NewReader(data)}, size: int64(len(data))}, Binary{Path: "/x/y"}, func(string) (*file, error) {
			return nil, errors.New("no debug files")
		})
		runtime.ReadMemStats(&after)
		// A fixed allowance for windows, headers and the xz dictionary.
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 600<<20 {
			t.Fatalf("%d bytes of input took %d bytes of memory", len(data), grown)
		}
		if err != nil {
			return
		}
		checkTable(t, table)
	})
}

func checkTable(t *testing.T, table *table) {
	var end uint64
	for i, start := range table.starts {
		if start < end {
			t.Fatalf("range %d starts at %#x within the one before, which ends at %#x", i, start, end)
		}
		if table.sizes[i] == 0 {
			t.Fatalf("range %d is empty", i)
		}
		end = start + uint64(table.sizes[i])
		if int(table.names[i]) >= len(table.blob) || bytes.IndexByte(table.blob[table.names[i]:], 0) < 0 {
			t.Fatalf("range %d has no name", i)
		}
		name, ok := table.find(start)
		if !ok || name != table.names[i] {
			t.Fatalf("range %d is not found", i)
		}
		functionName(table.raw(name), Short)
	}
}

func FuzzReadPerfMap(f *testing.F) {
	f.Add([]byte("1000 10 a\n1008 10 b\nffffffffffffffff 1 c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := readPerfMap(bytes.NewReader(data))
		if err == nil {
			checkTable(t, table)
		}
	})
}

func FuzzFunctionName(f *testing.F) {
	f.Add("_ZNSt6vectorIiSaIiEE9push_backERKi.cold@plt")
	f.Add("_RNvCs1234_7mycrate3foo")
	f.Fuzz(func(t *testing.T, symbol string) {
		for _, style := range []Style{Short, Templates, Full} {
			if got := functionName(symbol, style); len(got) > 2*maxFunctionName {
				t.Fatalf("%d bytes", len(got))
			}
		}
	})
}
