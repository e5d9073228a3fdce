package record

import "golang.org/x/sys/unix"

// breakpoint is the instruction brk #0.
var breakpoint = []byte{0x00, 0x00, 0x20, 0xd4}

// generalRegisters is NT_PRSTATUS of ptrace(2).
const generalRegisters = 1

// rewind reports whether a process has stopped at a breakpoint. It is stopped before the
// instruction, not after it.
func rewind(pid int, at uintptr) bool {
	var r unix.PtraceRegsArm64
	return unix.PtraceGetRegSetArm64(pid, generalRegisters, &r) == nil && r.Pc == uint64(at)
}
