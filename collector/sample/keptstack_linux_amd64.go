package sample

import (
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// Where registers are in the kernel's struct pt_regs of x86-64.
var registerNumbers = map[uint8]int{
	support.UnwindRegPc:     16,
	support.UnwindRegSp:     19,
	support.UnwindRegFp:     4,
	support.UnwindRegX86RAX: 10,
	support.UnwindRegX86RDI: 14,
	support.UnwindRegX86R8:  9,
	support.UnwindRegX86R9:  8,
	support.UnwindRegX86R11: 6,
	support.UnwindRegX86R13: 2,
	support.UnwindRegX86R15: 0,
}

// Where registers are in the frame of a signal handler, in the struct sigcontext that is
// 40 bytes above the stack pointer.
var signalNumbers = map[uint8]int{
	support.UnwindRegPc:     16,
	support.UnwindRegSp:     15,
	support.UnwindRegFp:     10,
	support.UnwindRegX86RAX: 13,
	support.UnwindRegX86RDI: 8,
	support.UnwindRegX86R8:  0,
	support.UnwindRegX86R9:  1,
	support.UnwindRegX86R11: 3,
	support.UnwindRegX86R13: 5,
	support.UnwindRegX86R15: 7,
}

const signalRegisters = 40

func (u *unwinding) load(r *registers) {
	for to, from := range registerNumbers {
		u.regs[to] = r[from]
	}
}

// restore finds the caller's registers relative to those of the frame.
func (u *unwinding) restore(rule stackdeltatypes.UnwindInfo) step {
	var cfa uint64
	if rule.Flags&support.UnwindFlagDerefCfa == 0 {
		cfa = u.plus(rule.BaseReg, rule.Param)
	} else {
		before, after := stackdeltatypes.UnpackDerefParam(rule.Param)
		at, ok := u.word(u.plus(rule.BaseReg, before))
		if !ok {
			return stepFailed
		}
		cfa = at + uint64(int64(after))
	}
	u.regs[support.UnwindRegCfa] = cfa
	other := u.plus(rule.AuxBaseReg, rule.AuxParam)
	if rule.Flags&support.UnwindFlagRegisterRA != 0 {
		u.regs[support.UnwindRegFp], u.regs[support.UnwindRegSp] = 0, cfa
		return u.called(other)
	}
	if other != 0 {
		if fp, ok := u.word(other); ok {
			u.regs[support.UnwindRegFp] = fp
		}
	} else if rule.BaseReg == support.UnwindRegFp {
		u.regs[support.UnwindRegFp] = 0
	}
	return u.callerBelow(cfa)
}

// callerBelow takes the return address from the word below an address, which the stack
// pointer has then.
func (u *unwinding) callerBelow(cfa uint64) step {
	pc, ok := u.word(cfa - 8)
	if !ok {
		return stepFailed
	}
	u.regs[support.UnwindRegSp] = cfa
	return u.called(pc)
}

func (u *unwinding) byFramePointer() step {
	fp := u.regs[support.UnwindRegFp]
	next, ok := u.word(fp)
	if !ok {
		return stepFailed
	}
	u.regs[support.UnwindRegFp] = next
	return u.callerBelow(fp + 16)
}

func (u *unwinding) command(command int32) step {
	sp := u.regs[support.UnwindRegSp]
	switch command {
	case support.UnwindCommandPLT:
		// Entries of the PLT have 16 bytes; the last instruction, at 11, has pushed a
		// word. See the rule that linkers write for it, a DWARF expression.
		if u.regs[support.UnwindRegPc]&15 >= 11 {
			sp += 8
		}
		return u.callerBelow(sp + 8)
	case support.UnwindCommandSignal:
		for to, from := range signalNumbers {
			v, ok := u.word(sp + signalRegisters + 8*uint64(from))
			if !ok {
				return stepFailed
			}
			u.regs[to] = v
		}
		u.returned = false
		return stepCaller
	}
	return stepFailed
}
