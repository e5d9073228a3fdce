//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// monitorSlack is how late the kernel may wake up the monitor thread of Go's runtime: its
// timer slack, see PR_SET_TIMERSLACK in prctl(2).
//
// Whenever a goroutine runs after a pause, that thread (sysmon) looks after it every 20 µs
// until all are idle again. The sampler wakes up this process some 30 times a second, for
// less than a millisecond each, and on a virtual machine the monitor took more CPU time
// than all the rest. A system call that blocks is noticed that much later, and so holds up
// other goroutines for up to this time. Threads that the monitor starts, and programs that
// these start, inherit the slack: a longer one would be felt there.
const monitorSlack = time.Millisecond

// relaxMonitor sets the timer slack of the runtime's monitor thread.
func relaxMonitor() error {
	tid, err := monitorThread()
	if err != nil {
		return err
	}
	// Of another thread it needs CAP_SYS_NICE.
	slack := strconv.FormatInt(monitorSlack.Nanoseconds(), 10)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timerslack_ns", tid), []byte(slack), 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	return nil
}

// monitorThread returns the thread that the runtime starts first, which is its monitor.
func monitorThread() (int, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("list threads: %w", err)
	}
	// Thread IDs ascend from that of the process, and begin anew after the largest.
	pid := os.Getpid()
	age := func(tid int) uint32 { return uint32(tid - pid) }
	first := pid
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return 0, fmt.Errorf("list threads: %w", err)
		}
		if tid != pid && (first == pid || age(tid) < age(first)) {
			first = tid
		}
	}
	if first == pid {
		return 0, errors.New("list threads: there is only one")
	}
	return first, nil
}
