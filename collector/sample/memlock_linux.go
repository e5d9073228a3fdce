//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The unwinder raises RLIMIT_MEMLOCK before it creates maps and programs, and
// gives up if it may not. Kernels from 5.11 on account eBPF memory to control
// groups and do not look at that limit. So where raising it needs a capability
// that the process lacks (CAP_SYS_RESOURCE), a seccomp filter on the thread
// that sets up the unwinder answers that one system call with success.

// memlockFreeKernel is the first kernel that does not need the limit.
var memlockFreeKernel = [2]int{5, 11}

// errMemlock says what to do where the limit is needed and cannot be raised.
var errMemlock = errors.New("RLIMIT_MEMLOCK is too low for this kernel: grant CAP_SYS_RESOURCE or set LimitMEMLOCK=infinity")

// allowMemlock makes raising RLIMIT_MEMLOCK succeed on the calling thread,
// which must be locked to its goroutine and end with it: the filter cannot be
// taken off again.
func allowMemlock() (filtered bool, err error) {
	var old unix.Rlimit
	most := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &most, &old); err == nil {
		// It can be raised. The unwinder shall do so itself.
		return false, unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil)
	}
	major, minor, err := kernelVersion()
	if err != nil {
		return false, err
	}
	if major < memlockFreeKernel[0] || major == memlockFreeKernel[0] && minor < memlockFreeKernel[1] {
		return false, errMemlock
	}
	if err := filterMemlock(); err != nil {
		return false, fmt.Errorf("seccomp filter for RLIMIT_MEMLOCK: %w", err)
	}
	return true, nil
}

// Offsets in struct seccomp_data. Both architectures are little endian, so an
// argument's lower half comes first.
const (
	seccompNumber  = 0
	seccompArch    = 4
	seccompArg0Low = 16
	seccompArg1Low = 24
	seccompArg2Low = 32
	seccompArg2Hi  = 36
)

// filterMemlock installs the filter on the calling thread alone. It answers
// prlimit64(pid, RLIMIT_MEMLOCK, limit != NULL, old) and
// setrlimit(RLIMIT_MEMLOCK, limit) with 0 without running them.
func filterMemlock() error {
	arch, setrlimit := uint32(unix.AUDIT_ARCH_X86_64), uint32(160)
	if runtime.GOARCH == "arm64" {
		arch, setrlimit = unix.AUDIT_ARCH_AARCH64, 164
	}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// jump compares what was loaded last and skips yes or no instructions.
	jump := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
	}
	program := []unix.SockFilter{
		0:  load(seccompArch),
		1:  jump(arch, 0, 12),               // else allow
		2:  load(seccompNumber),             //
		3:  jump(unix.SYS_PRLIMIT64, 3, 0),  // to 7
		4:  jump(setrlimit, 0, 9),           // else allow
		5:  load(seccompArg0Low),            //
		6:  jump(unix.RLIMIT_MEMLOCK, 6, 7), // succeed or allow
		7:  load(seccompArg1Low),            //
		8:  jump(unix.RLIMIT_MEMLOCK, 0, 5), // else allow
		9:  load(seccompArg2Low),            //
		10: jump(0, 0, 2),                   // a limit is given: succeed
		11: load(seccompArg2Hi),             //
		12: jump(0, 1, 0),                   // none is given: allow
		13: answer(unix.SECCOMP_RET_ERRNO),  // error 0: success
		14: answer(unix.SECCOMP_RET_ALLOW),  //
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Without CAP_SYS_ADMIN a filter needs no_new_privs, which is the thread's
	// own too.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	return nil
}

// kernelVersion returns the running kernel's version.
func kernelVersion() (major, minor int, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, 0, fmt.Errorf("read kernel version: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("parse kernel version %q: %w", release, err)
	}
	return major, minor, nil
}
