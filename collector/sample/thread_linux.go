//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// tracefsPath is where the kernel's trace event files are expected.
const tracefsPath = "/sys/kernel/tracing"

// onSetupThread runs fn on a thread of its own, on which RLIMIT_MEMLOCK can be
// raised and tracefs is mounted, as far as that is possible. The thread ends
// afterwards, and with it the filter and the mount. Threads that the runtime
// starts meanwhile do not inherit them: while a thread is locked, it starts
// new ones from another.
//
// It is never the process' first thread: that one never ends, and what /proc
// says about the process, as its mounts, is what that thread has.
func onSetupThread(fn func(setup setup) error) error {
	result := make(chan error, 1)
	go onOtherThread(func() {
		// Still locked when it returns, so that the runtime ends the thread.
		var s setup
		s.tracefs = withTracefs()
		filtered, err := allowMemlock()
		if err != nil {
			result <- err
			return
		}
		s.memlockFiltered = filtered
		result <- fn(s)
	})
	return <-result
}

// onOtherThread locks the calling goroutine to its thread and runs fn there, or
// on a new goroutine's if this is the process' first thread, which it then
// occupies until fn has returned.
func onOtherThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		fn()
	}()
	<-done
}

// A setup says what could be prepared on the setup thread.
type setup struct {
	memlockFiltered bool
	tracefs         error // nil if trace events can be attached to
}

// withTracefs makes tracefs available to the calling thread, in a mount
// namespace of its own if it is not mounted.
func withTracefs() error {
	if tracefsMounted() {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace for tracefs: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tracefs", tracefsPath, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount tracefs: %w", err)
	}
	return nil
}

func tracefsMounted() bool {
	for _, dir := range []string{tracefsPath, "/sys/kernel/debug/tracing"} {
		if _, err := os.Stat(dir + "/events/sched"); err == nil {
			return true
		}
	}
	return false
}
