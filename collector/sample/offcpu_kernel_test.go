//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// schedulerTime is how long leaving a CPU and coming back may take by the thread's CPU
// clock, in ns.
const schedulerTime = 5000

// A waiter is a program that waits in known functions.
type waiter struct {
	name      string
	build     func(t *testing.T, dir string) []string
	functions []string // as many as it prints numbers
	reasons   []string // of their waits: root frames
}

var waiters = []waiter{
	{
		name: "C", build: func(t *testing.T, dir string) []string {
			bin, file := filepath.Join(dir, "wait"), filepath.Join(dir, "file")
			run(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O2", "-fomit-frame-pointer", "-pthread", "-o", bin, "testdata/wait/wait.c")
			run(t, requireTool(t, "dd", "coreutils"), "if=/dev/urandom", "of="+file, "bs=1M", "count=64", "conv=fsync", "status=none")
			return []string{bin, "SECONDS", file}
		},
		functions: []string{"wait_long", "wait_short", "wait_pipe", "wait_lock", "wait_disk", "wait_page"},
		reasons:   []string{"[sleep]", "[sleep]", "[pipe I/O]", "[lock]", "[disk I/O]", "[page fault]"},
	},
	{
		name: "Go", build: func(t *testing.T, dir string) []string {
			bin := filepath.Join(dir, "wait")
			run(t, "go", "build", "-o", bin, "testdata/wait/golang/wait.go")
			return []string{bin, "SECONDS"}
		},
		functions: []string{"main.waitLong", "main.waitShort", "main.waitPipe"},
		reasons:   []string{"[sleep]", "[sleep]", "[pipe I/O]"},
	},
	{
		name: "Python", build: func(t *testing.T, _ string) []string {
			return []string{requireTool(t, "python3", "python3"), "testdata/wait/wait.py", "SECONDS"}
		},
		functions: []string{"wait_long", "wait_short", "wait_pipe"},
		reasons:   []string{"[sleep]", "[sleep]", "[pipe I/O]"},
	},
	{
		name: "Node.js", build: func(t *testing.T, _ string) []string {
			return []string{requireTool(t, "node", "nodejs"), "testdata/wait/wait.js", "SECONDS"}
		},
		functions: []string{"waitLong", "waitShort"},
		reasons:   []string{"[lock]", "[lock]"},
	},
	{
		name: "Java", build: func(t *testing.T, dir string) []string {
			run(t, requireTool(t, "javac", "default-jdk-headless"), "-d", dir, "testdata/wait/Wait.java")
			return []string{requireTool(t, "java", "default-jdk-headless"), "-cp", dir, "Wait", "SECONDS"}
		},
		functions: []string{"Wait.waitLong", "Wait.waitShort"},
		reasons:   []string{"[sleep]", "[sleep]"},
	},
}

// wait runs a waiter and returns its PID and what it printed.
func wait(t *testing.T, command []string, seconds string) (pid string, spent []float64, err error) {
	args := slices.Clone(command[1:])
	for i, a := range args {
		if a == "SECONDS" {
			args[i] = seconds
		}
	}
	cmd := exec.CommandContext(t.Context(), command[0], args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", nil, fmt.Errorf("%s: %w: %s", command[0], err, errs.String())
	}
	for _, f := range strings.Fields(out.String()) {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return "", nil, err
		}
		spent = append(spent, n)
	}
	return strconv.Itoa(cmd.Process.Pid), spent, nil
}

// TestOffCPU checks for each language that functions which wait have the time that they
// took by the program's own clock, under a root frame that says why.
func TestOffCPU(t *testing.T) {
	requireKernel(t)
	commands := make([][]string, len(waiters))
	for i, w := range waiters {
		commands[i] = w.build(t, t.TempDir())
	}
	m, reg, stop := startWith(t, Options{FrequencyHz: 19, OffCPU: OffCPU{Enabled: true, StacksPerSecond: 2000}, PIDs: []int{os.Getpid()}})
	pids, spent, errs := make([]string, len(waiters)), make([][]float64, len(waiters)), make([]error, len(waiters))
	var all sync.WaitGroup
	stolen := stolenShare(t)
	for i := range waiters {
		all.Go(func() { pids[i], spent[i], errs[i] = wait(t, commands[i], "8") })
	}
	all.Wait()
	tolerance := 0.03 + 3*stolen()
	t.Logf("tolerance: %.1f %%", 100*tolerance)
	stop()
	logOffCPU(t, reg)
	for i, w := range waiters {
		t.Run(w.name, func(t *testing.T) {
			require.NoError(t, errs[i])
			require.Len(t, spent[i], len(w.functions))
			ss := m.stacksOf(offCPUKind, "pid", pids[i])
			for k, function := range w.functions {
				in := func(s stack) bool { return slices.Contains(s.functions, function) }
				got, want := sum(ss, in), spent[i][k]
				because := sum(ss, func(s stack) bool { return in(s) && s.functions[0] == w.reasons[k] })
				queued := sum(ss, func(s stack) bool { return in(s) && s.functions[0] == "[run queue]" })
				t.Logf("%s: %.3f s, by its own clock %.3f s: %+.2f %%; %s %.3f s, run queue %.3f s",
					function, got/1e9, want/1e9, 100*(got/want-1), w.reasons[k], because/1e9, queued/1e9)
				// The scheduler's own time, before the thread has left and after it is
				// back, is in the CPU time by which the program corrects its clock.
				var waits float64
				for _, s := range ss {
					if in(s) {
						waits += float64(s.count)
					}
				}
				assert.InDelta(t, want, got, tolerance*want+waits*schedulerTime, function)
				assert.InEpsilon(t, got, because+queued, tolerance+0.02, "%s: reasons; the largest:\n%s", function, largest(ss, in))
			}
			if t.Failed() {
				t.Logf("the largest:\n%s", largest(ss, func(stack) bool { return true }))
			}
		})
	}
}

// stolenShare begins to count the time that a hypervisor takes from this machine's CPUs
// while they have work, and returns a function that tells its share of all CPU time since.
// A thread is neither waiting nor running in that time, so clocks disagree about it.
func stolenShare(t *testing.T) func() float64 {
	read := func() (steal, all float64) {
		text, err := os.ReadFile("/proc/stat")
		require.NoError(t, err)
		line, _, _ := strings.Cut(string(text), "\n")
		for i, field := range strings.Fields(line)[1:9] { // user, nice, system, idle, iowait, irq, softirq, steal
			n, err := strconv.ParseFloat(field, 64)
			require.NoError(t, err)
			if all += n; i == 7 {
				steal = n
			}
		}
		return steal, all
	}
	steal, all := read()
	return func() float64 {
		steal2, all2 := read()
		return (steal2 - steal) / max(all2-all, 1)
	}
}

// logOffCPU logs what the source counted.
func logOffCPU(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	for _, name := range []string{"off_cpu_waits_total", "off_cpu_stacks_total", "off_cpu_lost_stacks_total", "off_cpu_evictions_total", "off_cpu_seconds_total"} {
		n, parts := metricSum(t, reg, name)
		t.Logf("%s %.0f%s", name, n, parts)
	}
}

// TestOffCPULifetime checks that the CPU time of single-threaded processes and their waits
// add up to their lifetimes, at many switches a second too, and that a wait which has not
// ended is in it.
func TestOffCPULifetime(t *testing.T) {
	requireKernel(t)
	m, reg, stop := startWith(t, Options{FrequencyHz: 797, OffCPU: OffCPU{Enabled: true}, PIDs: []int{os.Getpid()}})
	scripts := []string{
		"import time\nfor i in range(30): time.sleep(.1)",
		"import time\nfor i in range(20000): time.sleep(.0001)",
		"import time\ntime.sleep(4)",
		"import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end:\n  until = time.monotonic() + .004\n  while time.monotonic() < until: pass\n  time.sleep(.012)",
	}
	type life struct {
		pid       string
		wall, cpu float64 // ns; cpu is what the kernel accounts to the process
	}
	lives := make([]life, len(scripts))
	var all sync.WaitGroup
	stolen := stolenShare(t)
	for i, s := range scripts {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", s)
			began := time.Now()
			if !assert.NoError(t, cmd.Run()) {
				return
			}
			lives[i] = life{
				pid:  strconv.Itoa(cmd.Process.Pid),
				wall: float64(time.Since(began)),
				cpu:  float64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()),
			}
		})
	}
	all.Wait()
	tolerance := 0.03 + 3*stolen()
	t.Logf("tolerance: %.1f %%", 100*tolerance)
	stop()
	logOffCPU(t, reg)
	for i, l := range lives {
		ss := m.stacksOf(offCPUKind, "pid", l.pid)
		off, on := sum(ss, nil), sum(m.stacks("pid", l.pid), nil)
		queued := sum(ss, func(s stack) bool { return s.functions[0] == runQueue.lines[0].function })
		t.Logf("%q: lifetime %.3f s, on-CPU %.3f s (accounted %.3f s), off-CPU %.3f s (run queue %.3f s): %+.2f %%",
			scripts[i], l.wall/1e9, on/1e9, l.cpu/1e9, off/1e9, queued/1e9, 100*((off+on)/l.wall-1))
		// Samples tell the CPU time of a thread that a timer wakes for some microseconds at
		// a time too low or too high, as the same timer moves them: the kernel knows how much.
		// Its account begins before a wait is over for the program that measures it.
		var waits float64
		for _, s := range ss {
			waits += float64(s.count)
		}
		assert.InDelta(t, l.wall, off+on, tolerance*l.wall+math.Abs(l.cpu-on)+waits*schedulerTime, scripts[i])
	}
}

// TestOffCPURunQueue checks the time that a thread waits for a CPU against what the kernel
// accounts, for three threads that share one CPU.
func TestOffCPURunQueue(t *testing.T) {
	requireKernel(t)
	taskset := requireTool(t, "taskset", "util-linux")
	m, _, stop := startWith(t, Options{FrequencyHz: 19, OffCPU: OffCPU{Enabled: true}, PIDs: []int{os.Getpid()}})
	const script = "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass\nprint(open('/proc/self/schedstat').read())"
	type result struct {
		pid    string
		queued float64 // ns
	}
	results := make([]result, 3)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), taskset, "-c", "0", "/usr/bin/python3", "-c", script)
			out, err := cmd.Output()
			if !assert.NoError(t, err) {
				return
			}
			results[i].pid = strconv.Itoa(cmd.Process.Pid)
			_, err = fmt.Sscan(strings.Fields(string(out))[1], &results[i].queued)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	stop()
	for _, r := range results {
		got := sum(m.stacksOf(offCPUKind, "pid", r.pid), func(s stack) bool { return s.functions[0] == runQueue.lines[0].function })
		t.Logf("run queue %.3f s, accounted %.3f s: %+.2f %%", got/1e9, r.queued/1e9, 100*(got/r.queued-1))
		assert.InEpsilon(t, r.queued, got, 0.03)
	}
}

// TestOffCPUGIL checks that threads of Python which want to run at the same time wait for
// the interpreter's lock, with an interpreter with symbols or without.
func TestOffCPUGIL(t *testing.T) {
	requireKernel(t)
	const script = `
import threading, time
def spin(end):
    while time.monotonic() < end: pass
time.sleep(1) # until the sampler knows the process
for t in [threading.Thread(target=spin, args=(time.monotonic() + 4,)) for _ in range(3)]: t.start()
`
	m, _, stop := startWith(t, Options{FrequencyHz: 19, OffCPU: OffCPU{Enabled: true}, PIDs: []int{os.Getpid()}})
	cmd := exec.CommandContext(t.Context(), requireTool(t, "python3", "python3"), "-c", script)
	require.NoError(t, cmd.Run())
	stop()
	ss := m.stacksOf(offCPUKind, "pid", strconv.Itoa(cmd.Process.Pid))
	gil := sum(ss, func(s stack) bool { return s.functions[0] == gilWait.lines[0].function })
	queued := sum(ss, func(s stack) bool { return s.functions[0] == runQueue.lines[0].function })
	t.Logf("GIL %.3f s, run queue %.3f s", gil/1e9, queued/1e9)
	// Two of three threads wait at any time, now and then for a CPU.
	assert.InEpsilon(t, 8e9, gil+queued, 0.15, "the largest:\n%s", largest(ss, func(stack) bool { return true }))
	assert.Greater(t, gil, 4e9)
}
