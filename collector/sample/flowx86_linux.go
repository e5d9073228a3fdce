//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"encoding/binary"

	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
	"golang.org/x/arch/x86/x86asm"
)

// An x86State is where the caller's frame is before an instruction.
type x86State struct {
	framed bool  // the frame pointer tells
	depth  int32 // otherwise, bytes from the stack pointer to the caller's
}

var (
	x86Start = x86State{depth: 8}
	x86Body  = x86State{framed: true}
)

// maxX86Depth is the most that a function has on the stack before it sets its
// frame pointer, or without one.
const maxX86Depth = 1 << 20 // bytes

func (s x86State) rule() stackdeltatypes.UnwindInfo {
	if s.framed {
		return stackdeltatypes.UnwindInfoFramePointer
	}
	return stackdeltatypes.UnwindInfo{BaseReg: support.UnwindRegSp, Param: s.depth}
}

// flow follows the instructions of all the code of a gap, in which functions
// keep frame pointers, and passes on their rules. Compilers set a frame up only
// where a function needs one, so that it may begin or end with code that has
// none; where such code goes on is known from the jumps to it.
func (s *x86Scanner) flow(code []byte, addr uint64, rule func(uint64, stackdeltatypes.UnwindInfo)) {
	starts := x86CallTargets(code)
	var jumps map[int]x86State // by offset of the target
	for pass := range x86Passes {
		if pass < x86Passes-1 {
			jumps = x86Pass(code, starts, jumps, func(int, x86State) {})
			continue
		}
		x86Pass(code, starts, jumps, func(i int, state x86State) { rule(addr+uint64(i), state.rule()) })
	}
}

// x86Passes is how often code is gone through. The first pass does not know the
// states of targets that are jumped to from later on only; code that begins with
// such a target may hold jumps back too.
const x86Passes = 3

// x86Pass goes through code once. before has the states at the targets of jumps
// as the pass before has found them, nil in the first one.
func x86Pass(code []byte, starts map[int]bool, before map[int]x86State, visit func(i int, state x86State)) (jumps map[int]x86State) {
	jumps = map[int]x86State{}
	state, reached := x86Start, true
	for i := 0; i < len(code); {
		known, ok := jumps[i]
		if !ok {
			known, ok = before[i]
		}
		switch {
		case starts[i]:
			state = x86Start
		case reached:
		case ok:
			state = known
		default:
			if next := x86SkipPadding(code, i); next > i {
				i = next
				continue
			}
			// Nothing leads to here: a function begins. In the first pass it
			// may also be a part of one.
			if state = x86Start; before == nil && code[i] != x86PushRBP && !bytes.HasPrefix(code[i:], x86Endbr64) {
				state = x86Body
			}
		}
		reached = true
		visit(i, state)
		inst, err := x86asm.Decode(code[i:], 64)
		if err != nil {
			i++
			continue
		}
		i += inst.Len
		state = state.step(inst)
		if rel, ok := inst.Args[0].(x86asm.Rel); ok && inst.Op != x86asm.CALL {
			to := i + int(rel)
			if _, ok := jumps[to]; !ok && to >= 0 && to < len(code) {
				jumps[to] = state
			}
		}
		switch inst.Op {
		case x86asm.RET, x86asm.JMP, x86asm.UD2, x86asm.HLT, x86asm.LRET, x86asm.IRETQ:
			reached = false
		}
	}
	return jumps
}

// x86CallTargets returns the offsets that code calls in itself. A byte that
// looks like a call is seldom followed by a distance that stays in the code.
func x86CallTargets(code []byte) map[int]bool {
	found := map[int]bool{}
	const call, length = 0xe8, 5
	for i := 0; ; i++ {
		n := bytes.IndexByte(code[i:], call)
		if i += n; n < 0 || i+length > len(code) {
			return found
		}
		to := i + length + int(int32(binary.LittleEndian.Uint32(code[i+1:])))
		if to >= 0 && to < len(code) && (to == 0 || x86Ends(code, to)) {
			found[to] = true
		}
	}
}

// x86Ends reports whether a function or padding ends before an offset, as far as
// its last byte tells.
func x86Ends(code []byte, i int) bool {
	if bytes.HasPrefix(code[i:], x86Endbr64) || code[i] == x86PushRBP || i%16 == 0 {
		return true
	}
	last := code[i-1]
	return last == x86Ret || last == 0x90 || last == 0xcc || last == 0 || i >= 5 && code[i-5] == 0xe9
}

// x86SkipPadding returns the offset after instructions that do nothing.
func x86SkipPadding(code []byte, i int) int {
	for i < len(code) {
		if code[i] == 0xcc || code[i] == 0x90 {
			i++
			continue
		}
		inst, err := x86asm.Decode(code[i:], 64)
		if err != nil || inst.Op != x86asm.NOP {
			return i
		}
		i += inst.Len
	}
	return i
}

// step returns the state after an instruction.
func (s x86State) step(inst x86asm.Inst) x86State {
	switch inst.Op {
	case x86asm.LEAVE:
		return x86Start
	case x86asm.POP:
		if inst.Args[0] == x86asm.RBP && s.framed {
			return x86Start
		}
		s.depth -= 8
	case x86asm.PUSH:
		s.depth += 8
	case x86asm.MOV:
		if inst.Args[0] == x86asm.RBP && inst.Args[1] == x86asm.RSP {
			return x86Body
		}
	case x86asm.SUB, x86asm.ADD:
		n, ok := inst.Args[1].(x86asm.Imm)
		if !ok || inst.Args[0] != x86asm.RSP || n > maxX86Depth || n < -maxX86Depth {
			break
		}
		if inst.Op == x86asm.ADD {
			n = -n
		}
		s.depth += int32(n)
	}
	if !s.framed && (s.depth < 8 || s.depth > maxX86Depth) {
		return x86Body // it was no such code
	}
	return s
}
