package symbolize

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

// A testSection is a section of an ELF file that a test makes.
type testSection struct {
	name  string
	flags elf.SectionFlag
	data  []byte
}

// makeELF returns a 64-bit library with sections, without any code.
func makeELF(sections ...testSection) []byte {
	order := binary.LittleEndian
	names := []byte{0}
	body := make([]byte, 64)
	var headers []elf.Section64
	add := func(name string, kind elf.SectionType, flags elf.SectionFlag, data []byte) {
		headers = append(headers, elf.Section64{
			Name: uint32(len(names)), Type: uint32(kind), Flags: uint64(flags), Off: uint64(len(body)), Size: uint64(len(data)),
		})
		names = append(append(names, name...), 0)
		body = append(body, data...)
	}
	add("", elf.SHT_NULL, 0, nil)
	for _, s := range sections {
		add(s.name, elf.SHT_PROGBITS, s.flags, s.data)
	}
	names = append(names, ".shstrtab\x00"...)
	headers = append(headers, elf.Section64{
		Name: uint32(len(names) - 10), Type: uint32(elf.SHT_STRTAB), Off: uint64(len(body)), Size: uint64(len(names)),
	})
	body = append(body, names...)
	var out bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: uint64(len(body)),
		Ehsize: 64, Shentsize: 64, Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	_ = binary.Write(&out, order, h)
	copy(body, out.Bytes())
	out.Reset()
	out.Write(body)
	_ = binary.Write(&out, order, headers)
	return out.Bytes()
}

// words returns numbers as little-endian bytes: 1, 2, 4 or 8 for each type.
func words(values ...any) []byte {
	var out bytes.Buffer
	for _, v := range values {
		switch v := v.(type) {
		case string:
			out.WriteString(v)
		case int:
			out.Write(binary.AppendUvarint(nil, uint64(v)))
		default:
			_ = binary.Write(&out, binary.LittleEndian, v)
		}
	}
	return out.Bytes()
}

// sized puts a unit's length in front of it.
func sized(unit []byte) []byte { return append(words(uint32(len(unit))), unit...) }

// unit5 is a unit of DWARF 5 with abbreviations at an offset.
func unit5(abbrevs uint32, entries []byte) []byte {
	return sized(append(words(uint16(5), uint8(1), uint8(8), abbrevs), entries...))
}

// One compilation unit with the line table at 0, and its abbreviation.
var (
	plainAbbrev = words(1, 0x11, uint8(0), 0x10, 0x17, 0, 0, 0)
	plainInfo   = unit5(0, words(1, uint32(0)))
)

// lines5 is a line table of DWARF 5 from its formats on.
func lines5(entries []byte) []byte {
	head := append(words(uint8(1), uint8(1), uint8(1), int8(-5), uint8(14), uint8(10), "\x00\x01\x01\x01\x01\x00\x00\x00\x01"), entries...)
	return sized(append(words(uint16(5), uint8(8), uint8(0), uint32(len(head))), head...))
}

// lines4 is a line table of DWARF 4 from its directories on, with a program.
func lines4(entries, program []byte) []byte {
	head := append(words(uint8(1), uint8(1), uint8(1), int8(-5), uint8(14), uint8(10), "\x00\x01\x01\x01\x01\x00\x00\x00\x01"), entries...)
	return sized(append(append(words(uint16(4), uint32(len(head))), head...), program...))
}

func plainFile(line []byte, more ...testSection) []byte {
	return makeELF(append(more, testSection{".debug_info", 0, plainInfo}, testSection{".debug_abbrev", 0, plainAbbrev}, testSection{".debug_line", 0, line})...)
}

func compressed(data []byte) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(data)
	_ = z.Close()
	return out.Bytes()
}

// crafted are files whose DWARF asks for much more than it has bytes.
func crafted() map[string][]byte {
	path5 := words(uint8(1), 1, 0x08) // a path, as a string in place
	many := bytes.Repeat([]byte("a\x00"), 200<<10)
	long := strings.Repeat("d", 1<<20)
	var useLong, setFiles, define []byte
	for i := range 100 << 10 {
		useLong = append(useLong, "f\x00\x01\x00\x00"...)
		setFiles = append(append(setFiles, 4), binary.AppendUvarint(nil, uint64(i+1))...)
		setFiles = append(setFiles, 1) // a row
		define = append(define, 0, 6, 3, 'f', 0, 1, 0, 0)
	}
	// Every unit has a table of abbreviations that begins a little later.
	var overlapping, units []byte
	for id := range 100 << 10 {
		overlapping = append(overlapping, words(1+id, 0x11, uint8(0), 0x10, 0x17, 0, 0)...)
	}
	for i := range 20 << 10 {
		units = append(units, unit5(uint32(8*i), words(1))...)
	}
	wide := words(1, 0x11, uint8(0))
	for range 1 << 20 {
		wide = append(wide, words(3, 0x19)...)
	}
	wide = append(wide, 0, 0, 0)
	// A tree of the unit's depth: every entry has children.
	nested := words(1, 0x11, uint8(1), 0x10, 0x17, 0, 0, 2, 0x2e, uint8(1), 0, 0, 3, 0x34, uint8(1), 0, 0, 0)
	// Inlined calls, each with another tail of a long string as its name.
	calls := words(uint32(0))
	for i := range 200 << 10 {
		calls = append(calls, words(2, uint32(i), uint64(0x1000+i), uint8(1))...)
	}
	named := words(1, 0x11, uint8(1), 0x10, 0x17, 0, 0, 2, 0x1d, uint8(0), 3, 0x0e, 0x11, 1, 0x12, 0x0b, 0, 0, 0)
	zeros := make([]byte, 1<<20)
	bomb := compressed(make([]byte, 512<<20))
	return map[string][]byte{
		"directories":               plainFile(lines5(append(path5, words(1<<40)...))),
		"directories of four bytes": plainFile(lines5(append(path5, words(1<<31)...))),
		"files":                     plainFile(lines5(append(append(path5, words(1, "/\x00", uint8(1), 1, 0x08)...), words(1<<33)...))),
		"files without parts":       plainFile(lines5(words(uint8(0), 0, uint8(0), 1<<32))),
		"files of nothing":          plainFile(lines5(append(words(uint8(1), 1, 0x21, 1<<28), zeros...))),
		"files with all forms":      plainFile(lines5(append(append([]byte{255}, bytes.Repeat(words(1, 0x1f), 255)...), words(1<<20)...)), testSection{".debug_line_str", 0, []byte(long)}),
		"files in a long directory": plainFile(lines4([]byte(long+"\x00\x00"+string(useLong)+"\x00"), setFiles)),
		"files with a long name":    plainFile(lines5(append(words(uint8(0), 0, uint8(1), 1, 0x1f, 200<<10), make([]byte, 800<<10)...)), testSection{".debug_line_str", 0, []byte(long)}),
		"files of the program":      plainFile(lines4([]byte(long+"\x00\x00\x00"), define)),
		"many files":                plainFile(lines4(append([]byte{0}, many...), nil)),
		"overlapping abbreviations": makeELF(testSection{".debug_info", 0, units}, testSection{".debug_abbrev", 0, overlapping}),
		"wide abbreviation":         makeELF(testSection{".debug_info", 0, unit5(0, bytes.Repeat([]byte{1}, 1<<20))}, testSection{".debug_abbrev", 0, wide}),
		"small units":               makeELF(testSection{".debug_info", 0, bytes.Repeat(unit5(0, []byte{0}), 400<<10)}, testSection{".debug_abbrev", 0, plainAbbrev}),
		"nested subprograms":        makeELF(testSection{".debug_info", 0, unit5(0, append(words(1, uint32(0)), bytes.Repeat([]byte{2}, 7<<20)...))}, testSection{".debug_abbrev", 0, nested}),
		"nested variables":          makeELF(testSection{".debug_info", 0, unit5(0, append(words(1, uint32(0)), bytes.Repeat([]byte{3}, 7<<20)...))}, testSection{".debug_abbrev", 0, nested}),
		"long names":                makeELF(testSection{".debug_info", 0, unit5(0, append([]byte{1}, calls...))}, testSection{".debug_abbrev", 0, named}, testSection{".debug_str", 0, append([]byte(long), 0)}),
		"compressed": plainFile(lines4([]byte("\x00\x00"), nil), testSection{".debug_str", elf.SHF_COMPRESSED,
			append(words(uint32(elf.COMPRESS_ZLIB), uint32(0), uint64(1<<40), uint64(1)), bomb...)}),
		"compressed, within the limit": plainFile(lines4([]byte("\x00\x00"), nil), testSection{".debug_str", elf.SHF_COMPRESSED,
			append(words(uint32(elf.COMPRESS_ZLIB), uint32(0), uint64(7<<20), uint64(1)), bomb...)}),
		"compressed, less than it says": plainFile(lines4([]byte("\x00\x00"), nil), testSection{".debug_str", elf.SHF_COMPRESSED,
			append(words(uint32(elf.COMPRESS_ZLIB), uint32(0), uint64(7<<20), uint64(1)), compressed(zeros)...)}),
		"compressed as GNU did": plainFile(lines4([]byte("\x00\x00"), nil), testSection{".zdebug_str", 0, append([]byte("ZLIB\x00\x00\x00\x10\x00\x00\x00\x00"), bomb...)}),
		"compressed as GNU did, within the limit": plainFile(lines4([]byte("\x00\x00"), nil), testSection{".zdebug_str", 0,
			append([]byte("ZLIB\x00\x00\x00\x00\x00\x70\x00\x00"), bomb...)}),
		"an unknown compression": plainFile(lines4([]byte("\x00\x00"), nil), testSection{".debug_str", elf.SHF_COMPRESSED, words(uint32(77), uint32(0), uint64(10), uint64(1), "abc")}),
	}
}

// dwarfOf describes the DWARF of a file in memory, with its index.
func dwarfOf(data []byte) (*dwarfFile, error) {
	in := untrusted.NewReader(bytes.NewReader(data), int64(len(data)), linesBudget)
	f, err := untrusted.NewELF(in)
	if err != nil {
		return nil, err
	}
	s := &Symbolizer{}
	known := &indexedFile{}
	d, err := s.openDWARF(in, f, known, &stepCounter{check: in.Check})
	if err == nil {
		err = known.damage
	}
	return d, err
}

// readCrafted reads the lines of the first 100 units of a file, and returns them, and
// the bytes that were allocated for them, in total, and the largest size that the
// process's heap and stacks had meanwhile, less what they had before.
func readCrafted(t testing.TB, data []byte) (units []*lineInfo, total, peak uint64, err error) {
	t.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d, err := dwarfOf(data)
	if d != nil && d.index != nil {
		for _, offset := range d.index.offsets[:min(len(d.index.offsets), 100)] {
			info, unitErr := d.readLines(offset)
			if err = cmp.Or(err, unitErr); info != nil && len(info.rows)+len(info.calls) > 0 {
				units = append(units, info)
			}
		}
	}
	runtime.ReadMemStats(&after)
	return units, after.TotalAlloc - before.TotalAlloc, max(after.Sys, before.Sys) - before.Sys, err
}

// TestReadLinesOfCraftedFiles reads debug information that lies about sizes. Each
// of these files has a few megabytes at most; with debug/dwarf alone they take
// gigabytes, or a stack that ends the process.
func TestReadLinesOfCraftedFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("slow with the race detector")
	}
	// Their entries are passed over to the end, or nothing refers to their files.
	harmless := []string{"nested subprograms", "nested variables", "files of the program", "many files", "files with a long name",
		"compressed, within the limit", "compressed as GNU did, within the limit"}
	for name, data := range crafted() {
		t.Run(name, func(t *testing.T) {
			units, total, peak, err := readCrafted(t, data)
			t.Logf("%d MB allocated, %d MB more of the system: %v", total>>20, peak>>20, err)
			require.Less(t, peak, uint64(256<<20))
			require.Less(t, total, uint64(1<<30))
			if slices.Contains(harmless, name) {
				require.NoError(t, err)
			} else {
				require.Contains(t, []string{"malformed", "too_large"}, untrusted.Reason(err))
				require.Empty(t, units)
			}
		})
	}
}

// TestMalformedUnitIsLeftOut damages one of two units' line tables: the lines of
// the other stay, and the damage is named.
func TestMalformedUnitIsLeftOut(t *testing.T) {
	good := lines4([]byte("\x00a.c\x00\x00\x00\x00\x00"), words(uint8(0), uint8(9), uint8(2), uint64(0x1000), uint8(20), uint8(200), uint8(0), uint8(1), uint8(1)))
	bad := bytes.Clone(good)
	bad[4] = 77 // the version
	info := append(unit5(0, words(1, uint32(0))), unit5(0, words(1, uint32(len(bad))))...)
	units, _, _, err := readCrafted(t, makeELF(testSection{".debug_info", 0, info}, testSection{".debug_abbrev", 0, plainAbbrev},
		testSection{".debug_line", 0, append(bytes.Clone(bad), good...)}))
	require.ErrorIs(t, err, untrusted.ErrMalformed)
	require.ErrorContains(t, err, "line table at offset 0: version 77")
	require.Len(t, units, 1)
	require.Equal(t, "a.c", units[0].at(0x1001, "f", Short)[0].File)
}

// TestLineTableAgreesWithDebugDwarf reads the line tables of compilers with the
// standard library's reader too.
func TestLineTableAgreesWithDebugDwarf(t *testing.T) {
	builds := [][]string{
		{"g++", "shape.cc", "-g", "-O2"}, {"gcc", "shape.c", "-gdwarf-4", "-O2"},
		{"gcc", "shape.c", "-gdwarf-2", "-gstrict-dwarf", "-O1"}, {"gcc", "shape.c", "-gdwarf-3", "-O0"},
		{"gcc", "shape.c", "-g", "-gdwarf64", "-O2"}, {"gcc", "shape.c", "-gdwarf64", "-gdwarf-4", "-O2"},
	}
	if testing.Short() {
		builds = builds[1:]
	}
	for _, build := range builds {
		t.Run(strings.Join(build, " "), func(t *testing.T) {
			require.Positive(t, compareLineTables(t, compile(t, build[0], build[1], build[2:]...)))
		})
	}
	require.Positive(t, compareLineTables(t, compileGo(t)))
}

// compareLineTables returns how many rows were compared.
func compareLineTables(t *testing.T, name string) (rows int) {
	t.Helper()
	f, err := elf.Open(name)
	require.NoError(t, err)
	defer f.Close()
	data, err := f.DWARF()
	require.NoError(t, err)
	bytes, err := os.ReadFile(name)
	require.NoError(t, err)
	d, err := dwarfOf(bytes)
	require.NoError(t, err)
	for _, at := range d.index.offsets {
		u, err := d.readUnit(at)
		require.NoError(t, err)
		entries := data.Reader()
		entries.Seek(dwarf.Offset(u.first))
		unit, err := entries.Next()
		require.NoError(t, err)
		theirs, err := data.LineReader(unit)
		require.NoError(t, err)
		if theirs == nil {
			continue
		}
		compDir, _ := unit.Val(dwarf.AttrCompDir).(string)
		ours, err := d.openLineTable(uint64(unit.Val(dwarf.AttrStmtList).(int64)), compDir)
		require.NoError(t, err)
		paths := &pool{list: []string{""}, index: map[string]uint32{"": 0}}
		var e dwarf.LineEntry
		require.NoError(t, ours.run(func(int64) error { return nil }, func(s lineState) error {
			rows++
			require.NoError(t, theirs.Next(&e))
			require.Equal(t, e.Address, s.addr)
			require.Equal(t, e.EndSequence, s.file == endOfSequence)
			if e.EndSequence {
				return nil
			}
			require.EqualValues(t, e.Line, s.line)
			index, err := ours.file(s.file, paths)
			require.NoError(t, err)
			if e.File != nil {
				want := e.File.Name
				if !path.IsAbs(want) {
					want = path.Join(compDir, want)
				}
				require.Equal(t, want, paths.list[index])
			}
			return nil
		}))
		require.ErrorIs(t, theirs.Next(&e), io.EOF)
		require.Equal(t, len(theirs.Files()), len(ours.files))
	}
	return rows
}

// FuzzReadLines reads sections of DWARF of any content. str is that of all sections
// of strings and of ranges; claim, if not 0, is the size that the section
// .debug_str, which is then compressed, says that it has.
func FuzzReadLines(f *testing.F) {
	seed := func(info, abbrev, line, str []byte) { f.Add(info, abbrev, line, str, uint64(0)) }
	seed(plainInfo, plainAbbrev, lines5(words(uint8(1), 1, 0x08, 1<<40)), nil)
	seed(plainInfo, plainAbbrev, lines5(words(uint8(1), 1, 0x08, 1, "/x\x00", uint8(2), 1, 0x1f, 2, 0x0b, 1, uint32(0), uint8(0))), []byte("a.c\x00"))
	seed(plainInfo, plainAbbrev, lines4([]byte("dir\x00\x00a.c\x00\x01\x00\x00\x00"), words(uint8(0), uint8(9), uint8(2), uint64(0x1000), uint8(20), uint8(200), uint8(0), uint8(1), uint8(1))), nil)
	f.Add(plainInfo, plainAbbrev, lines4([]byte("\x00\x00"), nil), []byte{}, uint64(1<<40))
	debug, err := elf.Open(compile(f, "gcc", "shape.c", "-g", "-O1"))
	if err != nil {
		f.Fatal(err)
	}
	defer debug.Close()
	content := func(name string) []byte {
		data, err := debug.Section(name).Data()
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	seed(content(".debug_info"), content(".debug_abbrev"), content(".debug_line"), content(".debug_line_str"))
	f.Fuzz(func(t *testing.T, info, abbrev, line, str []byte, claim uint64) {
		all := []testSection{{".debug_info", 0, info}, {".debug_abbrev", 0, abbrev}, {".debug_line", 0, line}, {".debug_line_str", 0, str}, {".debug_str", 0, str}, {".debug_ranges", 0, str}, {".debug_rnglists", 0, str}}
		if claim > 0 {
			all[4].flags, all[4].data = elf.SHF_COMPRESSED, append(words(uint32(elf.COMPRESS_ZLIB), uint32(0), claim, uint64(1)), str...)
		}
		data := makeELF(all...)
		units, total, _, err := readCrafted(t, data)
		if total > 256<<20 {
			t.Fatalf("%d bytes of memory for %d", total, len(data))
		}
		if err != nil && untrusted.Reason(err) == "" {
			t.Fatalf("error without a reason: %v", err)
		}
		if p := (*untrusted.PanicError)(nil); errors.As(err, &p) {
			t.Fatalf("%v", err)
		}
		for _, lines := range units {
			for i, row := range lines.rows {
				if i > 0 && row.addr <= lines.rows[i-1].addr || int(row.file) >= len(lines.files) {
					t.Fatalf("row %d: %+v", i, row)
				}
				lines.at(row.addr, "f", Short)
			}
		}
	})
}

// TestDamagedLinesAreCounted damages the line table of a program whose symbols are
// good: its functions have names, and what is missing is counted.
func TestDamagedLinesAreCounted(t *testing.T) {
	name := compile(t, "gcc", "shape.c", "-g", "-O1")
	addr := addrOf(t, name, "main")
	f, err := elf.Open(name)
	require.NoError(t, err)
	at := f.Section(".debug_line").Offset
	require.NoError(t, f.Close())
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	data[at+4] = 77 // the version
	require.NoError(t, os.WriteFile(name, data, 0o755))
	s := open(t, Options{})
	s.Add(FileID{1}, Binary{Path: name})
	lines, ok := s.Lookup(FileID{1}, addr)
	require.True(t, ok)
	require.Equal(t, []Line{{Function: "main"}}, lines)
	require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.bad.WithLabelValues("part", "malformed")))
}
