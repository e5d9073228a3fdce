//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func buildGrow(t *testing.T) string {
	bin := filepath.Join(t.TempDir(), "grow")
	run(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O2", "-fomit-frame-pointer", "-o", bin, "testdata/wait/grow.c")
	return bin
}

// TestPageFaults checks that functions have the bytes that they make resident, by small
// and by huge pages.
func TestPageFaults(t *testing.T) {
	requireKernel(t)
	bin := buildGrow(t)
	m, reg, stop := startWith(t, Options{FrequencyHz: 19, PageFaults: PageFaults{Enabled: true}, PIDs: []int{os.Getpid()}})
	pids := map[string]string{}
	for _, kind := range []string{"small", "huge"} {
		cmd := exec.CommandContext(t.Context(), bin, kind)
		require.NoError(t, cmd.Run())
		pids[kind] = strconv.Itoa(cmd.Process.Pid)
	}
	stop()
	for _, name := range []string{"page_faults_total", "page_fault_lost_total"} {
		n, parts := metricSum(t, reg, name)
		t.Logf("%s %.0f%s", name, n, parts)
	}
	for kind, pid := range pids {
		ss := m.stacksOf(pageFaultKind, "pid", pid)
		for function, mb := range map[string]float64{"grow_much": 100, "grow_little": 20} {
			got := sum(ss, func(s stack) bool { return slices.Contains(s.functions, function) }) / (1 << 20)
			t.Logf("%s pages, %s: %.1f MB", kind, function, got)
			assert.InEpsilon(t, mb, got, 0.05, "%s pages, %s; the largest:\n%s", kind, function, largest(ss, func(stack) bool { return true }))
		}
	}
}

// TestOOMKill checks that a process which the kernel kills, in a memory control group,
// leaves the stacktraces of its page faults, and that the kill is counted.
func TestOOMKill(t *testing.T) {
	requireKernel(t)
	bin := buildGrow(t)
	group := memoryGroup(t, 256<<20)
	m, _, stop := startWith(t, Options{FrequencyHz: 19, PageFaults: PageFaults{Enabled: true}})
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", fmt.Sprintf("echo $$ > %s/cgroup.procs && exec %s forever", group, bin))
	require.ErrorContains(t, cmd.Run(), "killed")
	stop()
	ss := m.stacksOf(oomKind, "pid", strconv.Itoa(cmd.Process.Pid))
	much := func(s stack) bool {
		return slices.Contains(s.functions, "grow_much") || slices.Contains(s.functions, "grow_little")
	}
	var mb float64
	for _, s := range ss {
		if much(s) {
			mb += float64(s.count) / (1 << 20)
		}
	}
	t.Logf("kills: %.0f; %.1f MB in functions that grow", sum(ss, nil), mb)
	require.EqualValues(t, 1, sum(ss, nil))
	require.InEpsilon(t, 256, mb, 0.1)
	faults := m.stacksOf(pageFaultKind, "pid", strconv.Itoa(cmd.Process.Pid))
	require.InEpsilon(t, 256<<20, sum(faults, much), 0.1)
}

// memoryGroup makes a control group with a limit of memory in bytes.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	name := fmt.Sprintf("flameline-test-%d", os.Getpid())
	for _, c := range []struct{ root, file, swap string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	} {
		dir := filepath.Join(c.root, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			require.Eventually(t, func() bool { return os.Remove(dir) == nil }, 10*time.Second, 100*time.Millisecond)
		})
		if os.WriteFile(filepath.Join(dir, c.file), []byte(strconv.Itoa(limit)), 0) != nil {
			continue
		}
		swap := "0"
		if c.root == "/sys/fs/cgroup/memory" {
			swap = strconv.Itoa(limit)
		}
		_ = os.WriteFile(filepath.Join(dir, c.swap), []byte(swap), 0) // there may be no swap
		return dir
	}
	t.Fatal("no control group with memory.limit_in_bytes or memory.max can be made: mount the memory controller")
	return ""
}
