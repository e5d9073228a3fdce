//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// A callFrame is what a call must restore: its return address, and the caller's
// stack pointer and frame pointer.
type callFrame struct {
	pc, sp, fp uint64
	caller     *callFrame // nil if it is not known
}

// A stepper follows a program for arm64, instruction by instruction. It keeps the
// calls that have not returned, which it knows from the instructions executed,
// and compares them with what the rules of an unwind table give.
type stepper struct {
	t     *testing.T
	e     *emulator
	code  *goCode
	table *stackdeltatypes.IntervalData

	now     armRegisters
	top     *callFrame
	waiting map[[2]uint64]*callFrame // where goroutines may go on: address, stack pointer

	steps, checked, frames, wrong, kept int
	stops                               map[string]int // by function where stacks end
	ended                               bool           // the function has returned

	library, libraryWrong int // of the same checks with the library's rules
	theirs                *stackdeltatypes.IntervalData
	seen                  map[uint64]int // how often each instruction was executed
}

// name returns the name of the function at an address.
func (s *stepper) name(pc uint64) string {
	for i := range s.code.count {
		if f, err := s.code.function(i); err == nil && pc >= f.start && pc < f.end {
			name, _, _ := bytes.Cut(f.name, []byte{0})
			return string(name)
		}
	}
	return "?"
}

// word returns the instruction at an address; 0 if it is not in the file.
func (s *stepper) word(pc uint64) uint32 {
	if code := s.code.code(pc, pc+4); len(code) == 4 {
		return binary.LittleEndian.Uint32(code)
	}
	return 0
}

// run calls a function without a result that matters, with n as its argument,
// and follows it until it returns or has executed so many instructions.
func (s *stepper) run(function uint64, n uint64, limit int) error {
	now, err := s.e.registers()
	if err != nil {
		return err
	}
	// The program is at the first instruction of another function, in place of which
	// it executes this one.
	if err := s.e.set(armPC, function); err != nil {
		return err
	}
	if err := s.e.set(0, n); err != nil {
		return err
	}
	if s.now, err = s.e.registers(); err != nil {
		return err
	}
	root := &callFrame{pc: now[armLR], sp: now[armSP], fp: now[armFP]}
	s.top = root
	for range limit {
		if s.now[armPC] == root.pc && s.now[armSP] == root.sp {
			s.ended = true
			return nil
		}
		if err := s.check(); err != nil {
			return err
		}
		if err := s.step(); err != nil {
			return err
		}
	}
	return nil
}

// step executes an instruction and notes what it calls, and what returns.
func (s *stepper) step() error {
	before, w := s.now, s.word(s.now[armPC])
	if s.seen[before[armPC]] >= loopRounds && s.loops(before[armPC]) {
		if err := s.e.runTo(before[armPC] + 4); err != nil {
			return err
		}
	} else if err := s.e.step(); err != nil {
		return err
	}
	s.steps++
	after, err := s.e.registers()
	if err != nil {
		return err
	}
	s.now = after
	pc, sp := after[armPC], after[armSP]
	call := w&0xfc000000 == 0x94000000 || w&0xfffffc1f == 0xd63f0000
	jump := w&0xfffffc1f == 0xd61f0000 || w&0xfffffc1f == 0xd65f0000 // br, ret
	switch {
	case call:
		s.top = &callFrame{pc: before[armPC] + 4, sp: before[armSP], fp: before[armFP], caller: s.top}
		s.waiting[[2]uint64{s.top.pc, s.top.sp}] = s.top
	case !jump:
	case s.top != nil && s.top.pc == pc && s.top.sp == sp:
		s.top = s.top.caller
	case s.name(before[armPC]) == "gogo":
		s.goOn(pc, sp)
	case s.top != nil && w&0xfffffc1f == 0xd65f0000:
		return fmt.Errorf("%s at %#x returned to %#x in place of %#x", s.name(before[armPC]), before[armPC], pc, s.top.pc)
	}
	return nil
}

// loopRounds is how many rounds of a loop are executed step by step.
const loopRounds = 8

// loops reports whether an instruction is the end of a short loop, which has no
// other branch and so ends only there.
func (s *stepper) loops(pc uint64) bool {
	w := s.word(pc)
	back := -int64(int32(w<<8)>>13) * 4
	if w&0xff000010 != 0x54000000 && w&0x7e000000 != 0x34000000 || back <= 0 || back > 64 { // b.cond, cbz, cbnz
		return false
	}
	for at := pc - uint64(back); at < pc; at += 4 {
		if s.word(at)>>26&7 == 5 { // all branches
			return false
		}
	}
	return true
}

// goOn looks up the calls of the goroutine that goes on at an address.
func (s *stepper) goOn(pc, sp uint64) {
	if f := s.waiting[[2]uint64{pc, sp}]; f != nil {
		s.top = f.caller
		return
	}
	var called *callFrame
	for f := s.top; f != nil; f = f.caller {
		if f.pc == pc && s.calls(f) == "runtime.morestack" {
			s.moved(f, sp-f.sp)
			s.top = f.caller
			return
		}
		if f.sp == sp {
			// After a panic, a function goes on elsewhere than where its call returned.
			called = f
		}
	}
	if s.top = nil; called != nil {
		s.top = called.caller
	}
}

// calls returns the name of the function that a call was of, without what comes
// after an underscore.
func (s *stepper) calls(f *callFrame) string {
	target := f.pc - 4 + uint64(int64(int32(s.word(f.pc-4)<<6)>>4))
	name, _, _ := strings.Cut(s.name(target), "_")
	return name
}

// moved notes that a stack was moved, as it was too small.
func (s *stepper) moved(f *callFrame, distance uint64) {
	for ; f != nil; f = f.caller {
		if f.sp += distance; f.fp != 0 {
			f.fp += distance
		}
		s.waiting[[2]uint64{f.pc, f.sp}] = f
	}
}

// checkAll is how many instructions are executed between two checks of whole
// stacks; the first caller is checked at each instruction.
const checkAll = 37

// check compares the callers with those that the rules give.
func (s *stepper) check() error {
	s.seen[s.now[armPC]]++
	if s.top == nil {
		return nil
	}
	all := s.steps%checkAll == 0 || s.seen[s.now[armPC]] == 1
	s.checked++
	place := callFrame{pc: s.now[armPC], sp: s.now[armSP], fp: s.now[armFP]}
	for want, leaf := s.top, true; want != nil; want, leaf = want.caller, false {
		at := place.pc
		if !leaf {
			at-- // within the call
		}
		rule, ok := ruleAt(s.table, at)
		if !ok {
			return nil // not Go's code
		}
		if rule == stopRule {
			s.stops[s.name(at)]++
			return nil
		}
		if rule == framePointer {
			s.kept++
			return nil
		}
		if leaf {
			if theirs, ok := ruleAt(s.theirs, at); ok {
				s.library++
				if got, err := s.apply(theirs, place, true); err != nil || got.pc != want.pc {
					s.libraryWrong++
				}
			}
		}
		got, err := s.apply(rule, place, leaf)
		if err != nil || got.pc != want.pc || got.sp != want.sp || got.fp != want.fp {
			if s.wrong++; s.wrong < 10 {
				s.t.Errorf("%s at %#x, instruction %#x: rule %+v gives %#x (%s), %#x, %#x for %#x (%s), %#x, %#x: %v",
					s.name(at), place.pc, s.word(place.pc), rule, got.pc, s.name(got.pc), got.sp, got.fp,
					want.pc, s.name(want.pc), want.sp, want.fp, err)
			}
			return nil
		}
		s.frames++
		if !all {
			return nil
		}
		place = *want
	}
	return nil
}

// apply does what the library's unwinder does with a rule.
func (s *stepper) apply(rule stackdeltatypes.UnwindInfo, at callFrame, leaf bool) (to callFrame, err error) {
	register := func(r uint8) uint64 {
		if r == support.UnwindRegFp {
			return at.fp
		}
		return at.sp
	}
	switch {
	case rule == framePointer:
		to.fp, to.pc, err = s.e.words(at.fp)
		return to, err
	case rule.Flags&support.UnwindFlagCommand != 0:
		return to, fmt.Errorf("command %d", rule.Param)
	case rule.BaseReg != support.UnwindRegFp && rule.BaseReg != support.UnwindRegSp:
		return to, fmt.Errorf("register %d", rule.BaseReg)
	}
	to.sp = register(rule.BaseReg) + uint64(int64(rule.Param))
	switch {
	case rule.AuxBaseReg == support.UnwindRegLr && leaf:
		to.pc, to.fp = s.now[armLR], at.fp
	case rule.AuxBaseReg == support.UnwindRegLr:
		return to, fmt.Errorf("the link register is known for the leaf only")
	case rule.Flags&support.UnwindFlagFrame != 0:
		to.fp, to.pc, err = s.e.words(register(rule.AuxBaseReg) + uint64(int64(rule.AuxParam)) - 8)
	default:
		err = fmt.Errorf("rule without the frame pointer")
	}
	return to, err
}

// goArmEnds are the functions where stacks end, on arm64.
var goArmEnds = []string{"runtime.goexit", "runtime.mstart", "runtime.mcall", "runtime.morestack", "runtime.morestack_noctxt", "gogo"}

// An armStart is a function of a program, and its argument.
type armStart struct {
	function string
	n        uint64
}

// stepArm follows functions of a program for arm64 for so many instructions each,
// which it calls in place of a function of the program that has no arguments.
func stepArm(t *testing.T, bin, begin string, limit int, calls ...armStart) {
	t.Helper()
	code, library, ours := bothTables(t, bin)
	addresses := map[string]uint64{}
	for i := range code.count {
		f, err := code.function(i)
		require.NoError(t, err)
		name, _, _ := bytes.Cut(f.name, []byte{0})
		addresses[string(name)] = f.start
	}
	patient := withoutPreemption(t, bin, addresses["runtime.retake"])
	for _, call := range calls {
		t.Run(call.function, func(t *testing.T) {
			require.NotZero(t, addresses[call.function])
			e := startEmulator(t, patient, "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off")
			s := stepper{t: t, e: e, code: code, table: ours, theirs: library,
				waiting: map[[2]uint64]*callFrame{}, stops: map[string]int{}, seen: map[uint64]int{}}
			require.NoError(t, e.runTo(addresses[begin]))
			require.NoError(t, s.run(addresses[call.function], call.n, limit))
			t.Logf("returned: %t; %d instructions, %d places, %d with known callers, %d callers right, %d wrong; stacks end %v, %d times the library's rule is kept; without ours %d of %d first callers are wrong",
				s.ended, s.steps, len(s.seen), s.checked, s.frames, s.wrong, s.stops, s.kept, s.libraryWrong, s.library)
			require.Zero(t, s.wrong)
			require.Greater(t, s.checked, s.steps*9/10)
			require.Less(t, s.kept, s.steps/20+10)
			for name := range s.stops {
				require.Contains(t, goArmEnds, name)
			}
		})
	}
}

// TestGoArmSteps executes programs for arm64 instruction by instruction, and
// checks that the rules give, at each, the caller's address, stack pointer and
// frame pointer.
func TestGoArmSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it runs programs in an emulator")
	}
	small := buildFor(t, "arm64", "0", "./testdata/golang/small", "-trimpath")
	require.Equal(t, elf.EM_AARCH64, machineOf(t, small))
	library := buildFor(t, "arm64", "0", "./testdata/golang/library", "-trimpath", "-ldflags=-s -w")
	t.Run("small", func(t *testing.T) {
		t.Parallel()
		stepArm(t, small, "main.main", 4000, armStart{"main.shopLoop", 20}, armStart{"main.climb", 10}, armStart{"main.fib", 8},
			armStart{"main.methodValues", 20}, armStart{"main.closures", 20}, armStart{"main.generics", 10},
			armStart{"main.bigFrames", 1}, armStart{"main.panics", 2}, armStart{"main.interfaces", 20}, armStart{"main.systemCalls", 3})
	})
	t.Run("library", func(t *testing.T) {
		t.Parallel()
		stepArm(t, library, "main.main", 4000,
			armStart{"main.digests", 0}, armStart{"main.searches", 0}, armStart{"main.copies", 0}, armStart{"main.numbers", 0},
			armStart{"main.documents", 0}, armStart{"main.archives", 0}, armStart{"main.grown", 0})
	})
}

// TestGoArmFrames does the same for frames of many sizes, and for versions of Go
// that make them by other instructions.
func TestGoArmFrames(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it runs programs in an emulator, and fetches an old version of Go")
	}
	starts := []armStart{{"main.smallFrames", 1}, {"main.largeFrames", 1}, {"main.hugeFrames", 1}}
	t.Run("this version", func(t *testing.T) {
		stepArm(t, buildFor(t, "arm64", "0", "./testdata/golang/frames", "-trimpath"), "main.begin", 8000, starts...)
	})
	t.Run("go1.22.12", func(t *testing.T) {
		t.Setenv("GOARCH", "arm64")
		stepArm(t, buildOld(t, "go1.22.12", "testdata/golang/frames/main.go"), "main.begin", 8000, starts...)
	})
}

// TestGoArmOfOldVersions checks that the library's table is left for programs that
// Go before 1.21 compiled.
func TestGoArmOfOldVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it fetches an old version of Go")
	}
	t.Setenv("GOARCH", "arm64")
	_, library, ours := bothTables(t, buildOld(t, "go1.19.13", "testdata/golang/frames/main.go"))
	require.Same(t, library, ours)
	require.Greater(t, library.NumDeltas, uint32(1000))
}

// withoutPreemption returns a copy of a program whose runtime.retake, at an
// address, does nothing. It makes goroutines give way that run for more than 10
// ms, as they do when they are executed step by step.
func withoutPreemption(t *testing.T, bin string, retake uint64) string {
	t.Helper()
	require.NotZero(t, retake)
	f, err := elf.Open(bin)
	require.NoError(t, err)
	defer f.Close()
	data, err := os.ReadFile(bin)
	require.NoError(t, err)
	patched := false
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && retake >= p.Vaddr && retake-p.Vaddr < p.Filesz-8 {
			at := data[p.Off+retake-p.Vaddr:]
			binary.LittleEndian.PutUint32(at, 0xd2800000)     // mov x0, #0
			binary.LittleEndian.PutUint32(at[4:], 0xd65f03c0) // ret
			patched = true
		}
	}
	require.True(t, patched)
	copied := filepath.Join(t.TempDir(), "patient")
	require.NoError(t, os.WriteFile(copied, data, 0o700))
	return copied
}

// machineOf returns what a program is for.
func machineOf(t *testing.T, bin string) elf.Machine {
	t.Helper()
	f, err := elf.Open(bin)
	require.NoError(t, err)
	defer f.Close()
	return f.Machine
}
