//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"golang.org/x/arch/x86/x86asm"
)

// bothTables returns the library's unwind table of a program and ours.
func bothTables(t *testing.T, bin string) (code *goCode, library, ours *stackdeltatypes.IntervalData) {
	t.Helper()
	ref := pfelf.NewReference(bin, pfelf.SystemOpener)
	t.Cleanup(ref.Close)
	library, err := elfunwindinfo.NewStackDeltaProvider().GetIntervalDataForFile(ref)
	require.NoError(t, err)
	ours, err = refineGo(ref, library)
	require.NoError(t, err)
	ef, err := ref.GetELF()
	require.NoError(t, err)
	code, err = openGoCode(ef)
	require.NoError(t, err)
	return code, library, ours
}

// ruleAt returns the rule of a table for an address.
func ruleAt(table *stackdeltatypes.IntervalData, addr uint64) (info stackdeltatypes.UnwindInfo, ok bool) {
	b := table.Find(addr)
	if b == nil {
		return info, false
	}
	i, found := slices.BinarySearchFunc(b.Deltas, addr-b.Start, func(d stackdeltatypes.StackDelta, at uint64) int {
		return cmp.Compare(uint64(d.Offset), at)
	})
	if !found {
		i--
	}
	if i < 0 {
		return info, false
	}
	return b.Deltas[i].Info, true
}

// A frameState is what a disassembler finds out about a function's frame.
type frameState struct {
	used  int64 // bytes between the return address and the stack pointer
	bp    rune  // the frame pointer: 'c'aller's, the function's 'o'wn, or of some 'd'uff call
	saved bool  // the caller's is below the return address
}

// right reports whether a rule leads from a state to the caller.
func (s frameState) right(rule stackdeltatypes.UnwindInfo) bool {
	switch {
	case rule == framePointer:
		return s.bp == 'o'
	case rule == noFrame(int32(s.used)):
		return s.bp == 'c'
	}
	return rule == saved(int32(s.used)) && s.saved
}

// follow disassembles a function that the compiler made and calls visit with
// the state before each instruction, in the order of addresses. It leaves out
// what it cannot know: how much comes between the last instruction of the body
// and the call that asks for a larger stack, which is made without a frame.
func follow(code []byte, start uint64, isMorestack func(uint64) bool, visit func(uint64, x86asm.Inst, frameState)) {
	var ins []x86asm.Inst
	more, before, size := -1, -1, 0
	for size < len(code) && code[size] != 0xcc { // padding
		in, err := x86asm.Decode(code[size:], 64)
		if err != nil {
			break
		}
		r, relative := in.Args[0].(x86asm.Rel)
		switch {
		case in.Op == x86asm.CALL && relative && isMorestack(start+uint64(size+in.Len)+uint64(int64(r))):
			more = len(ins)
		case more < 0 && (in.Op == x86asm.CALL || in.Op == x86asm.RET || in.Op == x86asm.JMP || in.Op == x86asm.UD2):
			before = len(ins)
		}
		ins = append(ins, in)
		size += in.Len
	}
	s := frameState{bp: 'c'}
	body := s
	for i, in := range ins {
		if i == more {
			s = frameState{bp: 'c'}
		}
		if more < 0 || i <= before || i >= more {
			visit(start, in, s)
		}
		start += uint64(in.Len)
		imm, _ := in.Args[1].(x86asm.Imm)
		to, _ := in.Args[0].(x86asm.Mem)
		from, _ := in.Args[1].(x86asm.Mem)
		switch {
		case in.Op == x86asm.PUSH:
			s.used += 8
			s.saved = s.saved || in.Args[0] == x86asm.RBP
		case in.Op == x86asm.POP:
			s.used -= 8
			if in.Args[0] == x86asm.RBP {
				s.bp = 'c'
			}
		case in.Op == x86asm.SUB && in.Args[0] == x86asm.RSP:
			s.used += int64(imm)
		case in.Op == x86asm.ADD && in.Args[0] == x86asm.RSP:
			s.used -= int64(imm)
		case in.Op == x86asm.MOV && to.Base == x86asm.RSP && in.Args[1] == x86asm.RBP && to.Disp >= 0:
			s.saved = true
		case in.Op == x86asm.MOV && in.Args[0] == x86asm.RBP && in.Args[1] == x86asm.RSP,
			in.Op == x86asm.LEA && in.Args[0] == x86asm.RBP && from.Base == x86asm.RSP && from.Disp >= 0,
			in.Op == x86asm.MOV && in.Args[0] == x86asm.RBP && from.Base == x86asm.RBP:
			s.bp = 'o'
		case in.Op == x86asm.LEA && in.Args[0] == x86asm.RBP && from.Base == x86asm.RSP:
			s.bp = 'd'
		case in.Op == x86asm.MOV && in.Args[0] == x86asm.RBP && from.Base == x86asm.RSP:
			s.bp = 'c'
		case in.Op == x86asm.RET, in.Op == x86asm.JMP && s.used == 0:
			s = body // where what follows is reached from
		}
		if s.bp == 'o' && s.used > body.used {
			body = s
		}
	}
}

// checkRules disassembles the functions of a program that the library walks by
// frame pointers, and checks that our rule for each instruction leads to the
// caller. It returns the share of the instructions for which the library's does.
func checkRules(t *testing.T, bin string) (libraryRight float64) {
	t.Helper()
	code, library, ours := bothTables(t, bin)
	moreAt := map[uint64]bool{}
	for i := range code.count {
		f, err := code.function(i)
		require.NoError(t, err)
		if bytes.HasPrefix(f.name, []byte("runtime.morestack")) {
			moreAt[f.start] = true
		}
	}
	require.NotEmpty(t, moreAt)
	functions, instructions, right, wrong := 0, 0, 0, 0
	for i := range code.count {
		f, err := code.function(i)
		require.NoError(t, err)
		theirs, ok := ruleAt(library, f.start)
		if !ok || theirs != framePointer || f.spWrite || slices.ContainsFunc(goFramed, f.is) {
			continue
		}
		functions++
		follow(code.code(f.start, f.end), f.start, func(a uint64) bool { return moreAt[a] }, func(addr uint64, in x86asm.Inst, s frameState) {
			instructions++
			if s.right(theirs) {
				right++
			}
			rule, _ := ruleAt(ours, addr)
			if !s.right(rule) {
				if wrong++; wrong < 10 {
					name, _, _ := bytes.Cut(f.name, []byte{0})
					t.Errorf("%s at %#x: %v: state %+v, frame pointer %c, rule %+v", name, addr, in, s, s.bp, rule)
				}
			}
		})
	}
	t.Logf("%d functions, %d instructions, %d of our rules are wrong, %d of the library's", functions, instructions, wrong, instructions-right)
	require.Zero(t, wrong)
	require.Greater(t, functions, 1000)
	return float64(right) / float64(instructions)
}

// TestGoRules checks the rule for each instruction of programs that were linked
// in the ways that there are, by disassembling them.
func TestGoRules(t *testing.T) {
	for _, build := range []struct {
		name, cgo string
		flags     []string
	}{
		{"normal", "0", nil},
		{"stripped", "0", []string{"-ldflags=-s -w"}},
		{"position independent", "0", []string{"-buildmode=pie"}},
		{"position independent, stripped", "0", []string{"-buildmode=pie", "-ldflags=-s -w"}},
		{"linked by gcc", "1", []string{"-ldflags=-linkmode=external"}},
		{"linked by gcc, position independent, stripped", "1", []string{"-buildmode=pie", "-ldflags=-linkmode=external -s -w"}},
	} {
		t.Run(build.name, func(t *testing.T) {
			bin := buildFor(t, "amd64", build.cgo, "./testdata/golang/small", build.flags...)
			require.Less(t, checkRules(t, bin), 0.9, "share of the library's rules that are right: are ours needed still?")
		})
	}
}

// buildFor compiles a Go program for Linux.
func buildFor(t *testing.T, arch, cgo, source string, flags ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", bin, source)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED="+cgo)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}
