package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A toolRun is one run of a one-shot tool.
type toolRun struct {
	code           int
	stdout, stderr string
}

// runTool runs the program as it is shipped, in a directory.
func runTool(t *testing.T, dir string, edit func(*exec.Cmd), args ...string) toolRun {
	t.Helper()
	path, err := binary()
	require.NoError(t, err, "build the program")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if edit != nil {
		edit(cmd)
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	t.Logf("%s\n-> %d %s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), errs.String())
	return toolRun{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// A busy is a program that burns CPU time in burn_heavy and burn_light below turn: seven
// parts of ten and three.
type busy struct {
	name         string
	command      func(t *testing.T, dir string) []string
	turn         string
	heavy, light string
}

const samplePrograms = "sample/testdata/"

func requireTool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install %s", name, pkg)
	}
	return path
}

func runBuild(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}

func buildBurnC(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	bin := filepath.Join(dir, "burnc")
	runBuild(t, requireTool(t, "gcc", "gcc and libc6-dev"), append([]string{"-O2", "-fomit-frame-pointer", "-pthread", "-o", bin, samplePrograms + "native/burn.c"}, flags...)...)
	return bin
}

func absolute(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	require.NoError(t, err)
	return path
}

var busies = []busy{
	{"C", func(t *testing.T, dir string) []string { return []string{buildBurnC(t, dir)} }, "turn", "burn_heavy", "burn_light"},
	{"Go", func(t *testing.T, dir string) []string {
		bin := filepath.Join(dir, "burngo")
		runBuild(t, "go", "build", "-o", bin, samplePrograms+"golang/burn.go")
		return []string{bin}
	}, "main.turn", "main.burnHeavy", "main.burnLight"},
	{"Python", func(t *testing.T, _ string) []string {
		return []string{requireTool(t, "python3", "python3"), absolute(t, samplePrograms+"python/burn.py")}
	}, "turn", "burn_heavy", "burn_light"},
	{"Node", func(t *testing.T, _ string) []string {
		return []string{requireTool(t, "node", "nodejs"), absolute(t, samplePrograms+"node/burn.js")}
	}, "turn", "burnHeavy", "burnLight"},
	{"Java", func(t *testing.T, dir string) []string {
		runBuild(t, requireTool(t, "javac", "default-jdk-headless"), "-d", dir, samplePrograms+"java/Burn.java")
		return []string{requireTool(t, "java", "default-jdk-headless"), "-cp", dir, "Burn"}
	}, "Burn.turn", "Burn.burnHeavy", "Burn.burnLight"},
}

// background starts a program that is killed at the end of the test, unless it ends
// before.
func background(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return cmd
}

func pidOf(cmd *exec.Cmd) string { return strconv.Itoa(cmd.Process.Pid) }

// parseFolded reads folded stacks, and checks that they are nothing else.
func parseFolded(t *testing.T, text string) map[string]float64 {
	t.Helper()
	stacks := map[string]float64{}
	for ln := range strings.Lines(text) {
		i := strings.LastIndexByte(ln, ' ')
		require.Positive(t, i, "%q", ln)
		n, err := strconv.ParseFloat(strings.TrimSpace(ln[i:]), 64)
		require.NoError(t, err, "%q", ln)
		stacks[ln[:i]] += n
	}
	return stacks
}

// below sums up the stacktraces that have frames one after the other.
func below(stacks map[string]float64, frames ...string) (sum float64) {
	chain := ";" + strings.Join(frames, ";") + ";"
	for stack, n := range stacks {
		if strings.Contains(";"+stack+";", chain) {
			sum += n
		}
	}
	return sum
}

// cpuSeconds is the CPU time that a process and the children it has waited for have used.
func cpuSeconds(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')'):]))
	var ticks float64
	for _, field := range f[12:14] { // utime, stime
		n, err := strconv.ParseFloat(field, 64)
		require.NoError(t, err)
		ticks += n
	}
	return ticks / 100
}
