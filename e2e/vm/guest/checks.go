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

// A check runs a load program under `flameline record` and wants a share of the values at
// stacktraces that are whole and have some functions.
type check struct {
	name    string
	load    []string // the program and its argument
	command bool     // record starts the program, instead of sampling it as it runs
	record  []string // flags
	of      []string // stacktraces with these functions are counted, or all; near the leaf, so that cut ones have them
	want    string   // functions in this order, with semicolons between them; the first is the root itself
	share   float64  // of the values; 1 is all
	least   float64  // values that are counted
}

// goMain is the root of stacktraces of the load programs in Go.
const goMain = "runtime.goexit;runtime.main;main.main;main.load;"

var checks = []check{
	{
		name: "Go", load: []string{"/init", "compute"}, share: 0.95, least: 20,
		want: goMain + "main.outer;main.middle;main.inner",
	},
	{
		name: "C", load: []string{"/deep"}, share: 0.95, least: 20,
		want: "_start;deep_main;" + strings.Repeat("deep_call;", 40) + "deep_leaf",
	},
	{
		name: "all processes and the kernel", load: []string{"/init", "read"}, record: []string{"-a"},
		of: []string{"read_zero"}, share: 0.95, least: 20,
		want: "init;" + goMain + "main.readZero;vfs_read;read_zero",
	},
	{
		name: "off-CPU time", load: []string{"/init", "sleep"}, record: []string{"-e", "off-cpu"},
		of: []string{"[sleep]", "do_nanosleep"}, share: 0.95, least: 1e9, // ns
		want: "[sleep];" + goMain + "main.nap;do_nanosleep;schedule",
	},
	{
		name: "page faults", load: []string{"/init", "grow"}, record: []string{"-e", "page-faults"},
		share: 0.95, least: 8 << 20, // bytes
		want: goMain + "main.grow",
	},
	{
		name: "short processes", load: []string{"/init", "spawn"}, command: true, record: []string{"--subprocesses"},
		of: []string{"main.inner"}, share: 0.9, least: 20,
		want: "init;" + goMain + "main.outer;main.middle;main.inner",
	},
}

func runChecks() {
	detail, err := doctor()
	report("doctor", detail, err)
	for _, c := range checks {
		detail, err := c.run()
		report(c.name, detail, err)
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

func (c *check) run() (string, error) {
	const out = "/tmp/out.folded"
	args := append([]string{"record", "-o", out}, c.record...)
	if c.command {
		args = append(append(args, "--"), c.load...)
	} else {
		program := exec.Command(c.load[0], c.load[1:]...)
		program.Stderr = os.Stderr
		if err := program.Start(); err != nil {
			return "", fmt.Errorf("start load program: %w", err)
		}
		defer func() {
			_ = program.Process.Kill()
			_ = program.Wait()
		}()
		args = append(args, "-d", "3")
		if !slices.Contains(c.record, "-a") {
			args = append(args, "-p", strconv.Itoa(program.Process.Pid))
		}
	}
	cmd := exec.Command("/flameline", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	fmt.Println("+", cmd)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("flameline record: %w", err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return "", err
	}
	return c.judge(string(text))
}

// judge compares a recording, as folded stacks, with what is wanted. Its error has
// stacktraces that are not.
func (c *check) judge(folded string) (string, error) {
	var all, good float64
	var bad []string
	want := strings.Split(c.want, ";")
	for line := range strings.Lines(folded) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return "", fmt.Errorf("value of line %q: %w", line, err)
		}
		frames := strings.Split(line[:max(at, 0)], ";")
		if !contains(frames, c.of) {
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
