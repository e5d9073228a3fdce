//go:build linux && (amd64 || arm64)

package sample

import (
	"encoding/binary"

	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// maxLateFrames bounds the frames of a stacktrace that is unwound later.
const maxLateFrames = 1024

// registers are those of user space that the kernel keeps of a thread, in its order.
type registers [34]uint64

// A keptStack is the user's part of a thread's state when it was sampled.
type keptStack struct {
	registers registers
	bytes     []byte // from the stack pointer on; empty if nothing is known
}

// An unwinding goes from the frame of a keptStack to its callers, by the rules that the
// unwinder in the kernel applies. Its state is that of the library's UnwindState in
// support/ebpf/types.h: the registers are numbered by support.UnwindReg….
type unwinding struct {
	regs     [16]uint64
	base     uint64 // address of stack
	stack    []byte
	returned bool // the program counter is a return address
}

func (k *keptStack) unwinding() *unwinding {
	u := &unwinding{stack: k.bytes}
	u.load(&k.registers)
	u.base = u.regs[support.UnwindRegSp]
	return u
}

// word reads 8 bytes of the stack, false for those that were not kept.
func (u *unwinding) word(addr uint64) (uint64, bool) {
	if addr < u.base || addr-u.base > uint64(len(u.stack)) || uint64(len(u.stack))-(addr-u.base) < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(u.stack[addr-u.base:]), true
}

// plus returns a register plus a number; a register that there is not is 0.
func (u *unwinding) plus(register uint8, n int32) uint64 {
	return u.regs[register%uint8(len(u.regs))] + uint64(int64(n))
}

// A step is how applying a rule ended.
type step uint8

const (
	stepCaller step = iota // the state is that of the caller
	stepEnd                // there is no caller
	stepFailed             // the caller is not known
)

// apply applies the rule that holds where the state is.
func (u *unwinding) apply(rule stackdeltatypes.UnwindInfo) step {
	if rule.Flags&support.UnwindFlagCommand == 0 {
		return u.restore(rule)
	}
	switch rule.Param {
	case support.UnwindCommandStop:
		return stepEnd
	case support.UnwindCommandFramePointer:
		return u.byFramePointer()
	}
	return u.command(rule.Param)
}

// called notes the caller's program counter.
func (u *unwinding) called(pc uint64) step {
	u.regs[support.UnwindRegPc], u.returned = pc, true
	if pc == 0 {
		return stepFailed
	}
	return stepCaller
}

// walk returns the places of a stacktrace, leaf first, and whether it is whole. rules are
// those of a file, nil if they are not known.
func (k *keptStack) walk(ms []codeMapping, rules func(codeMapping) *rules) (places []place, whole bool) {
	if len(k.bytes) == 0 {
		return nil, false
	}
	u := k.unwinding()
	for len(places) < maxLateFrames {
		pc := u.regs[support.UnwindRegPc]
		if u.returned {
			pc-- // into the call
		}
		m, ok := find(ms, pc)
		if !ok {
			return places, false
		}
		p := m.at(pc)
		places = append(places, p)
		r := rules(m)
		if r == nil {
			return places, false
		}
		rule, ok := r.at(p.offset)
		if !ok {
			return places, false
		}
		switch u.apply(rule) {
		case stepEnd:
			return places, true
		case stepFailed:
			return places, false
		}
	}
	return places, false
}
