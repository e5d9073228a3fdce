package symbolize

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// run runs a tool in a directory and returns what it prints.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// compile builds a program of testdata and returns its path.
func compile(t testing.TB, compiler, source string, flags ...string) string {
	t.Helper()
	src, err := filepath.Abs(filepath.Join("testdata", source))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "shape")
	run(t, "", compiler, append(append([]string{}, flags...), "-o", out, src)...)
	return out
}

func compileGo(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	src, err := os.ReadFile("testdata/shape.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "main.go"), src)
	writeFile(t, filepath.Join(dir, "go.mod"), []byte("module shape\n\ngo 1.26\n"))
	run(t, dir, "env", "CGO_ENABLED=1", "go", "build", "-o", "shape", ".") // half of it is C
	return filepath.Join(dir, "shape")
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// linesOf returns what a symbolizer finds at addresses of a file.
func linesOf(t testing.TB, o Options, path string, addrs ...uint64) [][]Line {
	t.Helper()
	s := New(o)
	defer s.Close()
	s.Add(FileID{1}, Binary{Path: path})
	return s.LookupAll(FileID{1}, addrs)
}

func tableOf(t testing.TB, path string) *table {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := readTable(whole(t, f), Binary{Path: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// at returns the short function name at an address, "" if there is none.
func (t *table) at(addr uint64) string {
	name, ok := t.find(addr)
	if !ok {
		return ""
	}
	return functionName(t.raw(name), Short)
}

// An nmSymbol is a code symbol as nm prints it.
type nmSymbol struct {
	addr, size uint64
	name       string
}

// nm lists the code symbols of a binary.
func nm(t testing.TB, path string, flags ...string) []nmSymbol {
	t.Helper()
	executable := func(addr uint64) bool { return false }
	if f, err := elf.Open(path); err == nil {
		defer f.Close()
		executable = func(addr uint64) bool {
			for _, s := range f.Sections {
				if s.Flags&elf.SHF_EXECINSTR != 0 && addr >= s.Addr && addr < s.Addr+s.Size {
					return true
				}
			}
			return false
		}
	}
	var out []nmSymbol
	for line := range strings.Lines(run(t, "", "nm", append(append([]string{"--defined-only", "-f", "sysv"}, flags...), path)...)) {
		fields := strings.Split(line, "|")
		if len(fields) < 7 {
			continue
		}
		typ := strings.TrimSpace(fields[3])
		if typ != "FUNC" && typ != "NOTYPE" && !strings.HasPrefix(typ, "<OS specific>: 10") {
			continue
		}
		addr, err := strconv.ParseUint(strings.TrimSpace(fields[1]), 16, 64)
		if err != nil || !executable(addr) {
			continue
		}
		var size uint64
		if s := strings.TrimSpace(fields[4]); s != "" {
			if size, err = strconv.ParseUint(s, 16, 64); err != nil {
				t.Fatalf("nm: %q", line)
			}
		}
		out = append(out, nmSymbol{addr, size, strings.TrimSpace(fields[0])})
	}
	if len(out) == 0 {
		t.Fatalf("nm %s: no symbols", path)
	}
	return out
}

// mapping returns the first mapping of a file in a process.
func mapping(t testing.TB, pid int, path string) (start, end uint64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, path) {
			if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err == nil {
				return start, end
			}
		}
	}
	t.Fatalf("process %d does not map %s:\n%s", pid, path, maps)
	return 0, 0
}

// whole describes an open file with its size.
func whole(t testing.TB, f *os.File) *file {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return &file{Reader: f, size: info.Size()}
}
