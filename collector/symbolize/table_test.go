package symbolize

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

// Every symbol that nm lists must be found, at its first and its last byte,
// under one of the names that nm has for the address; the byte behind it must
// not be attributed to it.
func TestTableAgreesWithNM(t *testing.T) {
	binaries := map[string]func(t *testing.T) string{
		"C PIE":    func(t *testing.T) string { return compile(t, "gcc", "shape.c", "-O2", "-pie") },
		"C no PIE": func(t *testing.T) string { return compile(t, "gcc", "shape.c", "-O2", "-no-pie") },
		"C other base": func(t *testing.T) string {
			return compile(t, "gcc", "shape.c", "-O2", "-no-pie", "-Wl,-Ttext-segment=0x7000000")
		},
		"C static":  func(t *testing.T) string { return compile(t, "gcc", "shape.c", "-O2", "-static") },
		"C library": func(t *testing.T) string { return compile(t, "gcc", "shape.c", "-O2", "-shared", "-fPIC") },
		"C separate code": func(t *testing.T) string {
			return compile(t, "gcc", "shape.c", "-O2", "-Wl,-z,separate-code", "-Wl,-z,max-page-size=0x10000")
		},
		"C++": func(t *testing.T) string { return compile(t, "g++", "shape.cc", "-O1") },
		"Go":  func(t *testing.T) string { return compileGo(t) },
	}
	if _, err := exec.LookPath("rustc"); err == nil {
		binaries["Rust legacy"] = func(t *testing.T) string { return compile(t, "rustc", "shape.rs", "-O") }
		binaries["Rust v0"] = func(t *testing.T) string {
			return compile(t, "rustc", "shape.rs", "-O", "-C", "symbol-mangling-version=v0")
		}
	}
	if testing.Short() { // each compiler once
		for _, name := range []string{"C no PIE", "C other base", "C static", "C library", "C separate code", "Rust legacy"} {
			delete(binaries, name)
		}
	}
	for name, build := range binaries {
		t.Run(name, func(t *testing.T) {
			path := build(t)
			table := tableOf(t, path)
			checkAgainstNM(t, table, nm(t, path))
		})
	}
}

func checkAgainstNM(t *testing.T, table *table, symbols []nmSymbol) {
	t.Helper()
	// covering returns the names of sized symbols over an address.
	covering := func(addr uint64) (names []string) {
		for _, s := range symbols {
			if addr >= s.addr && addr-s.addr < s.size {
				names = append(names, functionName(s.name, Short))
			}
		}
		return names
	}
	at := func(addr uint64) (names []string) {
		for _, s := range symbols {
			if s.addr == addr {
				names = append(names, functionName(s.name, Short))
			}
		}
		return names
	}
	step := max(1, len(symbols)/3000) // static Go binaries have thousands
	for i := 0; i < len(symbols); i += step {
		s := symbols[i]
		if s.size == 0 && isMarker([]byte(s.name)) {
			require.NotEqual(t, s.name, table.at(s.addr))
			continue
		}
		if s.size == 0 {
			if cover := covering(s.addr); len(cover) > 0 {
				require.Contains(t, cover, table.at(s.addr), "label %s at %#x inside a function", s.name, s.addr)
			} else {
				require.Contains(t, at(s.addr), table.at(s.addr), "%s at %#x", s.name, s.addr)
			}
			continue
		}
		require.Contains(t, covering(s.addr), table.at(s.addr), "start of %s", s.name)
		last := s.addr + s.size - 1
		require.Contains(t, covering(last), table.at(last), "end of %s", s.name)
		if cover := covering(s.addr + s.size); len(cover) > 0 {
			require.Contains(t, cover, table.at(s.addr+s.size), "behind %s", s.name)
		} else if got := table.at(s.addr + s.size); got != "" && !strings.HasSuffix(got, pltSuffix) {
			require.Contains(t, at(s.addr+s.size), got, "behind %s", s.name)
		}
	}
}

// addr2line, which reads DWARF here, names the same function as we do at every
// function's start.
func TestTableAgreesWithAddr2line(t *testing.T) {
	for _, c := range []struct{ compiler, source string }{{"gcc", "shape.c"}, {"g++", "shape.cc"}} {
		path := compile(t, c.compiler, c.source, "-g", "-O0")
		table := tableOf(t, path)
		symbols := slices.DeleteFunc(nm(t, path), func(s nmSymbol) bool { return s.size == 0 })
		args := []string{"-f", "-e", path}
		for _, s := range symbols {
			args = append(args, fmt.Sprintf("%#x", s.addr))
		}
		lines := strings.Split(run(t, "", "addr2line", args...), "\n")
		aliases := map[uint64][]string{}
		for _, s := range symbols {
			aliases[s.addr] = append(aliases[s.addr], functionName(s.name, Short))
		}
		checked := 0
		for i, s := range symbols {
			want := functionName(lines[2*i], Short)
			if want == "??" || !slices.Contains(aliases[s.addr], want) {
				continue // addr2line shows the base name of a DIE without linkage name
			}
			require.Contains(t, aliases[s.addr], table.at(s.addr), s.name)
			if len(aliases[s.addr]) == 1 {
				require.Equal(t, want, table.at(s.addr), "%s at %#x", s.name, s.addr)
				checked++
			}
		}
		require.Greater(t, checked, 6, "%s", c.source)
	}
}

func TestTableChoosesAliases(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2")
	table := tableOf(t, path)
	addr := map[string]nmSymbol{}
	for _, s := range nm(t, path) {
		addr[s.name] = s
	}
	require.Equal(t, "public_name", table.at(addr["__internal_name"].addr))
	require.Equal(t, "local_work", table.at(addr["local_work"].addr))
	require.Equal(t, "weak_work", table.at(addr["weak_work"].addr))
	// Without a size a symbol reaches to the next one; with a size no further.
	require.Equal(t, "unsized", table.at(addr["unsized"].addr+2))
	require.Equal(t, "bounded", table.at(addr["bounded"].addr))
	require.Equal(t, "", table.at(addr["bounded"].addr+1), "padding belongs to nobody")
	require.Equal(t, "", table.at(addr["bounded"].addr+60))
	require.Equal(t, "", table.at(0))
	require.Equal(t, "", table.at(^uint64(0)))
}

// objdump disassembles the stubs and prints the names that it found.
func TestTableNamesPLTStubs(t *testing.T) {
	for _, flags := range [][]string{
		{"-O2"}, {"-O2", "-fcf-protection=full", "-Wl,-z,ibtplt"}, {"-O2", "-no-pie"}, {"-O2", "-Wl,-z,now"}, {"-O2", "-fuse-ld=gold"},
	} {
		path := compile(t, "gcc", "shape.c", flags...)
		run(t, "", "strip", path)
		table := tableOf(t, path)
		found := 0
		for line := range strings.Lines(run(t, "", "objdump", "-d", "-j", ".plt", "-j", ".plt.sec", "-j", ".plt.got", path)) {
			var addr uint64
			var name string
			if n, _ := fmt.Sscanf(line, "%x <%s", &addr, &name); n != 2 || !strings.HasSuffix(name, "@plt>:") {
				continue
			}
			got := table.at(addr)
			if got == "" {
				continue // the lazy half of a stub pair, which is never a caller
			}
			require.Equal(t, strings.TrimSuffix(name, ">:"), got, "%v", flags)
			found++
		}
		require.Greater(t, found, 3, "%v:\n%s", flags, run(t, "", "objdump", "-d", "-j", ".plt", "-j", ".plt.sec", "-j", ".plt.got", path))
	}
}

func TestDebugFiles(t *testing.T) {
	full := compile(t, "gcc", "shape.c", "-g", "-O2", "-Wl,--build-id=sha1")
	symbols := nm(t, full)
	local := slices.IndexFunc(symbols, func(s nmSymbol) bool { return s.name == "local_work" })
	require.GreaterOrEqual(t, local, 0)
	f, err := elf.Open(full)
	require.NoError(t, err)
	id := untrusted.BuildID(f)
	f.Close()
	require.Contains(t, run(t, "", "readelf", "-n", full), id)
	require.Len(t, id, 40)

	dir := filepath.Dir(full)
	run(t, dir, "objcopy", "--only-keep-debug", "shape", "shape.debug")
	run(t, dir, "objcopy", "--strip-all", "shape", "stripped")
	run(t, dir, "objcopy", "--strip-all", "--add-gnu-debuglink=shape.debug", "shape", "linked")
	run(t, dir, "objcopy", "--strip-all", "--remove-section=.note.gnu.build-id", "--add-gnu-debuglink=shape.debug", "shape", "crc")
	// What Fedora does: the symbols alone, compressed, in the binary.
	run(t, dir, "objcopy", "-S", "--remove-section=.comment", "--keep-symbol=local_work", "shape.debug", "mini")
	run(t, dir, "xz", "-k", "mini")
	run(t, dir, "objcopy", "--strip-all", "--add-section=.gnu_debugdata=mini.xz", "shape", "withmini")

	read := func(name string, files map[string]string) *table {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		defer f.Close()
		table, err := readTable(whole(t, f), Binary{Path: "/opt/app/" + name}, func(path string) (*file, error) {
			if real, ok := files[path]; ok {
				f, err := os.Open(filepath.Join(dir, real))
				require.NoError(t, err)
				return opened(f)
			}
			return nil, os.ErrNotExist
		})
		require.NoError(t, err)
		return table
	}
	byID := "/usr/lib/debug/.build-id/" + id[:2] + "/" + id[2:] + ".debug"
	addr := symbols[local].addr
	require.Equal(t, "", read("stripped", nil).at(addr), "a stripped binary does not know its static functions")
	require.Equal(t, "local_work", read("stripped", map[string]string{byID: "shape.debug"}).at(addr))
	checkAgainstNM(t, read("stripped", map[string]string{byID: "shape.debug"}), symbols)
	require.Equal(t, "local_work", read("linked", map[string]string{"/opt/app/.debug/shape.debug": "shape.debug"}).at(addr))
	require.Equal(t, "local_work", read("linked", map[string]string{"/usr/lib/debug/opt/app/shape.debug": "shape.debug"}).at(addr))
	require.Equal(t, "local_work", read("withmini", nil).at(addr))

	// Without build IDs the checksum decides.
	run(t, dir, "objcopy", "--remove-section=.note.gnu.build-id", "shape.debug", "noid.debug")
	require.Equal(t, "", read("crc", map[string]string{"/opt/app/shape.debug": "noid.debug"}).at(addr))
	require.Equal(t, "local_work", read("crc", map[string]string{"/opt/app/shape.debug": "shape.debug"}).at(addr))

	// A debug file of another build is not used.
	other := compile(t, "gcc", "shape.c", "-g", "-O1", "-Wl,--build-id=sha1")
	data, err := os.ReadFile(other)
	require.NoError(t, err)
	writeFile(t, filepath.Join(dir, "other"), data)
	require.Equal(t, "", read("stripped", map[string]string{byID: "other"}).at(addr))
	require.Equal(t, "", read("linked", map[string]string{"/opt/app/shape.debug": "other"}).at(addr))
}

func TestReadTableRefusesOtherFiles(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n"), "magic": []byte("\x7fELF"), "zeros": make([]byte, 4096),
	} {
		_, err := readTable(&file{Reader: nopCloser{bytes.NewReader(data)}, size: int64(len(data))}, Binary{}, nil)
		require.Error(t, err, name)
	}
	bare := filepath.Join(t.TempDir(), "bare")
	src := bare + ".c"
	writeFile(t, src, []byte("void _start(void) { for (;;); }\n"))
	run(t, "", "gcc", "-nostdlib", "-static", "-o", bare, src)
	require.Equal(t, "_start", tableOf(t, bare).at(nm(t, bare)[0].addr))
	run(t, "", "strip", bare)
	f, err := os.Open(bare)
	require.NoError(t, err)
	defer f.Close()
	_, err = readTable(whole(t, f), Binary{}, nil)
	require.True(t, errors.Is(err, errNoSymbols), "%v", err)
}

func TestFlatten(t *testing.T) {
	for name, c := range map[string]struct{ in, want []span }{
		"apart":   {[]span{{10, 20, 1, 1}, {30, 40, 2, 2}}, []span{{10, 20, 1, 1}, {30, 40, 2, 2}}},
		"inner":   {[]span{{10, 40, 1, 1}, {20, 30, 2, 2}}, []span{{10, 20, 1, 1}, {20, 30, 2, 2}, {30, 40, 1, 1}}},
		"hidden":  {[]span{{10, 40, 1, 9}, {20, 30, 2, 2}}, []span{{10, 40, 1, 9}}},
		"tail":    {[]span{{10, 30, 1, 9}, {20, 40, 2, 2}}, []span{{10, 30, 1, 9}, {30, 40, 2, 2}}},
		"empty":   {[]span{{10, 10, 1, 1}, {20, 10, 2, 2}}, []span{}},
		"aliases": {[]span{{10, 30, 1, 1}, {10, 20, 2, 2}}, []span{{10, 20, 2, 2}, {20, 30, 1, 1}}},
	} {
		require.Equal(t, c.want, flatten(c.in), name)
	}
}

func TestFunctionName(t *testing.T) {
	for _, c := range []struct {
		style      Style
		symbol, is string
	}{
		{Short, "memcpy@@GLIBC_2.14", "memcpy"},
		{Short, "memcpy@GLIBC_2.2.5", "memcpy"},
		{Short, "memcpy@plt", "memcpy@plt"},
		{Short, "_ZNSt6vectorIiSaIiEE9push_backERKi@plt", "std::vector::push_back@plt"},
		{Short, "foo.cold", "foo"},
		{Short, "foo.isra.0.constprop.3.cold", "foo"},
		{Short, "foo.part.12", "foo"},
		{Short, "main.part", "main.part"}, // a Go function
		{Short, "main.(*order).validate", "main.(*order).validate"},
		{Short, "runtime.mallocgc", "runtime.mallocgc"},
		{Short, "_ZN12_GLOBAL__N_13fooEv.cold", "(anonymous namespace)::foo"},
		{Short, "_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector::push_back"},
		{Templates, "_ZN3BoxIdE4spinEv", "Box<double>::spin"},
		{Templates, "_ZN3BoxIfE4spinEv.isra.0", "Box<float>::spin"},
		{Templates, "_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back"},
		{Full, "_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)"},
		{Short, "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"},
		{Short, "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.123456789", "core::fmt::Formatter::pad"},
		{Short, "_RNvCs1234_7mycrate3foo", "mycrate::foo"},
		{Short, "_Z", "_Z"},
		{Short, "_ZN", "_ZN"},
		{Short, "_Zebra", "_Zebra"},
		{Short, "_R", "_R"},
		{Short, "@", "@"},
		{Short, ".", "."},
		{Short, "bad\xffname", "bad\uFFFDname"},
	} {
		require.Equal(t, c.is, functionName(c.symbol, c.style), c.symbol)
	}
	deep := "_Z1f" + strings.Repeat("PK", 100_000) + "i"
	require.LessOrEqual(t, len(functionName(deep, Full)), maxFunctionName)
}
