package record

import "golang.org/x/sys/unix"

// breakpoint is the instruction int3.
var breakpoint = []byte{0xcc}

// rewind has a process that has stopped after a breakpoint run the instruction there, and
// reports whether it has stopped there.
func rewind(pid int, at uintptr) bool {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &r); err != nil || r.Rip != uint64(at)+uint64(len(breakpoint)) {
		return false
	}
	r.Rip = uint64(at)
	return unix.PtraceSetRegs(pid, &r) == nil
}
