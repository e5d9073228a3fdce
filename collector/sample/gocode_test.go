//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

const (
	tinyBase = 0x400000 // address of the file's first byte
	tinyText = 0x1000   // where the code is
)

// A tinyGo is a program with nothing but Go's function table and code.
type tinyGo struct {
	table        []byte
	code         []byte
	offset, size uint64 // of the table, as the section header says; 0: the truth
	arm          bool   // it is for arm64, not x86-64
}

// tinyTable returns a table with the functions that the code in tinyCode has.
func tinyTable(pcsp ...[]byte) []byte {
	names := []byte("\x00main.main\x00main.leaf\x00")
	values := []byte{0}
	var offsets []uint32
	for _, p := range pcsp {
		offsets = append(offsets, uint32(len(values)))
		values = append(values, p...)
	}
	word := binary.LittleEndian.AppendUint64
	at := uint64(goHeaderSize)
	t := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}
	t = word(word(word(t, uint64(len(pcsp))), 0), tinyBase+tinyText)
	t = word(t, at)
	at += uint64(len(names))
	t = word(word(word(t, at), at), at) // units, files, values
	at += uint64(len(values))
	t = append(append(word(t, at), names...), values...)
	half := binary.LittleEndian.AppendUint32
	const functionSize = 64
	for i := range pcsp {
		t = half(half(t, uint32(i*functionSize)), uint32(8*len(pcsp)+8+i*goRecordSize))
	}
	t = half(half(t, uint32(len(pcsp)*functionSize)), 0)
	for i, offset := range offsets {
		record := half(half(nil, uint32(i*functionSize)), uint32(1+10*(i%2)))
		record = half(half(half(record, 0), 0), offset)
		t = append(t, append(record, make([]byte, goRecordSize-len(record))...)...)
	}
	return t
}

// Tables of stack use, for code as the compiler makes it.
var (
	framedUse = []byte{2, 1, 16, 3, 32, 40, 31, 1, 15, 1, 0} // 0, 8, 24, 8, 0
	leafUse   = []byte{2, 64, 0}
)

// write writes the program and returns its name.
func (p tinyGo) write(t testing.TB) string {
	t.Helper()
	le := binary.LittleEndian
	names := []byte("\x00.gopclntab\x00.shstrtab\x00")
	tableAt := uint64(tinyText + len(p.code))
	namesAt := tableAt + uint64(len(p.table))
	sectionsAt := (namesAt + uint64(len(names)) + 7) &^ 7
	if p.offset == 0 && p.size == 0 {
		p.offset, p.size = tableAt, uint64(len(p.table))
	}
	var b bytes.Buffer
	put := func(v any) { require.NoError(t, binary.Write(&b, le, v)) }
	machine := elf.EM_X86_64
	if p.arm {
		machine = elf.EM_AARCH64
	}
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Phoff: 64, Shoff: sectionsAt,
		Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	put(h)
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: tinyBase, Filesz: namesAt, Memsz: namesAt, Align: 4096})
	b.Write(make([]byte, tinyText-b.Len()))
	b.Write(p.code)
	b.Write(p.table)
	b.Write(names)
	b.Write(make([]byte, int(sectionsAt)-b.Len()))
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Addr: tinyBase + p.offset, Off: p.offset, Size: p.size})
	put(elf.Section64{Name: 12, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))})
	name := filepath.Join(t.TempDir(), "tiny")
	require.NoError(t, os.WriteFile(name, b.Bytes(), 0o600))
	return name
}

// refine returns our table of the program, of which the library walks all code
// by frame pointers.
func (p tinyGo) refine(t testing.TB) (library, ours *stackdeltatypes.IntervalData, err error) {
	t.Helper()
	library = &stackdeltatypes.IntervalData{}
	library.Add(stackdeltatypes.BasicBlock{Start: tinyBase + tinyText, End: tinyBase + tinyText + uint64(len(p.code)),
		Deltas: stackdeltatypes.StackDeltaArray{{Info: framePointer}}})
	ref := pfelf.NewReference(p.write(t), pfelf.SystemOpener)
	defer ref.Close()
	ours, err = refineGo(ref, library)
	return library, ours, err
}

// TestTinyGo checks the rules for a function with a frame and one without.
func TestTinyGo(t *testing.T) {
	_, ours, err := tinyGo{table: tinyTable(framedUse, leafUse), code: make([]byte, 128)}.refine(t)
	require.NoError(t, err)
	require.Len(t, ours.Blocks, 1)
	require.EqualValues(t, 4, ours.NumDeltas)
	require.Equal(t, stackdeltatypes.StackDeltaArray{
		{Offset: 0, Info: noFrame(0)}, {Offset: 1, Info: noFrame(8)}, {Offset: 4, Info: framePointer},
		{Offset: 45, Info: noFrame(0)}, // and so in the function without a frame
	}, ours.Blocks[0].Deltas)
}

// TestTinyGoLies checks that a table that lies about sizes is an error that
// says what is wrong, and that nothing is allocated for what it promises.
func TestTinyGoLies(t *testing.T) {
	good := tinyTable(framedUse, leafUse)
	patched := func(at int, v uint64) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint64(b[at:], v)
		return b
	}
	for _, c := range []struct {
		name string
		p    tinyGo
		want string
	}{
		{"section larger than the file", tinyGo{table: good, offset: 100, size: 1<<63 - 1}, "outside of a file"},
		{"section behind the file", tinyGo{table: good, offset: 1<<63 - 1, size: 100}, "outside of a file"},
		{"section that wraps around", tinyGo{table: good, offset: 1<<64 - 100, size: 200}, "outside of a file"},
		{"empty section", tinyGo{table: good, offset: 100}, "too short"},
		{"functions", tinyGo{table: patched(8, 1<<62)}, "functions in"},
		{"more functions than fit", tinyGo{table: patched(8, 1<<20)}, "functions in"},
		{"no functions", tinyGo{table: patched(8, 0)}, "0 functions"},
		{"part behind the table", tinyGo{table: patched(64, 1<<40)}, "parts at"},
		{"parts in the wrong order", tinyGo{table: patched(32, 1<<40)}, "parts at"},
		{"code elsewhere", tinyGo{table: patched(24, 1<<63)}, "is not in the file"},
		{"magic", tinyGo{table: patched(0, 1)}, "not supported"},
		{"stack use without end", tinyGo{table: tinyTable(framedUse, []byte{2, 1, 16, 0x80})}, "malformed stack use"},
		{"stack use beyond the function", tinyGo{table: tinyTable(framedUse, []byte{2, 0xff, 0xff, 1})}, "malformed stack use"},
		{"more stack than there is", tinyGo{table: tinyTable([]byte{0xfe, 0xff, 0xff, 0xff, 0xf, 1, 0}, leafUse)}, "bytes of stack"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.code = make([]byte, 128)
			_, _, err := c.p.refine(t)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// armTable returns a table as of tinyTable for arm64.
func armTable(pcsp ...[]byte) []byte {
	t := tinyTable(pcsp...)
	t[6] = 4
	return t
}

// armCode returns machine code of these instructions, and zeros up to 128 bytes.
func armCode(words ...uint32) []byte {
	b := make([]byte, 0, 128)
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b[:128]
}

// Code for arm64 with a frame, as the compiler makes it, and its stack use.
var (
	armFramed    = armCode(0xf81e0ffe, 0xf81f83fd, armSetFrame, 0xd503201f, armLoadFrame, 0xf84207fe, armRet)
	armFramedUse = []byte{2, 1, 64, 5, 63, 10, 0} // 0, 32, 0
)

// TestTinyGoArm checks the rules for arm64 of a function with a frame and one
// without.
func TestTinyGoArm(t *testing.T) {
	_, ours, err := tinyGo{arm: true, table: armTable(armFramedUse, []byte{2, 16, 0}), code: armFramed}.refine(t)
	require.NoError(t, err)
	require.Len(t, ours.Blocks, 1)
	require.Equal(t, stackdeltatypes.StackDeltaArray{
		{Offset: 0, Info: armEntered(0)}, {Offset: 4, Info: armEntered(32)}, {Offset: 12, Info: goArmFrame(32)},
		{Offset: 16, Info: goArmSaved(32)}, {Offset: 24, Info: armEntered(0)}, // and so in the function without a frame
	}, ours.Blocks[0].Deltas)
}

// TestTinyGoArmPair checks the rules of assembly that C calls.
func TestTinyGoArmPair(t *testing.T) {
	code := armCode(0xd10303ff, 0xa90007e0, 0xa90b7bfd, 0x94000000, 0xa94b7bfd, 0x910303ff, armRet)
	_, ours, err := tinyGo{arm: true, table: armTable([]byte{2, 1, 0x80, 3, 5, 0xff, 2, 10, 0}, []byte{2, 16, 0}), code: code}.refine(t)
	require.NoError(t, err)
	require.Equal(t, stackdeltatypes.StackDeltaArray{
		{Offset: 0, Info: armEntered(0)}, {Offset: 4, Info: armEntered(192)},
		{Offset: 12, Info: armFrame(support.UnwindRegSp, 176, 192)}, {Offset: 24, Info: armEntered(0)},
	}, ours.Blocks[0].Deltas)
}

// TestTinyGoArmOld checks that a table that the library made without frame
// pointers is left as it is, as those of Go before 1.21.
func TestTinyGoArmOld(t *testing.T) {
	p := tinyGo{arm: true, table: armTable(armFramedUse, []byte{2, 16, 0}), code: armFramed}
	library := &stackdeltatypes.IntervalData{}
	library.Add(stackdeltatypes.BasicBlock{Start: tinyBase + tinyText, End: tinyBase + tinyText + 128,
		Deltas: stackdeltatypes.StackDeltaArray{{Info: armEntered(0)}}})
	ref := pfelf.NewReference(p.write(t), pfelf.SystemOpener)
	defer ref.Close()
	ours, err := refineGo(ref, library)
	require.NoError(t, err)
	require.Same(t, library, ours)
}

// TestTinyGoArmLies checks that a table for other instructions is an error, and
// one that ends within an instruction too.
func TestTinyGoArmLies(t *testing.T) {
	_, _, err := tinyGo{arm: true, table: tinyTable(framedUse, leafUse), code: armFramed}.refine(t)
	require.ErrorContains(t, err, "instructions of 1 bytes")
	_, _, err = tinyGo{arm: true, table: armTable(armFramedUse, []byte{2, 17, 0}), code: armFramed}.refine(t)
	require.ErrorContains(t, err, "malformed stack use")
}

// FuzzGoCode checks that no table, whatever it says about its own size and that
// of its parts, makes the reader panic, or makes rules that are not in the
// order of addresses.
func FuzzGoCode(f *testing.F) {
	good := tinyTable(framedUse, leafUse)
	f.Add(good, make([]byte, 128), uint64(0), uint64(0))
	f.Add(good, make([]byte, 128), uint64(100), uint64(1<<63-1))
	f.Add(append([]byte{0xf0}, good[1:]...), make([]byte, 128), uint64(0), uint64(0))
	f.Add(append([]byte{0xfa}, good[1:]...), make([]byte, 128), uint64(0), uint64(0))
	// A function as before Go 1.21, with a call of duffzero.
	old := append(append(append([]byte{0x48, 0x83, 0xec, 24}, storeBP(16)...), 0x48, 0x8d, 0x6c, 0x24, 16), duffStart...)
	old = append(append(append(old, 0, 0, 0, 0), duffEnd...), addSP(24)...)
	f.Add(bytes.ReplaceAll(tinyTable([]byte{2, 4, 48, 34, 47, 1, 48, 4, 0}, leafUse), []byte("main.leaf"), []byte("runtime.d")),
		append(old, make([]byte, 128-len(old))...), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, table, code []byte, offset, size uint64) {
		checkTiny(t, tinyGo{table: table, code: code, offset: offset, size: size})
	})
}

// FuzzGoCodeArm does the same for programs for arm64, whose code is read too.
func FuzzGoCodeArm(f *testing.F) {
	good := armTable(armFramedUse, []byte{2, 16, 0})
	f.Add(good, armFramed)
	f.Add(bytes.ReplaceAll(good, []byte("main.leaf"), []byte("runtime.d")),
		armCode(0xf81e0ffe, 0xf81f83fd, armSetFrame, armStoreDuff, armDuffFrame, 0x94000000, armSetFrame, armLoadBoth, 0x914007ff, 0x910083ff))
	f.Add(armTable([]byte{2, 1, 0x80, 3, 5, 0xff, 2, 10, 0}, []byte{2, 16, 0}),
		armCode(0xd10303ff, 0xa90007e0, 0xa90b7bfd, 0x94000000, 0xa94b7bfd, 0x910303ff, armRet))
	f.Fuzz(func(t *testing.T, table, code []byte) {
		checkTiny(t, tinyGo{arm: true, table: table, code: code})
	})
}

// checkTiny checks that the table of a program, if it can be made, is in the
// order of addresses.
func checkTiny(t *testing.T, p tinyGo) {
	if len(p.table)+len(p.code) > 1<<16 {
		return
	}
	library, ours, err := p.refine(t)
	if err != nil || ours == library {
		return
	}
	n := 0
	for _, b := range ours.Blocks {
		require.Less(t, b.Start, b.End)
		last := int64(-1)
		for _, d := range b.Deltas {
			require.Greater(t, int64(d.Offset), last)
			require.Less(t, uint64(d.Offset), b.End-b.Start)
			last = int64(d.Offset)
		}
		n += len(b.Deltas)
	}
	require.EqualValues(t, n, ours.NumDeltas)
}
