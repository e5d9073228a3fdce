// Command otel runs a program with what OpenTelemetry's eBPF profiler asks for,
// and a container may lack: tracefs is mounted, where the program alone sees it,
// and RLIMIT_MEMLOCK is out of the way, which the profiler raises though kernels
// from 5.11 on do not need it.
//
// It is a module of its own, like the profiler that go.mod names as a tool:
// both are what the tests install, and no part of Flameline.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: otel PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	runtime.LockOSThread() // namespace and filter are the thread's, which becomes the program
	err := mount()
	if err == nil {
		err = filter()
	}
	if err == nil {
		err = unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintf(os.Stderr, "run %s: %v\n", os.Args[1], err)
	os.Exit(1)
}

// mount makes a mount namespace with tracefs.
func mount() error {
	const path = "/sys/kernel/tracing"
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tracefs", path, "tracefs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) { // there already
		return fmt.Errorf("mount tracefs: %w", err)
	}
	return nil
}

// filter answers prlimit64(pid, RLIMIT_MEMLOCK, limit, old) with success
// without running it.
func filter() error {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: n, K: k}
	}
	program := []unix.SockFilter{
		load(0), // the call's number
		skipUnless(unix.SYS_PRLIMIT64, 3),
		load(24), // its second argument
		skipUnless(unix.RLIMIT_MEMLOCK, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO}, // error 0
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	return nil
}
