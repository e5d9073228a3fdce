package symbolize

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// chains asks addr2line for the lines at addresses, innermost first.
func chains(t *testing.T, path string, addrs []uint64) [][]Line {
	t.Helper()
	args := []string{"-a", "-i", "-f", "-e", path}
	for _, a := range addrs {
		args = append(args, fmt.Sprintf("%#x", a))
	}
	var out [][]Line
	lines := strings.Split(strings.TrimSpace(run(t, "", "addr2line", args...)), "\n")
	for i := 0; i < len(lines); {
		if strings.HasPrefix(lines[i], "0x") {
			out = append(out, nil)
			i++
			continue
		}
		place, _, _ := strings.Cut(lines[i+1], " (") // a discriminator
		file, number, _ := strings.Cut(place, ":")
		line, _ := strconv.ParseInt(number, 10, 64)
		function := strings.Replace(lines[i], "__internal_name", "public_name", 1) // of the aliases we choose the public one
		out[len(out)-1] = append(out[len(out)-1], Line{Function: function, File: file, Line: line})
		i += 2
	}
	require.Len(t, out, len(addrs))
	return out
}

// Every few bytes of every function, lines and inlined calls are what
// addr2line prints.
func TestLinesAgreeWithAddr2line(t *testing.T) {
	binaries := map[string]func() string{
		"C":              func() string { return compile(t, "gcc", "shape.c", "-g", "-O2") },
		"C++":            func() string { return compile(t, "g++", "shape.cc", "-g", "-O2") },
		"C++ DWARF 4":    func() string { return compile(t, "g++", "shape.cc", "-gdwarf-4", "-O2") },
		"C++ compressed": func() string { return compile(t, "g++", "shape.cc", "-g", "-O2", "-gz") },
		"C++ with sections": func() string {
			return compile(t, "g++", "shape.cc", "-g", "-O2", "-ffunction-sections", "-Wl,--gc-sections")
		},
		"C++ not optimised":  func() string { return compile(t, "g++", "shape.cc", "-g", "-O0") },
		"C++ position fixed": func() string { return compile(t, "g++", "shape.cc", "-g", "-O2", "-no-pie") },
	}
	if testing.Short() { // each compiler once, and the other version of the format
		for _, name := range []string{"C++ compressed", "C++ with sections", "C++ not optimised", "C++ position fixed"} {
			delete(binaries, name)
		}
	}
	if _, err := exec.LookPath("rustc"); err == nil {
		binaries["Rust"] = func() string { return compile(t, "rustc", "shape.rs", "-g", "-O", "-C", "lto=off") }
	}
	for name, build := range binaries {
		t.Run(name, func(t *testing.T) {
			path := build()
			var addrs []uint64
			symbols := nm(t, path)
			step := uint64(3)
			if len(symbols) > 400 {
				step = 61
			}
			for _, s := range symbols {
				for a := s.addr; a < s.addr+s.size; a += step {
					addrs = append(addrs, a)
				}
			}
			addrs = addrs[:min(len(addrs), 800)]
			var inlined, agree, compared int
			found := linesOf(t, Options{Style: Short}, path, addrs...)
			for i, want := range chains(t, path, addrs) {
				if want[0].File == "??" || want[0].Line == 0 {
					continue
				}
				got := found[i]
				require.NotEmpty(t, got, "%#x", addrs[i])
				compared++
				same := len(got) == len(want)
				for j := 0; same && j < len(want); j++ {
					same = got[j].Line == want[j].Line && filepath.Base(got[j].File) == filepath.Base(want[j].File) &&
						lastName(got[j].Function) == lastName(functionName(want[j].Function, Short))
				}
				if same {
					agree++
				} else if compared-agree < 8 {
					t.Logf("%#x: got %v, addr2line %v", addrs[i], got, want)
				}
				if len(want) > 1 {
					inlined++
				}
			}
			t.Logf("%d addresses, %d with inlined calls, %d agree", compared, inlined, agree)
			require.Greater(t, compared, 20)
			if name != "C" && !strings.Contains(name, "not optimised") {
				require.Greater(t, inlined, 20)
			}
			// addr2line prints the plain name of some functions without code of
			// their own, and ends chains at entries that it does not know.
			require.GreaterOrEqual(t, float64(agree), 0.98*float64(compared))
		})
	}
}

// TestLinesInOtherFormats compares the lines of programs that addr2line of Debian 12
// does not read with those of the same code in a format that it does.
func TestLinesInOtherFormats(t *testing.T) {
	build := func(compiler string, flags ...string) string {
		return compile(t, compiler, "shape.cc", append([]string{"-g", "-O2"}, flags...)...)
	}
	plain := build("g++")
	type program struct{ same, flag string }
	programs := map[string]program{
		"64-bit DWARF":         {plain, "-gdwarf64"},
		"compressed with zstd": {plain, "-Wl,--compress-debug-sections=zstd"},
		"compressed in memory": {plain, "-Wl,--compress-debug-sections=zlib"},
		"compressed as before": {plain, "-Wl,--compress-debug-sections=zlib-gnu"},
	}
	if _, err := exec.LookPath("clang++"); err == nil {
		programs["clang with indexes"] = program{build("clang++", "-gdwarf-4"), "-gdwarf-5"}
	}
	for name, p := range programs {
		t.Run(name, func(t *testing.T) {
			var addrs []uint64
			for _, s := range nm(t, p.same) {
				addrs = append(addrs, s.addr, s.addr+s.size/2)
			}
			compiler := "g++"
			if p.same != plain {
				compiler = "clang++"
			}
			o := Options{InflateDir: t.TempDir()}
			if name == "compressed in memory" {
				o.InflateDir = ""
			}
			want := linesOf(t, Options{}, p.same, addrs...)
			require.Equal(t, want, linesOf(t, o, build(compiler, p.flag), addrs...))
			require.True(t, slices.ContainsFunc(want, func(lines []Line) bool { return len(lines) > 2 && lines[0].Line > 0 }))
			left, err := os.ReadDir(cmp.Or(o.InflateDir, t.TempDir()))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// lastName cuts the scope off a name.
func lastName(name string) string {
	name, _, _ = strings.Cut(name, "<")
	return name[strings.LastIndex(name, ":")+1:]
}

// TestNoLines checks that functions alone are found where nothing else is wanted.
func TestNoLines(t *testing.T) {
	path := compile(t, "g++", "shape.cc", "-g", "-O2")
	addr := addrOf(t, path, "main")
	require.Equal(t, [][]Line{{{Function: "main"}}}, linesOf(t, Options{NoLines: true}, path, addr))
	require.NotZero(t, linesOf(t, Options{}, path, addr)[0][0].Line)
}

func TestLinesOfSeparateDebugFile(t *testing.T) {
	full := compile(t, "gcc", "shape.c", "-g", "-O2", "-Wl,--build-id=0xabcdef0123456789")
	addr := addrOf(t, full, "local_work")
	dir := filepath.Dir(full)
	run(t, dir, "objcopy", "--only-keep-debug", "shape", "shape.debug")
	run(t, dir, "objcopy", "--strip-all", "shape", "stripped")
	debug := filepath.Join(dir, "usr/lib/debug/.build-id/ab/cdef0123456789.debug")
	require.NoError(t, os.MkdirAll(filepath.Dir(debug), 0o755))
	require.NoError(t, os.Rename(filepath.Join(dir, "shape.debug"), debug))
	proc := procOf(t, dir)
	s := open(t, Options{ProcRoot: proc})
	s.Add(FileID{1}, Binary{Path: "/stripped", PID: 7})
	lines, ok := s.Lookup(FileID{1}, addr)
	require.True(t, ok)
	require.Equal(t, "local_work", lines[len(lines)-1].Function)
	require.Equal(t, "shape.c", filepath.Base(lines[0].File))
	require.Positive(t, lines[0].Line)
}

// procOf returns a directory in the place of /proc with a process 7 that has a root.
func procOf(t *testing.T, root string) string {
	t.Helper()
	proc := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(proc, "7"), 0o755))
	require.NoError(t, os.Symlink(root, filepath.Join(proc, "7/root")))
	return proc
}

// TestLinesInContainers reads the lines of a program in another root, which belongs to
// another user, and which anybody may write to.
func TestLinesInContainers(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-g", "-O2")
	addr := addrOf(t, path, "failure")
	require.NoError(t, os.Chmod(path, 0o777))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(path, 12345, 12345))
	}
	s := open(t, Options{ProcRoot: procOf(t, filepath.Dir(path))})
	s.Add(FileID{3}, Binary{Path: "/shape", PID: 7})
	lines, ok := s.Lookup(FileID{3}, addr)
	require.True(t, ok)
	require.Equal(t, "failure", lines[0].Function)
	require.Equal(t, "shape.c", filepath.Base(lines[0].File))
	source, err := os.ReadFile("testdata/shape.c")
	require.NoError(t, err)
	require.Contains(t, strings.Split(string(source), "\n")[lines[0].Line-1], "void failure(")
}
