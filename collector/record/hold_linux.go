package record

import (
	"encoding/binary"
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// holdUntilLoaded lets go of a process that this thread traces since its exec. Before
// that it calls known twice while the process is stopped: before the first instruction, and
// once the dynamic linker has loaded the libraries, before the program's own first
// instruction. The process is traced no more when it returns.
func holdUntilLoaded(pid int, known func(pid int)) {
	if _, ok := stopOf(pid); !ok {
		return // it has ended
	}
	known(pid)
	sig, loaded := runToEntry(pid)
	if loaded {
		known(pid)
	}
	// The error is that the process was killed meanwhile.
	_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(sig), 0, 0)
}

// runToEntry runs a process, which has stopped at exec, to the first instruction of its
// program, with a breakpoint as debuggers have, and reports whether libraries have been
// loaded. The process is stopped when it returns, or has ended. A signal that came first
// is returned; the process gets it when it is let go. A process that forks before that
// runs on as it is.
func runToEntry(pid int) (sig unix.Signal, loaded bool) {
	auxv, err := readProc(pid, "auxv")
	if err != nil {
		return 0, false
	}
	at, ok := entryOf(auxv)
	if !ok || len(breakpoint) == 0 || unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_TRACEFORK) != nil {
		return 0, false
	}
	before := make([]byte, len(breakpoint))
	if n, err := unix.PtracePeekText(pid, at, before); err != nil || n != len(before) {
		return 0, false
	}
	if n, err := unix.PtracePokeText(pid, at, breakpoint); err != nil || n != len(breakpoint) {
		return 0, false
	}
	why := status(0)
	if err := unix.PtraceCont(pid, 0); err == nil {
		if why, ok = stopWithin(pid, loadLimit); !ok {
			return 0, false // it has ended
		}
	}
	if why.event() == unix.PTRACE_EVENT_EXEC {
		return 0, true // a library has started another program, whose code is not ours to restore
	}
	_, _ = unix.PtracePokeText(pid, at, before) // fails if it was killed meanwhile
	switch {
	case why.event() == unix.PTRACE_EVENT_FORK:
		letGoOfChild(pid, at, before)
		return 0, false
	case why.signal() == wakeUp:
		return 0, false
	case why.signal() != unix.SIGTRAP:
		return why.signal(), false
	}
	if !rewind(pid, at) {
		return unix.SIGTRAP, false // the program's own
	}
	return 0, true
}

// letGoOfChild lets go of the process that a library has forked, which is traced too and
// has a copy of the breakpoint.
func letGoOfChild(pid int, at uintptr, before []byte) {
	child, err := unix.PtraceGetEventMsg(pid)
	if err != nil {
		return
	}
	if _, ok := stopOf(int(child)); !ok {
		return // it was killed
	}
	_, _ = unix.PtracePokeText(int(child), at, before)
	_ = unix.PtraceDetach(int(child))
}

// Libraries that take longer than loadLimit to load, or never let the program begin, are not
// waited for: a signal that programs ignore makes the process stop for its tracer.
const (
	loadLimit = 10 * time.Second
	wakeUp    = unix.SIGURG
)

// stopWithin waits as stopOf does, and stops the process if it has not stopped by itself
// within the limit.
func stopWithin(pid int, limit time.Duration) (why status, stopped bool) {
	sent := make(chan struct{})
	timer := time.AfterFunc(limit, func() {
		_ = unix.Kill(pid, wakeUp)
		close(sent)
	})
	why, stopped = stopOf(pid)
	if !timer.Stop() {
		<-sent // the number stays the process' until it was waited for
	}
	return why, stopped
}

// Entries of a process' auxiliary vector, see getauxval(3).
const (
	auxBase  = 7 // the address of the dynamic linker, 0 if there is none
	auxEntry = 9 // the address of the program's first instruction
)

// entryOf returns the address of a program's first instruction from its auxiliary vector,
// if libraries are loaded before it.
func entryOf(auxv []byte) (address uintptr, ok bool) {
	linked := false
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		value := binary.NativeEndian.Uint64(auxv[8:])
		switch binary.NativeEndian.Uint64(auxv) {
		case auxBase:
			linked = value != 0
		case auxEntry:
			address = uintptr(value)
		}
	}
	return address, linked && address != 0
}

// A status is why a traced process has stopped: a signal, and the number of an event of
// ptrace(2).
type status int32

func (s status) signal() unix.Signal { return unix.Signal(s & 0xff) }
func (s status) event() int          { return int(s >> 8) }

// stopOf waits until a traced process stops. It reports false if the process has ended,
// whose exit code stays to be waited for.
func stopOf(pid int) (why status, stopped bool) {
	// The beginning of siginfo_t as waitid(2) sets it.
	var info struct {
		signo, errno, code, _, pid, uid int32
		status                          status
		_                               [100]byte
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, 0, 0)
		switch {
		case errors.Is(errno, unix.EINTR):
			continue
		case errno != 0 || info.code != codeTrapped:
			return 0, false
		}
		return info.status, true
	}
}

// codeTrapped is CLD_TRAPPED of waitid(2): a traced process has stopped.
const codeTrapped = 4

// gainsRights reports whether a program runs with more rights than its user has: by its
// owner or by capabilities of its file. The kernel gives them to no traced program.
func gainsRights(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		return true
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}
