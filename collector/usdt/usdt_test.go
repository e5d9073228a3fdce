package usdt

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

const allProviders = "otel_memory"

func findIn(data []byte) ([]Probe, error) {
	f, err := untrusted.NewELF(untrusted.NewReader(bytes.NewReader(data), int64(len(data)), untrusted.Budget{Bytes: 64 << 20}))
	if err != nil {
		return nil, err
	}
	return Find(f, allProviders)
}

// probed is a program with probes at known labels, in the form that sys/sdt.h writes.
const probed = `
#define NOTE(name, label, semaphore, arguments) \
	".pushsection .note.stapsdt,\"\",\"note\"\n" \
	".balign 4\n .4byte 992f-991f, 994f-993f, 3\n" \
	"991: .asciz \"stapsdt\"\n 992: .balign 4\n" \
	"993: .8byte " label ", _.stapsdt.base, " semaphore "\n" \
	".asciz \"otel_memory\"\n .asciz \"" name "\"\n .asciz \"" arguments "\"\n" \
	"994: .balign 4\n.popsection\n"
__attribute__((section(".probes"), used)) volatile unsigned short counter = 1;
__attribute__((section(".probes"), used)) volatile unsigned short alloc_semaphore = 2;
__asm__(".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n");
__attribute__((noinline, used)) void allocate(void)
{
	__asm__ volatile("at_alloc: nop\n" NOTE("alloc", "at_alloc", "alloc_semaphore", "8@%rdi 8@$64 8@-16(%rbp)"));
}
__attribute__((noinline, used)) void release(void)
{
	__asm__ volatile("at_free: nop\n" NOTE("free", "at_free", "0", "8@%rdi"));
}
int main(void) { allocate(); release(); return counter - 1; }
`

// build compiles a C program.
func build(t testing.TB, source string, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	require.NoError(t, err, "gcc is missing: install gcc and libc6-dev")
	dir := t.TempDir()
	file, bin := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	out, err := exec.CommandContext(t.Context(), gcc, append(flags, "-O1", "-o", bin, file)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

// symbolOffset returns where a symbol is in a file, by the file's own symbol table.
func symbolOffset(t *testing.T, f *elf.File, name string) uint64 {
	t.Helper()
	symbols, err := f.Symbols()
	require.NoError(t, err)
	for _, s := range symbols {
		if s.Name == name {
			sec := f.Sections[s.Section]
			return s.Value - sec.Addr + sec.Offset
		}
	}
	t.Fatalf("no symbol %s", name)
	return 0
}

// TestFind compares the places of probes with those of the symbols at the same places, in
// every kind of file.
func TestFind(t *testing.T) {
	for _, kind := range [][]string{{"-no-pie"}, {"-pie", "-fPIE"}, {"-shared", "-fPIC"}, {"-static", "-no-pie"}, {"-static-pie", "-fPIE"}} {
		data, err := os.ReadFile(build(t, probed, kind...))
		require.NoError(t, err)
		f, err := elf.NewFile(bytes.NewReader(data))
		require.NoError(t, err)
		probes, err := findIn(data)
		require.NoError(t, err, kind)
		require.Equal(t, []Probe{
			{Provider: "otel_memory", Name: "alloc", Arguments: "8@%rdi 8@$64 8@-16(%rbp)", Offset: symbolOffset(t, f, "at_alloc"), Semaphore: symbolOffset(t, f, "alloc_semaphore")},
			{Provider: "otel_memory", Name: "free", Arguments: "8@%rdi", Offset: symbolOffset(t, f, "at_free")},
		}, probes, kind)
		require.EqualValues(t, 0x90, data[probes[0].Offset], "a nop")
		require.EqualValues(t, 2, data[probes[0].Semaphore])
	}
}

// TestFindMoved moves the base section's address as prelink does, and expects the probes
// to move with it.
func TestFindMoved(t *testing.T) {
	data, err := os.ReadFile(build(t, probed, "-no-pie"))
	require.NoError(t, err)
	before, err := findIn(data)
	require.NoError(t, err)
	f, err := untrusted.NewELF(untrusted.NewReader(bytes.NewReader(data), int64(len(data)), untrusted.Budget{}))
	require.NoError(t, err)
	const by = 0x100000
	for _, p := range f.Progs {
		p.Vaddr += by
	}
	f.Section(baseSection).Addr += by
	after, err := Find(f, allProviders)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// TestFindErrors checks that what is wrong with a note is named.
func TestFindErrors(t *testing.T) {
	data, err := os.ReadFile(build(t, probed, "-no-pie"))
	require.NoError(t, err)
	f, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	at := f.Section(noteSection).Offset
	patched := func(offset uint64, value uint64, bytes int) error {
		lie := append([]byte(nil), data...)
		if bytes == 4 {
			binary.LittleEndian.PutUint32(lie[at+offset:], uint32(value))
		} else {
			binary.LittleEndian.PutUint64(lie[at+offset:], value)
		}
		_, err := findIn(lie)
		return err
	}
	for _, c := range []struct {
		offset, value uint64
		bytes         int
		text          string
	}{
		{0, 0xffffffff, 4, "note at offset 0: 4294967295 bytes of owner"},
		{4, 0xfffffffd, 4, "note at offset 0: 8 bytes of owner and 4294967293 of description"},
		{4, 4, 4, "description of 4 bytes"},
		{4, 30, 4, "do not end"},
		{20, 1 << 60, 8, "probe \"alloc\" at address 0x1000000000000000, which is not in the file's code"},
		{36, 1 << 60, 8, "semaphore at address 0x1000000000000000, which is not in the file's data"},
	} {
		err := patched(c.offset, c.value, c.bytes)
		require.ErrorContains(t, err, c.text)
		require.ErrorIs(t, err, untrusted.ErrMalformed)
	}
}

// TestFindLyingSegments has segments that put the probes at the file's header or beyond all
// files.
func TestFindLyingSegments(t *testing.T) {
	data, err := os.ReadFile(build(t, probed, "-no-pie"))
	require.NoError(t, err)
	probes, err := findIn(data)
	require.NoError(t, err)
	for name, to := range map[string]uint64{"code": probes[0].Offset, "data": probes[0].Semaphore} {
		for _, offset := range []uint64{0, 1 << 63, 1<<64 - 1} { // of the probe or the semaphore
			f, err := untrusted.NewELF(untrusted.NewReader(bytes.NewReader(data), int64(len(data)), untrusted.Budget{Bytes: 64 << 20}))
			require.NoError(t, err)
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD && to >= p.Off && to-p.Off < p.Filesz {
					p.Off = offset - (to - p.Off)
				}
			}
			_, err = Find(f, allProviders)
			require.ErrorIs(t, err, untrusted.ErrMalformed, "%s at %#x", name, offset)
			require.ErrorContains(t, err, "which is not in the file's "+name)
		}
	}
}

func TestFindTooMany(t *testing.T) {
	many := strings.Replace(probed, "int main", "__attribute__((noinline, used)) void repeat(void) { "+
		strings.Repeat(`__asm__ volatile("nop\n 1:" NOTE("alloc", "1b", "0", "8@%rdi 8@%rsi 8@%rdx"));`, maxProbes)+" }\nint main", 1)
	data, err := os.ReadFile(build(t, many, "-no-pie"))
	require.NoError(t, err)
	_, err = findIn(data)
	require.ErrorIs(t, err, untrusted.ErrTooLarge)
}

func TestParseArguments(t *testing.T) {
	for _, c := range []struct {
		machine elf.Machine
		text    string
		want    []Argument
	}{
		{elf.EM_X86_64, "8@%rdi -4@$5 8@-16(%rbp)", []Argument{
			{Place: Register, Size: 8, Base: 112},
			{Place: Constant, Size: 4, Signed: true, Offset: 5},
			{Place: Memory, Size: 8, Base: 32, Offset: -16},
		}},
		{elf.EM_X86_64, "-8@%r9 4@%r10d 2@%ax 1@%ah 1@%sil 8@(%rsp) 8@$-1 8@$18446744073709551615", []Argument{
			{Place: Register, Size: 8, Signed: true, Base: 64},
			{Place: Register, Size: 4, Base: 56},
			{Place: Register, Size: 2, Base: 80},
			{Place: Register, Size: 1, Base: 80, Shift: 8},
			{Place: Register, Size: 1, Base: 104},
			{Place: Memory, Size: 8, Base: 152},
			{Place: Constant, Size: 8, Offset: -1},
			{Place: Constant, Size: 8, Offset: -1},
		}},
		{elf.EM_X86_64, "8@8(%rax,%rbx,4) 8@0x10(%r8, %r15)", []Argument{
			{Place: Indexed, Size: 8, Base: 80, Index: 40, Shift: 2, Offset: 8},
			{Place: Indexed, Size: 8, Base: 72, Index: 0, Offset: 16},
		}},
		{elf.EM_AARCH64, "8@x0 -4@[sp, 8] 8@[x19] 4@w30 -8@-7 8@[x1, x2] 8@[x1, x2, lsl 3]", []Argument{
			{Place: Register, Size: 8, Base: 0},
			{Place: Memory, Size: 4, Signed: true, Base: 248, Offset: 8},
			{Place: Memory, Size: 8, Base: 152},
			{Place: Register, Size: 4, Base: 240},
			{Place: Constant, Size: 8, Signed: true, Offset: -7},
			{Place: Indexed, Size: 8, Base: 8, Index: 16},
			{Place: Indexed, Size: 8, Base: 8, Index: 16, Shift: 3},
		}},
		{elf.EM_X86_64, "", nil},
	} {
		got, err := ParseArguments(c.machine, c.text)
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, got, c.text)
	}
	for text, says := range map[string]string{
		"%rdi":                     "argument 1:",
		"8@%rdi 3@%rdi":            "argument 2: \"3@%rdi\": size 3",
		"8f@%xmm0":                 "not a number of bytes of an integer",
		"8@%xmm0":                  "not a general one",
		"8@%rip":                   "not a general one",
		"8@symbol(%rip)":           "is not SIZE@REGISTER",
		"8@$999999999999999999999": "not a number of 64 bits",
		"8@":                       "is not SIZE@REGISTER",
		"8@(":                      "is not SIZE@REGISTER",
	} {
		_, err := ParseArguments(elf.EM_X86_64, text)
		require.ErrorContains(t, err, says, text)
	}
	for _, text := range []string{"8@x31", "8@[x0, #", "8@d0", "8@[]", "8@"} {
		_, err := ParseArguments(elf.EM_AARCH64, text)
		require.Error(t, err, text)
	}
	_, err := ParseArguments(elf.EM_RISCV, "8@a0")
	require.ErrorContains(t, err, "x86-64 and arm64")
}

// FuzzFind lies about sizes, addresses and texts: no lie may panic, or give a probe that is
// outside of the file.
func FuzzFind(f *testing.F) {
	data, err := os.ReadFile(build(f, probed, "-no-pie", "-nostdlib", "-Wl,-e,main"))
	require.NoError(f, err)
	f.Add(data, uint32(0), uint64(0))
	e, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(f, err)
	notes := uint32(e.Section(noteSection).Offset)
	for _, at := range []uint32{0, 4, 8, 20, 28, 36, 44} {
		for _, lie := range []uint64{0, 1, 1<<32 - 1, 1<<32 - 3, 1<<63 - 1, 1<<64 - 1} {
			f.Add(data, notes+at, lie)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint32, lie uint64) {
		lied := append([]byte(nil), data...)
		if uint64(at)+8 <= uint64(len(lied)) {
			binary.LittleEndian.PutUint64(lied[at:], lie)
		}
		probes, err := findIn(lied)
		require.LessOrEqual(t, len(probes), maxProbes)
		for _, p := range probes {
			require.NoError(t, err)
			require.Positive(t, int64(p.Offset))
			require.GreaterOrEqual(t, int64(p.Semaphore), int64(0))
			_, _ = ParseArguments(elf.EM_X86_64, p.Arguments)
		}
	})
}

// FuzzParseArguments checks that every description that is read has registers that there
// are and sizes that can be loaded.
func FuzzParseArguments(f *testing.F) {
	f.Add("8@%rdi -4@$5 8@-16(%rbp,%rax,8)", true)
	f.Add("8@x0 8@[sp, 8] 8@[x0, x1, lsl 3]", false)
	f.Fuzz(func(t *testing.T, text string, x86 bool) {
		machine, words := elf.EM_AARCH64, 32
		if x86 {
			machine, words = elf.EM_X86_64, 20
		}
		as, err := ParseArguments(machine, text)
		if err != nil {
			return
		}
		for _, a := range as {
			require.Contains(t, []int{1, 2, 4, 8}, a.Size)
			require.Zero(t, a.Base%8)
			require.Less(t, int(a.Base/8), words)
			require.Less(t, int(a.Index/8), words)
			require.LessOrEqual(t, a.Shift, uint8(8))
		}
	})
}
