package proc

import "syscall"

// attributes put the program into a group of its own and tie its life to ours.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// signalGroup sends a signal to a process group. A group that is gone is fine.
func signalGroup(pid int, s syscall.Signal) { _ = syscall.Kill(-pid, s) }
