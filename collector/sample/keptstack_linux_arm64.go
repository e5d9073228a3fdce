package sample

import (
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// Where registers are in the kernel's struct user_pt_regs of arm64, and in that order in
// the struct sigcontext of a signal handler's frame, 312 bytes above the stack pointer.
const (
	armFramePointer = 29
	armLink         = 30
	armStack        = 31
	armCounter      = 32

	signalRegisters = 312
)

// addressBits are those of an address: above them pointers are signed.
const addressBits = 1<<48 - 1

func (u *unwinding) load(r *registers) {
	u.regs[support.UnwindRegPc] = r[armCounter] & addressBits
	u.regs[support.UnwindRegSp] = r[armStack]
	u.regs[support.UnwindRegFp] = r[armFramePointer]
	u.regs[support.UnwindRegLr] = r[armLink] & addressBits
}

// restore finds the caller's registers relative to those of the frame.
func (u *unwinding) restore(rule stackdeltatypes.UnwindInfo) step {
	cfa := u.plus(rule.BaseReg, rule.Param)
	u.regs[support.UnwindRegCfa] = cfa
	pc := u.plus(rule.AuxBaseReg, rule.AuxParam)
	if rule.AuxBaseReg == support.UnwindRegLr {
		if u.returned {
			return stepFailed // the link register is known for the leaf only
		}
	} else {
		at := pc
		var ok bool
		if pc, ok = u.word(at); !ok {
			return stepFailed
		}
		if rule.Flags&support.UnwindFlagFrame != 0 {
			if u.regs[support.UnwindRegFp], ok = u.word(at - 8); !ok {
				return stepFailed
			}
		}
	}
	u.regs[support.UnwindRegSp] = cfa
	return u.called(pc & addressBits)
}

func (u *unwinding) byFramePointer() step {
	fp := u.regs[support.UnwindRegFp]
	next, ok := u.word(fp)
	pc, ok2 := u.word(fp + 8)
	if !ok || !ok2 {
		return stepFailed
	}
	u.regs[support.UnwindRegFp], u.regs[support.UnwindRegSp] = next, 0
	return u.called(pc & addressBits)
}

func (u *unwinding) command(command int32) step {
	if command != support.UnwindCommandSignal {
		return stepFailed
	}
	var r registers
	for _, n := range []uint64{armFramePointer, armLink, armStack, armCounter} {
		v, ok := u.word(u.regs[support.UnwindRegSp] + signalRegisters + 8*n)
		if !ok {
			return stepFailed
		}
		r[n] = v
	}
	u.load(&r)
	u.returned = false
	return stepCaller
}
