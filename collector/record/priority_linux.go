package record

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownNice is the priority of this process while it samples. On a busy machine it has
// little to do, but at once: what runs before a process' code is known is cut.
const ownNice = -5

// niceOf returns the priority of the calling thread.
func niceOf() (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	return 20 - n, err // as the system call returns it
}

// setNice sets the priority of all threads of this process. Threads that begin later have
// that of the thread that starts them.
func setNice(nice int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, nice); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("set priority to %d: %w", nice, err)
		}
	}
	return nil
}
