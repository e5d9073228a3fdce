package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// endWithParent lets the demo end as on Ctrl-C when the program that started
// it (mage) dies. Without it, the demo would merely outlive its terminal.
func endWithParent() {
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0)
}
