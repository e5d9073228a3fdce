//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Short processes of the check of that name, and the CPU time of each.
const (
	shortProcesses = 20
	shortTime      = 50 * time.Millisecond
)

// A recording is what `flameline record` writes while load programs run. Loading the
// unwinder takes an emulator minutes, so that each recording is for several checks.
type recording struct {
	name   string
	loads  [][]string // programs with their arguments
	flags  []string   // those of record but for PIDs; with a command at their end, there are no loads
	checks []check
}

// A check wants stacktraces that are whole.
type check struct {
	name  string
	of    string  // stacktraces with these functions are counted; near the leaf, so that cut ones have them
	want  string  // what those have; the first is the root itself
	share float64 // of the values; 1 is all
	least float64 // values that are counted
}

// goMain is the root of stacktraces of the load programs in Go. Functions are in the order
// of calls, with semicolons between them; others may be between them.
const goMain = "runtime.goexit;runtime.main;main.main;main.load;"

var recordings = []recording{
	{
		name: "processes", loads: [][]string{{"/init", "compute"}, {"/deep"}}, flags: []string{"-d", "5"},
		checks: []check{
			{"Go", "main.inner", "init;" + goMain + "main.outer;main.middle;main.inner", 0.95, 20},
			{"C", "deep_leaf", "deep;_start;deep_main;" + strings.Repeat("deep_call;", 40) + "deep_leaf", 0.95, 20},
		},
	},
	{
		name: "wall-clock time", loads: [][]string{{"/init", "read"}, {"/init", "sleep"}}, flags: []string{"-e", "wall", "-d", "10"},
		checks: []check{ // ns
			{"CPU time in the kernel", "read_zero", "init;" + goMain + "main.readZero;vfs_read;read_zero", 0.95, 5e8},
			{"off-CPU time", "[sleep];main.nap", "init;[sleep];" + goMain + "main.nap;do_nanosleep;schedule", 0.95, 5e8},
		},
	},
	{
		name: "a command with children", flags: []string{"--subprocesses", "--", "/init", "spawn"},
		checks: []check{
			{"short processes", "main.inner", "init;" + goMain + "main.outer;main.middle;main.inner", 0.9, 20},
		},
	},
	{
		name: "page faults", loads: [][]string{{"/init", "grow"}, {"/init", "sleep"}}, flags: []string{"-e", "page-faults", "-d", "3"},
		checks: []check{ // bytes
			{"page faults", "main.grow", "init;" + goMain + "main.grow", 0.95, 8 << 20},
		},
	},
	{
		name: "all processes", loads: [][]string{{"/init", "read"}}, flags: []string{"-a", "-d", "15"},
		checks: []check{
			// The first seconds are without the program's unwind table.
			{"all processes", "read_zero", "init;" + goMain + "main.readZero;vfs_read;read_zero", 0.5, 20},
		},
	},
}

func runChecks() {
	detail, err := doctor()
	report("doctor", detail, err)
	for _, r := range recordings {
		text, err := r.record()
		if err != nil {
			report(r.name, "", err)
			continue
		}
		for _, c := range r.checks {
			detail, err := c.judge(text)
			report(c.name, detail, err)
		}
	}
}

// doctor prints what `flameline doctor` says, and fails as it does.
func doctor() (string, error) {
	cmd := exec.Command("/flameline", "doctor")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("flameline doctor: %w", err)
	}
	version, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(version)), err
}

// record runs the load programs and returns folded stacks.
func (r *recording) record() (string, error) {
	const out = "/tmp/out.folded"
	args := []string{"record", "-o", out}
	var pids []string
	for _, l := range r.loads {
		program := exec.Command(l[0], l[1:]...)
		program.Stderr = os.Stderr
		if err := program.Start(); err != nil {
			return "", fmt.Errorf("start load program: %w", err)
		}
		defer func() {
			_ = program.Process.Kill()
			_ = program.Wait()
		}()
		pids = append(pids, strconv.Itoa(program.Process.Pid))
	}
	if len(pids) > 0 && !slices.Contains(r.flags, "-a") {
		args = append(args, "-p", strings.Join(pids, ","))
	}
	cmd := exec.Command("/flameline", append(args, r.flags...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	fmt.Println("+", cmd)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("flameline record: %w", err)
	}
	text, err := os.ReadFile(out)
	return string(text), err
}

// judge compares a recording, as folded stacks, with what is wanted. Its error has
// stacktraces that are not.
func (c *check) judge(folded string) (string, error) {
	var all, good float64
	var bad []string
	of, want := strings.Split(c.of, ";"), strings.Split(c.want, ";")
	for line := range strings.Lines(folded) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return "", fmt.Errorf("value of line %q: %w", line, err)
		}
		frames := strings.Split(line[:max(at, 0)], ";")
		if !contains(frames, of) {
			continue
		}
		all += v
		if frames[0] == want[0] && contains(frames, want) {
			good += v
		} else {
			bad = append(bad, line)
		}
	}
	detail := fmt.Sprintf("%.1f %% of %.0f are whole", 100*good/max(all, 1), all)
	switch {
	case all < c.least:
		return "", fmt.Errorf("%s, want %.0f of:\n%s", detail, c.least, folded)
	case good < c.share*all:
		return "", fmt.Errorf("%s, want %.0f %%; not whole:\n%s", detail, 100*c.share, strings.Join(bad, "\n"))
	}
	return detail, nil
}

// contains reports whether functions are among the frames in their order.
func contains(frames, functions []string) bool {
	for _, f := range frames {
		if len(functions) > 0 && f == functions[0] {
			functions = functions[1:]
		}
	}
	return len(functions) == 0
}
