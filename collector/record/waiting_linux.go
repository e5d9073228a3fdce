package record

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// maxThreads bounds the threads that are looked at.
const maxThreads = 10_000

// switchesOf returns how often each waiting thread of processes has left a CPU, by TID.
// Threads that run are left out.
func switchesOf(pids []int) map[int]uint64 {
	out := map[int]uint64{}
	for _, pid := range pids {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			continue // it has ended
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || len(out) >= maxThreads {
				continue
			}
			data, err := readProc(pid, "task/"+t.Name()+"/status")
			if err != nil {
				continue
			}
			if n, waits := parseSwitches(string(data)); waits {
				out[tid] = n
			}
		}
	}
	return out
}

// parseSwitches reads /proc/PID/task/TID/status: how often the thread has left a CPU, and
// whether it waits.
func parseSwitches(status string) (switches uint64, waits bool) {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "State":
			waits = !strings.HasPrefix(value, "R") && !strings.HasPrefix(value, "Z") && !strings.HasPrefix(value, "X")
		case "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches":
			n, _ := strconv.ParseUint(value, 10, 64)
			switches += n
		}
	}
	return switches, waits
}

// stayed counts the threads that have left no CPU meanwhile: they have waited all the
// time.
func stayed(before, after map[int]uint64) (n int64) {
	for tid, switches := range after {
		if b, ok := before[tid]; ok && b == switches {
			n++
		}
	}
	return n
}
