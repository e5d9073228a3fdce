package sample

import "golang.org/x/sys/unix"

// oldSystemCalls are those of x86-64 that newer architectures do not have.
var oldSystemCalls = map[int32]reason{
	unix.SYS_EPOLL_WAIT: eventWait,
	unix.SYS_POLL:       eventWait,
	unix.SYS_SELECT:     eventWait,
	unix.SYS_PAUSE:      signalWait,
}
