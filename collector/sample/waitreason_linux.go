//go:build linux && (amd64 || arm64)

package sample

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A reason is the frame at the root of an off-CPU stacktrace, which says what the thread
// waited for.
type reason = *location

// note returns a frame that stands for no code.
func note(text string) *location {
	return &location{kind: kindError, lines: []line{{function: text}}}
}

var (
	runQueue     = note("[run queue]")     // runnable, but no CPU was free
	sleeping     = note("[sleep]")         // for a time that the program gave
	idling       = note("[idle]")          // a worker of a runtime or pool without work
	lockWait     = note("[lock]")          // a futex: locks, conditions, semaphores, and waits for threads
	gilWait      = note("[GIL]")           // Python's global interpreter lock
	kernelLock   = note("[kernel lock]")   // a lock of the kernel, such as that of a process' mappings
	diskIO       = note("[disk I/O]")      // block devices and file systems
	socketIO     = note("[socket I/O]")    // network and Unix sockets
	pipeIO       = note("[pipe I/O]")      // pipes
	terminalIO   = note("[terminal I/O]")  // terminals
	eventWait    = note("[event wait]")    // epoll, poll, select, io_uring
	pageFault    = note("[page fault]")    // a page that had to be read or made
	childProcess = note("[child process]") // wait4 and waitid
	signalWait   = note("[signal]")        // pause, sigsuspend, sigtimedwait
	stoppedWait  = note("[stopped]")       // by a signal or a debugger
	otherWait    = note("[other wait]")    //
)

// kernelReasons say what a thread waits for by a function of the kernel that is in the
// stacktrace. The first rule of which a function begins with one of the texts holds, so
// that what is specific comes first.
var kernelReasons = []struct {
	reason    reason
	functions []string
}{
	{pageFault, []string{"exc_page_fault", "asm_exc_page_fault", "do_user_addr_fault", "do_page_fault", "do_mem_abort"}},
	{sleeping, []string{"hrtimer_nanosleep", "do_nanosleep", "common_nsleep"}},
	{lockWait, []string{"futex_", "__futex_", "do_futex", "posix_lock_inode_wait", "locks_lock_inode_wait", "fcntl_setlk", "do_semtimedop", "__do_semtimedop"}},
	{eventWait, []string{"ep_poll", "do_epoll_", "do_sys_poll", "do_poll", "do_select", "io_cqring_wait", "eventfd_read", "timerfd_read", "inotify_read"}},
	{childProcess, []string{"do_wait", "kernel_wait4"}},
	{signalWait, []string{"do_sigtimedwait", "sigsuspend", "__do_sys_pause", "__x64_sys_pause", "do_sys_pause"}},
	{pipeIO, []string{"pipe_", "anon_pipe_", "fifo_", "wait_for_partner"}},
	{terminalIO, []string{"tty_", "n_tty_", "file_tty_", "iterate_tty_"}},
	{socketIO, []string{"sk_", "sock_", "__sock_", "tcp_", "udp_", "inet_", "unix_", "__skb_", "netlink_", "packet_", "vsock_", "__sys_recv", "__sys_send", "__sys_accept", "__sys_connect"}},
	{kernelLock, []string{"rwsem_", "__rwsem_", "down_", "__down_", "__mutex_", "mutex_", "percpu_rwsem_", "__percpu_", "rt_mutex_"}},
	{diskIO, []string{
		"io_schedule", "folio_wait_", "wait_on_page_", "wait_on_buffer", "__wait_on_buffer", "bit_wait_io", "blk_", "submit_bio_wait",
		"jbd2_", "ext4_", "xfs_", "btrfs_", "nfs_", "fuse_", "request_wait_answer", "vfs_fsync", "do_fsync", "file_write_and_wait", "balance_dirty_pages", "swap_read", "iomap_",
	}},
	{stoppedWait, []string{"do_signal_stop", "ptrace_stop", "do_jobctl_trap", "do_freezer_trap", "__refrigerator"}},
}

// idleFrames are functions in which the threads of runtimes and pools wait for work.
var idleFrames = map[kind][]string{
	kindGo:  {"runtime.stopm", "runtime.templateThread"},
	kindJVM: {"java.util.concurrent.ThreadPoolExecutor.getTask", "java.util.concurrent.ForkJoinPool.awaitWork"},
}

// sleepFrames are functions that sleep by way of a lock.
var sleepFrames = map[kind][]string{
	kindJVM: {"java.lang.Thread.sleep", "java.lang.Thread.sleep0", "java.lang.Thread.sleepNanos"},
	kindGo:  {"runtime.usleep"},
}

// reasonOf returns why a thread waited, from the frames of its stacktrace, leaf first,
// and from what is known besides.
func reasonOf(locs []*location, c cause) reason {
	switch {
	case c.part == partQueued:
		return runQueue
	case c.state == stateStopped:
		return stoppedWait
	}
	r := kernelReason(locs)
	if r == nil {
		r = systemCallReason(c)
	}
	if r != lockWait && r != otherWait {
		return r
	}
	switch {
	case waitsForGIL(locs):
		return gilWait
	case hasFrame(locs, sleepFrames):
		return sleeping
	case hasFrame(locs, idleFrames):
		return idling
	}
	return r
}

// kernelReason returns what the functions of the kernel say, nil if they say nothing.
func kernelReason(locs []*location) reason {
	for _, rule := range kernelReasons {
		for _, l := range locs {
			if l.kind != kindKernel {
				continue
			}
			for _, prefix := range rule.functions {
				if strings.HasPrefix(l.lines[0].function, prefix) {
					return rule.reason
				}
			}
		}
	}
	return nil
}

// systemCallReason returns what the system call and the state of the thread say.
func systemCallReason(c cause) reason {
	switch {
	case c.state == stateIO:
		return diskIO
	case c.syscall < 0:
		return otherWait
	}
	switch c.syscall {
	case unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP:
		return sleeping
	case unix.SYS_FUTEX, sysFutexWaitV, sysFutexWait, unix.SYS_FLOCK:
		return lockWait
	case unix.SYS_EPOLL_PWAIT, sysEpollPwait2, unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_IO_URING_ENTER:
		return eventWait
	case unix.SYS_WAIT4, unix.SYS_WAITID:
		return childProcess
	case unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_SIGSUSPEND:
		return signalWait
	case unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT:
		return socketIO
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_MSYNC:
		return diskIO
	}
	if r, ok := oldSystemCalls[c.syscall]; ok {
		return r
	}
	return otherWait
}

// System calls that came late have the same number on all architectures.
const (
	sysEpollPwait2 = 441
	sysFutexWaitV  = 449
	sysFutexWait   = 455
)

// waitsForGIL reports whether a thread of Python waits for the interpreter's lock. The
// function that does so is take_gil; without symbols it is the one between the condition
// that it waits for and the interpreter.
func waitsForGIL(locs []*location) bool {
	waits := false
	for _, l := range locs {
		if l.kind != kindNative {
			continue
		}
		name := l.lines[len(l.lines)-1].function
		if strings.HasPrefix(name, "take_gil") || strings.HasPrefix(l.lines[0].function, "take_gil") {
			return true
		}
		python := strings.HasPrefix(l.module.name, "python") || strings.HasPrefix(l.module.name, "libpython")
		if waits && python {
			return l.unknown || strings.HasPrefix(name, "PyEval_") || strings.HasPrefix(name, "_PyEval_") || strings.HasPrefix(name, "PyGILState_")
		}
		waits = strings.Contains(name, "pthread_cond_timedwait") || strings.Contains(name, "pthread_cond_clockwait")
	}
	return false
}

// hasFrame reports whether one of some functions is in a stacktrace.
func hasFrame(locs []*location, functions map[kind][]string) bool {
	for _, l := range locs {
		names := functions[l.kind]
		if names == nil {
			continue
		}
		for _, ln := range l.lines {
			for _, n := range names {
				if ln.function == n {
					return true
				}
			}
		}
	}
	return false
}
