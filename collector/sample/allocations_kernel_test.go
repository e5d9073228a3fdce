//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An allocator is a way to build testdata/alloc.
type allocator struct {
	name   string
	shared bool // the probes are in a library
	flags  []string
}

var allocators = []allocator{
	{name: "PIE", flags: []string{"-fPIE", "-pie"}},
	{name: "no PIE", flags: []string{"-no-pie"}},
	{name: "static", flags: []string{"-static", "-no-pie"}},
	{name: "static PIE with semaphores", flags: []string{"-fPIE", "-static-pie", "-DSEMAPHORES"}},
	{name: "library", shared: true},
	{name: "library with semaphores", shared: true, flags: []string{"-DSEMAPHORES"}},
}

func (a allocator) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	bin, lib := filepath.Join(dir, "alloc"), filepath.Join(dir, "libsampler.so")
	gcc := requireTool(t, "gcc", "gcc and libc6-dev")
	common := append([]string{"-O2", "-fomit-frame-pointer", "-pthread"}, a.flags...)
	if !a.shared {
		run(t, gcc, append(common, "-o", bin, "testdata/alloc/alloc.c", "testdata/alloc/sampler.c")...)
		return bin
	}
	run(t, gcc, append(common, "-fPIC", "-shared", "-o", lib, "testdata/alloc/sampler.c")...)
	run(t, gcc, append(common, "-o", bin, "testdata/alloc/alloc.c", lib, "-Wl,-rpath,"+dir)...)
	return bin
}

// A steps program does what testdata/alloc/alloc.c says, step by step.
type steps struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	pid string
}

func startSteps(t *testing.T, bin string, megabytes int) *steps {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, strconv.Itoa(megabytes))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &steps{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out), pid: strconv.Itoa(cmd.Process.Pid)}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	s.expect("ready")
	return s
}

func (s *steps) expect(line string) {
	s.t.Helper()
	require.True(s.t, s.out.Scan(), "waiting for %q", line)
	require.Equal(s.t, line, s.out.Text())
}

// step has the program go on until it prints a line.
func (s *steps) step(line string) {
	s.t.Helper()
	_, err := io.WriteString(s.in, "\n")
	require.NoError(s.t, err)
	s.expect(line)
}

// end has the program end.
func (s *steps) end() {
	s.t.Helper()
	require.NoError(s.t, s.in.Close())
	require.NoError(s.t, s.cmd.Wait())
}

// A usage is what a memory profile says of two functions, in bytes and objects.
type usage struct{ muchBytes, littleBytes, muchObjects, littleObjects, bytes float64 }

// usageOf adds up the stacks of one profile.
func usageOf(ss []stack) (u usage) {
	for _, s := range ss {
		u.bytes += float64(s.count)
		switch {
		case slices.Contains(s.functions, "allocate_much"):
			u.muchObjects += float64(s.value)
			u.muchBytes += float64(s.count)
		case slices.Contains(s.functions, "allocate_little"):
			u.littleObjects += float64(s.value)
			u.littleBytes += float64(s.count)
		}
	}
	return u
}

// memoryStacks returns the samples of the profiles of a process with a sample type, for
// each profile apart.
func (m *memory) memoryStacks(sampleType, pid string) (profiles [][]stack) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.profiles {
		if p.Labels.Get("__name__") == memoryName && p.Labels.Get("pid") == pid && p.Pprof.StringTable[p.Pprof.SampleType[0].Type] == sampleType {
			profiles = append(profiles, stacksOf(p.Pprof))
		}
	}
	return profiles
}

// usageUntil waits for memory in use of a process that fulfils a condition.
func (m *memory) usageUntil(t *testing.T, pid string, want func(u usage, profiles int) bool) (u usage) {
	t.Helper()
	require.Eventually(t, func() bool {
		ps := m.memoryStacks("inuse_objects", pid)
		if len(ps) > 0 {
			u = usageOf(ps[len(ps)-1])
		}
		return want(u, len(ps))
	}, 30*time.Second, 200*time.Millisecond, "the last: %+v", &u)
	return u
}

// TestAllocations checks in every kind of program that functions have the bytes and objects
// that they allocate, that those in use are right after frees, and that stacktraces are
// whole.
func TestAllocations(t *testing.T) {
	requireKernel(t)
	const mb = 100
	var programs []*steps
	for _, a := range allocators {
		programs = append(programs, startSteps(t, a.build(t), mb))
	}
	var first []int
	for _, p := range programs {
		first = append(first, p.cmd.Process.Pid)
	}
	m, reg, stop := startWith(t, Options{FrequencyHz: 19, Allocations: Allocations{Enabled: true}, First: func() []int { return first }, PIDs: first})
	files, _ := metricSum(t, reg, "allocation_probe_files")
	require.EqualValues(t, len(allocators), files)
	for _, p := range programs {
		p.step("allocated")
	}
	close := func(t *testing.T, want, got float64, what string) { assert.InEpsilon(t, want, got, 0.05, what) }
	for i, a := range allocators {
		t.Run(a.name, func(t *testing.T) {
			u := m.usageUntil(t, programs[i].pid, func(u usage, _ int) bool { return u.muchBytes+u.littleBytes > 0.95*mb*1e6 })
			close(t, 0.7*mb*1e6, u.muchBytes, "in use, bytes")
			close(t, 0.3*mb*1e6, u.littleBytes, "in use, bytes")
			close(t, mb*1e3, u.muchObjects, "in use, objects")
			close(t, mb*1e3, u.littleObjects, "in use, objects")
		})
	}
	for _, p := range programs {
		p.step("freed")
	}
	for i, a := range allocators {
		t.Run(a.name+", freed", func(t *testing.T) {
			u := m.usageUntil(t, programs[i].pid, func(u usage, _ int) bool { return u.muchBytes == 0 })
			close(t, 0.3*mb*1e6, u.littleBytes, "in use, bytes")
		})
	}
	for _, p := range programs {
		p.end()
	}
	require.Eventually(t, func() bool { n, _ := metricSum(t, reg, "live_allocations"); return n == 0 }, 20*time.Second, 200*time.Millisecond, "allocations of ended processes")
	stop()
	for _, name := range []string{"allocation_probes_total", "allocations_lost_total", "allocations_skipped_total", "allocations_not_tracked_total"} {
		n, parts := metricSum(t, reg, name)
		t.Logf("%s %.0f%s", name, n, parts)
	}
	lost, parts := metricSum(t, reg, "allocations_lost_total")
	assert.Zero(t, lost, parts)
	for i, a := range allocators {
		var all []stack
		for _, ss := range m.memoryStacks("alloc_objects", programs[i].pid) {
			all = append(all, ss...)
		}
		u := usageOf(all)
		t.Logf("%s: %+v", a.name, u)
		close(t, 0.7*mb*1e6, u.muchBytes, a.name)
		close(t, 0.3*mb*1e6, u.littleBytes, a.name)
		close(t, mb*1e3, u.muchObjects, a.name)
		close(t, mb*1e3, u.littleObjects, a.name)
		for _, s := range all {
			assert.True(t, s.has("worker", "turn", "allocate_much", "sampled_malloc") || s.has("worker", "turn", "allocate_little", "sampled_malloc"), "%s: %v", a.name, s.functions)
			assert.False(t, strings.HasPrefix(s.functions[0], "["), "%s: not whole: %v", a.name, s.functions)
			assert.Contains(t, s.functions[len(s.functions)-1], "probe_alloc", a.name)
		}
	}
}

// TestAllocationsOfLaterProcesses checks that a program whose probes are known is measured
// from its first allocation, that the probes are given up after its last process, and found again
// with the next one.
func TestAllocationsOfLaterProcesses(t *testing.T) {
	requireKernel(t)
	const mb = 200
	bin := allocators[len(allocators)-1].build(t)
	m, reg, _ := startWith(t, Options{FrequencyHz: 99, Allocations: Allocations{Enabled: true}})
	files := func(n float64) func() bool {
		return func() bool { got, _ := metricSum(t, reg, "allocation_probe_files"); return got == n }
	}
	require.True(t, files(0)(), "the cost of what nobody has")
	first := startSteps(t, bin, mb)
	first.step("allocated")
	require.Eventually(t, files(1), 10*time.Second, 50*time.Millisecond)
	later := startSteps(t, bin, mb)
	later.step("allocated")
	// The first stacktraces of a new process are cut, but their bytes count.
	u := m.usageUntil(t, later.pid, func(u usage, _ int) bool { return u.bytes > 0.95*mb*1e6 })
	assert.InEpsilon(t, mb*1e6, u.bytes, 0.05)
	first.end()
	later.end()
	require.Eventually(t, files(0), 30*time.Second, 100*time.Millisecond, "no process has the library any more")
	again := startSteps(t, bin, mb)
	again.step("allocated")
	require.Eventually(t, files(1), 10*time.Second, 50*time.Millisecond)
	again.end()
}

// TestAllocationsOfManyProbes attaches to programs with many probes by one link each, since
// the kernel takes its time to detach each link, one after the other.
func TestAllocationsOfManyProbes(t *testing.T) {
	requireKernel(t)
	const programs, probes = 10, 60
	dir := t.TempDir()
	header, err := filepath.Abs("testdata/alloc/probes.h")
	require.NoError(t, err)
	source := "#include <stdio.h>\n#include <unistd.h>\n#include \"" + header + "\"\nint main(void) { puts(\"ready\"); fflush(stdout); if (getppid() == 1) {" +
		strings.Repeat("probe_alloc(0, 1, 1);\n", probes) + "} pause(); }\n"
	file, bin := filepath.Join(dir, "many.c"), filepath.Join(dir, "many")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	run(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O2", "-w", "-Dnoinline=always_inline", "-DSEMAPHORES", "-o", bin, file)
	code, err := os.ReadFile(bin)
	require.NoError(t, err)
	var first []int
	for i := range programs {
		name := filepath.Join(dir, strconv.Itoa(i))
		require.NoError(t, os.WriteFile(name, code, 0o700))
		first = append(first, startSteps(t, name, 0).cmd.Process.Pid)
	}
	// links counts the links of uprobes that this process has in the kernel, and their probes.
	links := func() (links, places int) {
		infos, err := filepath.Glob("/proc/self/fdinfo/*")
		require.NoError(t, err)
		for _, name := range infos {
			text, _ := os.ReadFile(name) // one is of this reading itself, and gone
			for line := range strings.Lines(string(text)) {
				switch f := strings.Fields(line); {
				case len(f) == 2 && f[0] == "link_type:" && f[1] == "uprobe_multi":
					links++
				case len(f) == 2 && f[0] == "uprobe_cnt:":
					n, err := strconv.Atoi(f[1])
					require.NoError(t, err)
					places += n
				}
			}
		}
		return links, places
	}
	_, reg, stop := startWith(t, Options{FrequencyHz: 19, Allocations: Allocations{Enabled: true}, First: func() []int { return first }, PIDs: first})
	files, _ := metricSum(t, reg, "allocation_probe_files")
	require.EqualValues(t, programs, files)
	if uprobesTogether() {
		n, places := links()
		require.Equal(t, programs, n)
		t.Logf("%d probes", places) // which older kernels do not say
	}
	stop()
	n, _ := links()
	require.Zero(t, n)
}
