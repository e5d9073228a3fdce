//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
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

	steps, checked, frames, wrong, stops, kept int

	library, libraryWrong int // of the same checks with the library's rules
	theirs                *stackdeltatypes.IntervalData
	seen                  map[uint64]bool // instructions
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
	// The program is at the first instruction of main.main, in place of which it
	// executes the function.
	if err := s.e.set(armPC, function); err != nil {
		return err
	}
	if err := s.e.set(0, n); err != nil {
		return err
	}
	root := &callFrame{pc: now[armLR], sp: now[armSP], fp: now[armFP]}
	s.top = root
	for range limit {
		if s.now, err = s.e.registers(); err != nil {
			return err
		}
		if s.now[armPC] == root.pc && s.now[armSP] == root.sp {
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
	if err := s.e.step(); err != nil {
		return err
	}
	s.steps++
	after, err := s.e.registers()
	if err != nil {
		return err
	}
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

// goOn looks up the calls of the goroutine that goes on at an address.
func (s *stepper) goOn(pc, sp uint64) {
	if f := s.waiting[[2]uint64{pc, sp}]; f != nil {
		s.top = f.caller
		return
	}
	// After a panic, a function goes on elsewhere than where its call returned.
	var called *callFrame
	for f := s.top; f != nil; f = f.caller {
		if f.sp == sp {
			called = f
		}
	}
	if s.top = nil; called != nil {
		s.top = called.caller
	}
}

// checkAll is how many instructions are executed between two checks of whole
// stacks; the first caller is checked at each instruction.
const checkAll = 37

// check compares the callers with those that the rules give.
func (s *stepper) check() error {
	if s.top == nil {
		return nil
	}
	all := s.steps%checkAll == 0 || !s.seen[s.now[armPC]]
	s.seen[s.now[armPC]] = true
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
			s.stops++
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

// An armStart is a function of a program, and its argument.
type armStart struct {
	function string
	n        uint64
}

// stepArm follows functions of a program for arm64 for so many instructions each.
func stepArm(t *testing.T, bin string, limit int, calls ...armStart) {
	t.Helper()
	code, library, ours := bothTables(t, bin)
	addresses := map[string]uint64{}
	for i := range code.count {
		f, err := code.function(i)
		require.NoError(t, err)
		name, _, _ := bytes.Cut(f.name, []byte{0})
		addresses[string(name)] = f.start
	}
	for _, call := range calls {
		t.Run(call.function, func(t *testing.T) {
			require.NotZero(t, addresses[call.function])
			e := startEmulator(t, bin, "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
			s := stepper{t: t, e: e, code: code, table: ours, theirs: library,
				waiting: map[[2]uint64]*callFrame{}, seen: map[uint64]bool{}}
			require.NoError(t, e.runTo(addresses["main.main"]))
			require.NoError(t, s.run(addresses[call.function], call.n, limit))
			t.Logf("%d instructions, %d places, %d with known callers, %d callers right, %d wrong; %d times the stack ends, %d times the library's rule is kept; without ours %d of %d first callers are wrong",
				s.steps, len(s.seen), s.checked, s.frames, s.wrong, s.stops, s.kept, s.libraryWrong, s.library)
			require.Zero(t, s.wrong)
			require.Greater(t, s.checked, s.steps*9/10)
			require.Less(t, s.kept+s.stops, s.steps/20+10)
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
	stepArm(t, small, 20000, armStart{"main.shopLoop", 20}, armStart{"main.climb", 10}, armStart{"main.fib", 8},
		armStart{"main.methodValues", 30}, armStart{"main.closures", 30}, armStart{"main.generics", 20},
		armStart{"main.bigFrames", 1}, armStart{"main.panics", 2}, armStart{"main.interfaces", 30}, armStart{"main.systemCalls", 3})
}

// machineOf returns what a program is for.
func machineOf(t *testing.T, bin string) elf.Machine {
	t.Helper()
	f, err := elf.Open(bin)
	require.NoError(t, err)
	defer f.Close()
	return f.Machine
}
