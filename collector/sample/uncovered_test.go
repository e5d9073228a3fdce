//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// withoutTables are flags for gcc that leave out unwind tables.
var withoutTables = []string{"-fno-asynchronous-unwind-tables", "-fno-unwind-tables"}

// tableOf returns the unwind table of a file as the library makes it and as it
// is refined.
func tableOf(t *testing.T, path string) (library, refined *stackdeltatypes.IntervalData) {
	t.Helper()
	ref := pfelf.NewReference(path, pfelf.SystemOpener)
	defer ref.Close()
	library, err := elfunwindinfo.NewStackDeltaProvider().GetIntervalDataForFile(ref)
	require.NoError(t, err)
	before := library.NumDeltas
	refined, err = refineUncovered(ref, library)
	require.NoError(t, err)
	require.Equal(t, before, library.NumDeltas)
	checkTable(t, refined)
	return library, refined
}

// checkTable checks what the library takes for granted of a table.
func checkTable(t *testing.T, table *stackdeltatypes.IntervalData) {
	t.Helper()
	var rules int
	for i, b := range table.Blocks {
		require.Less(t, b.Start, b.End)
		require.True(t, i == 0 || table.Blocks[i-1].Start <= b.Start, "block %d is not in order", i)
		for k, d := range b.Deltas {
			require.Less(t, uint64(d.Offset), b.End-b.Start)
			require.True(t, k == 0 || b.Deltas[k-1].Offset < d.Offset, "rule %d of block %d is not in order", k, i)
		}
		rules += len(b.Deltas)
	}
	require.EqualValues(t, rules, table.NumDeltas)
}

// functionsOf returns the addresses of functions of a file by name.
func functionsOf(t *testing.T, path string, names ...string) map[string]span {
	t.Helper()
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	symbols, err := f.Symbols()
	require.NoError(t, err)
	found := map[string]span{}
	for _, s := range symbols {
		if slices.Contains(names, s.Name) {
			found[s.Name] = span{s.Value, s.Value + s.Size}
		}
	}
	require.Len(t, found, len(names))
	return found
}

// meaning returns where a rule finds the caller's frame: relative to the frame
// pointer, or so many bytes from the stack pointer.
func meaning(info stackdeltatypes.UnwindInfo) string {
	if byFramePointer(info) {
		return "frame pointer"
	}
	return fmt.Sprintf("stack pointer + %d", info.Param)
}

var smallFunctions = []string{"hash_item", "price_item", "price_basket", "checkout", "shop", "main"}

// TestUncoveredLikeTables compares the rules that are derived from code with
// those that the compiler writes for the same code.
func TestUncoveredLikeTables(t *testing.T) {
	gcc, dir := requireTool(t, "gcc", "gcc and libc6-dev"), t.TempDir()
	for i, flags := range [][]string{
		{"-O0"}, {"-O1"}, {"-O2"}, {"-O3"}, {"-Os"}, {"-O2", "-static"}, {"-O2", "-no-pie"},
		{"-O2", "-falign-functions=1"},
	} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			flags := append(slices.Clone(flags), "-fno-omit-frame-pointer", "testdata/native/small.c", "-o")
			with, without := filepath.Join(dir, fmt.Sprint("with", i)), filepath.Join(dir, fmt.Sprint("without", i))
			run(t, gcc, append(slices.Clone(flags), with)...)
			run(t, gcc, append(append(slices.Clone(flags), without), withoutTables...)...)
			compilers, _ := tableOf(t, with)
			library, ours := tableOf(t, without)
			at, there := functionsOf(t, without, smallFunctions...), functionsOf(t, with, smallFunctions...)
			var same, all int
			for _, name := range smallFunctions {
				f, g := at[name], there[name]
				require.Equal(t, g.end-g.start, f.end-f.start, name)
				_, ok := ruleAt(library, f.start)
				require.False(t, ok, "%s has unwind information", name)
				for n := range f.end - f.start {
					want, ok := ruleAt(compilers, g.start+n)
					require.True(t, ok, name)
					got, ok := ruleAt(ours, f.start+n)
					require.True(t, ok, name)
					if all++; meaning(got) == meaning(want) {
						same++
					} else {
						t.Logf("%s+%d: %s, the compiler says %s", name, n, meaning(got), meaning(want))
					}
				}
			}
			require.GreaterOrEqual(t, float64(same)/float64(all), 0.97, "%d of %d bytes", same, all)
		})
	}
}

// TestUncoveredWithoutFramePointers checks that code that uses the frame
// pointer's register for other things is not walked by it.
func TestUncoveredWithoutFramePointers(t *testing.T) {
	gcc, dir := requireTool(t, "gcc", "gcc and libc6-dev"), t.TempDir()
	for i, level := range []string{"-O1", "-O2", "-O3", "-Os"} {
		for k, source := range []string{"small", "burn"} {
			path := filepath.Join(dir, fmt.Sprint(source, i, k))
			run(t, gcc, append([]string{level, "-fomit-frame-pointer", "-pthread", "testdata/native/" + source + ".c", "-o", path}, withoutTables...)...)
			_, refined := tableOf(t, path)
			for name, f := range functionsOf(t, path, "main") {
				_, ok := ruleAt(refined, f.start)
				require.False(t, ok, "%s of %s %s has a rule", name, source, level)
			}
		}
	}
	// A large one: each of glibc's functions that has no unwind table stays so.
	for _, path := range []string{"/proc/self/exe", "/bin/sh"} {
		library, refined := tableOf(t, path)
		for _, b := range refined.Blocks {
			if library.Find(b.Start) == nil {
				require.NotEqual(t, stackdeltatypes.UnwindInfoFramePointer, b.Deltas[0].Info, "%s 0x%x", path, b.Start)
			}
		}
	}
}

// TestUncoveredEntry checks that stacks end at the entry point.
func TestUncoveredEntry(t *testing.T) {
	const entry = 0x1020
	code := bytes.Repeat([]byte{0x55, 0x48, 0x89, 0xe5, 0x90, 0x5d, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc}, 8)
	copy(code[0x20:], []byte{0x31, 0xed, 0xe8, 0, 0, 0, 0, 0xf4})
	table, err := refineBytes(elfFile(entry, code), &stackdeltatypes.IntervalData{})
	require.NoError(t, err)
	checkTable(t, table)
	for addr, want := range map[uint64]stackdeltatypes.UnwindInfo{
		0x1000: x86Entered, 0x1001: x86Pushed, 0x1004: stackdeltatypes.UnwindInfoFramePointer, 0x1006: x86Entered,
		0x1020: stackdeltatypes.UnwindInfoStop, 0x1027: stackdeltatypes.UnwindInfoStop,
		0x1060: x86Entered, 0x1061: x86Pushed, 0x1064: stackdeltatypes.UnwindInfoFramePointer,
	} {
		got, ok := ruleAt(table, addr)
		require.True(t, ok, "0x%x", addr)
		require.Equal(t, want, got, "0x%x", addr)
	}
}

// TestUncoveredArm checks rules for arm64, whose instructions are written down
// here as the assembler encodes them.
func TestUncoveredArm(t *testing.T) {
	words := []uint32{
		0xd503245f, // 00 bti c
		0xa9bd7bfd, // 04 stp x29, x30, [sp, #-48]!
		0x910003fd, // 08 mov x29, sp
		0x94000000, // 0c bl
		0xa8c37bfd, // 10 ldp x29, x30, [sp], #48
		0xd65f03c0, // 14 ret
		0xd10143ff, // 18 sub sp, sp, #80
		0xa9047bfd, // 1c stp x29, x30, [sp, #64]
		0x910103fd, // 20 add x29, sp, #64
		0x94000000, // 24 bl
		0xa9447bfd, // 28 ldp x29, x30, [sp, #64]
		0x910143ff, // 2c add sp, sp, #80
		0xd65f03c0, // 30 ret
	}
	var code []byte
	for _, w := range words {
		code = binary.LittleEndian.AppendUint32(code, w)
	}
	var rules []stackdeltatypes.StackDelta
	s := &armScanner{}
	s.scan(code, 0, len(code), 0x4000, func(addr uint64, info stackdeltatypes.UnwindInfo) {
		rules = append(rules, stackdeltatypes.StackDelta{Offset: uint32(addr - 0x4000), Info: info})
	})
	with, without := s.evidence()
	require.Equal(t, []int{2, 0}, []int{with, without})
	sp, fp := support.UnwindRegSp, support.UnwindRegFp
	frame := func(reg uint8, caller, ra int32) stackdeltatypes.UnwindInfo {
		return stackdeltatypes.UnwindInfo{Flags: support.UnwindFlagFrame, BaseReg: reg, Param: caller, AuxBaseReg: reg, AuxParam: ra}
	}
	link := func(caller int32) stackdeltatypes.UnwindInfo {
		return stackdeltatypes.UnwindInfo{BaseReg: sp, Param: caller, AuxBaseReg: support.UnwindRegLr}
	}
	require.Equal(t, []stackdeltatypes.StackDelta{
		{Offset: 0x00, Info: link(0)}, {Offset: 0x08, Info: frame(sp, 48, 8)}, {Offset: 0x0c, Info: frame(fp, 48, 8)},
		{Offset: 0x14, Info: link(0)}, {Offset: 0x18, Info: frame(fp, 48, 8)},
		{Offset: 0x18, Info: link(0)}, {Offset: 0x1c, Info: link(80)}, {Offset: 0x20, Info: frame(sp, 80, 72)},
		{Offset: 0x24, Info: frame(fp, 16, 8)},
		{Offset: 0x2c, Info: link(80)}, {Offset: 0x30, Info: link(0)}, {Offset: 0x34, Info: frame(fp, 16, 8)},
	}, rules)
	// The same without x29 is not evidence.
	s = &armScanner{}
	code = binary.LittleEndian.AppendUint32(nil, 0xa9bd7bfd)
	code = binary.LittleEndian.AppendUint32(code, 0xf90013f3) // str x19, [sp, #32]
	code = binary.LittleEndian.AppendUint32(code, armRet)
	s.scan(code, 0, len(code), 0, func(uint64, stackdeltatypes.UnwindInfo) {})
	_, without = s.evidence()
	require.Equal(t, 1, without)
}

// elfFile returns a program for x86-64 with one segment, of code at 0x1000.
func elfFile(entry uint64, code []byte) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: entry, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	_ = binary.Write(&b, binary.LittleEndian, h)
	_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Off: 120, Vaddr: 0x1000, Filesz: uint64(len(code)), Memsz: uint64(len(code))})
	b.Write(code)
	return b.Bytes()
}

// refineBytes refines a table of a file in memory.
func refineBytes(file []byte, table *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
	ref := pfelf.NewReferenceWithOpenFunc("test", pfelf.SystemOpener, func() (*pfelf.File, error) {
		return pfelf.NewFile(bytes.NewReader(file), 0, false)
	})
	defer ref.Close()
	return refineUncovered(ref, table)
}

// TestUncoveredLies checks that sizes that are not true cost nothing and add no
// rules beyond the file.
func TestUncoveredLies(t *testing.T) {
	code := bytes.Repeat([]byte{0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3, 0xcc, 0xcc}, 64)
	file := elfFile(0, code)
	const filesz, memsz = 64 + 32, 64 + 40
	for _, size := range []uint64{uint64(len(code)) + 1, 1 << 20, 1 << 29, maxUncovered, maxUncovered + 1, 1 << 40, maxAddress, 1 << 63, 1<<64 - 1} {
		binary.LittleEndian.PutUint64(file[filesz:], size)
		binary.LittleEndian.PutUint64(file[memsz:], size)
		table, err := refineBytes(file, &stackdeltatypes.IntervalData{})
		if err != nil {
			continue
		}
		checkTable(t, table)
		for _, b := range table.Blocks {
			require.LessOrEqual(t, b.End, 0x1000+uint64(len(code)), "size 0x%x", size)
		}
		require.LessOrEqual(t, int(table.NumDeltas), len(code))
	}
}

func FuzzUncovered(f *testing.F) {
	code := bytes.Repeat([]byte{0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3, 0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x90, 0x48, 0x8b, 0xec, 0xc9, 0xc3}, 16)
	f.Add(elfFile(0x1004, code), uint64(0x1010), uint64(0x1020))
	lies := elfFile(0, code)
	binary.LittleEndian.PutUint64(lies[64+32:], 1<<62)
	f.Add(lies, uint64(0), uint64(1))
	arm := elfFile(0x1000, code)
	binary.LittleEndian.PutUint16(arm[18:], uint16(elf.EM_AARCH64))
	f.Add(arm, uint64(0x1000), uint64(0x1002))
	if self, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(self, uint64(0), uint64(0))
	}
	f.Fuzz(func(t *testing.T, file []byte, start, end uint64) {
		table := &stackdeltatypes.IntervalData{}
		if start < end {
			b := stackdeltatypes.BasicBlock{Start: start, End: end}
			b.Deltas.Add(0, x86Entered)
			table.Add(b)
		}
		got, err := refineBytes(file, table)
		if err != nil {
			return
		}
		checkTable(t, got)
		if int(got.NumDeltas) > 4*len(file)+2 {
			t.Errorf("%d rules of %d bytes", got.NumDeltas, len(file))
		}
	})
}
