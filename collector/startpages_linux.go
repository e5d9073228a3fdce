package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dropStartPages takes the pages of the program's own file out of this process' memory.
// Those that are still used come back from the page cache, some 16 at once; 30 MB of code
// and constants that only the start needed stay out.
func dropStartPages() error {
	executable, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	var start, end uintptr
	for line := range strings.Lines(string(text)) {
		// The line of a mapping, see proc_pid_smaps(5), is followed by lines of its sizes.
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if from, to, ok := strings.Cut(name, "-"); ok {
			start, end = 0, 0
			if strings.HasPrefix(value, "r") && value[1] == '-' && strings.HasSuffix(value, " "+executable) {
				a, err := strconv.ParseUint(from, 16, 64)
				if err != nil {
					return fmt.Errorf("smaps: %w", err)
				}
				b, err := strconv.ParseUint(to, 16, 64)
				if err != nil {
					return fmt.Errorf("smaps: %w", err)
				}
				start, end = uintptr(a), uintptr(b)
			}
			continue
		}
		// Pages that differ from the file, as of relocations and uprobes, have no other copy.
		if name != "Anonymous:" || start == end || strings.TrimSpace(value) != "0 kB" {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}
