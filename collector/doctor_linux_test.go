package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/doctor"
)

// doctorReport runs `flameline doctor --json`.
func doctorReport(t *testing.T, args ...string) (doctor.Report, toolRun) {
	t.Helper()
	r := runTool(t, t.TempDir(), nil, append([]string{"doctor", "--json"}, args...)...)
	var report doctor.Report
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &report), r.stdout)
	return report, r
}

// find returns the checks of a name.
func find(r doctor.Report, name string) (found []doctor.Check) {
	for _, c := range r.Checks {
		if c.Name == name {
			found = append(found, c)
		}
	}
	return found
}

func TestLiveDoctor(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	report, r := doctorReport(t)
	require.Zero(t, r.code)
	require.True(t, report.Works)
	for _, name := range []string{"kernel", "capabilities", "ebpf", "perf_events", "kernel_symbols", "other_users", "sample_rate", "pid_namespace", "btf", "perf_event_paranoid", "tracefs", "memlock", "pmu", "cgroups", "containers"} {
		require.Len(t, find(report, name), 1, name)
	}
	text := runTool(t, t.TempDir(), nil, "doctor")
	require.Zero(t, text.code)
	require.Regexp(t, `(?m)^ok    kernel +Linux \d`, text.stdout)
	for ln := range strings.Lines(text.stdout) {
		require.Regexp(t, `^(ok|note|warn)  `, ln, "a line for each check")
	}
}

// Without rights it says what is missing, and what to do.
func TestLiveDoctorNotPermitted(t *testing.T) {
	requireSampling(t)
	r := runTool(t, "/", asNobody, "doctor")
	require.Equal(t, 1, r.code)
	require.Regexp(t, `(?m)^fail  capabilities +not permitted to load eBPF programs.*: run as root or grant CAP_BPF`, r.stdout)
	require.Contains(t, r.stderr, "does not work: capabilities")
	require.NotContains(t, r.stdout, "seccomp", "it is the capabilities that are missing")
	require.Regexp(t, `(?m)^fail  ebpf +eBPF programs may not be loaded: run as root or grant CAP_BPF$`, r.stdout)
	require.Regexp(t, `(?m)^fail  perf_events +CPU timers are not permitted: run as root or grant CAP_PERFMON$`, r.stdout)
	require.Regexp(t, `(?m)^warn  other_users +the binaries of other users' processes cannot be opened.*: run as root or grant CAP_DAC_READ_SEARCH$`, r.stdout)
	sleeper := background(t, "sleep", "100")
	r = runTool(t, "/", asNobody, "doctor", "--pid", pidOf(sleeper))
	require.Equal(t, 1, r.code)
	require.Regexp(t, `fail  access +permission denied`, r.stdout)
	require.Regexp(t, `(?m)^ok    process +sleep \(its executable may not be read\), 1 thread, user 0$`, r.stdout)
}

// Each language's process is recognised, with its version.
func TestDoctorLanguages(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a program of each language")
	}
	for _, c := range []struct {
		busy    busy
		runtime string
		also    map[string]string // a check by name, and what it says
	}{
		{busies[0], "", nil},
		{busies[1], `^Go 1\.\d+.*: functions have names`, nil},
		{busies[2], `^CPython 3\.\d+: functions have names`, nil},
		{busies[3], `^V8 \d+\.\d+: functions have names`, map[string]string{"v8_inlining": "inlined", "jit": "that the unwinder knows"}},
		{busies[4], `^JVM \d+.*: functions have names`, map[string]string{"jvm_attach": "tools can be attached", "jvm_inlining": "only at safepoints", "jit": "that the unwinder knows"}},
	} {
		t.Run(c.busy.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := background(t, append(c.busy.command(t, dir), "100")...)
			time.Sleep(time.Second)
			report, r := doctorReport(t, "--pid", pidOf(cmd))
			require.Zero(t, r.code)
			require.Equal(t, cmd.Process.Pid, report.PID)
			runtimes := find(report, "runtime")
			if c.runtime == "" {
				require.Empty(t, runtimes)
			} else {
				require.Len(t, runtimes, 1)
				require.Regexp(t, c.runtime, runtimes[0].Found)
			}
			for name, text := range c.also {
				require.Len(t, find(report, name), 1)
				require.Contains(t, find(report, name)[0].Found, text)
			}
			// The survey of the machine has it too.
			if c.runtime != "" {
				all, _ := doctorReport(t)
				found := false
				for _, f := range find(all, "runtime") {
					found = found || strings.HasPrefix(f.Found, strings.Split(runtimes[0].Found, ":")[0])
				}
				require.True(t, found, all)
			}
		})
	}
}

// A stripped program has no names; options of a JVM forbid and improve.
func TestDoctorComplaints(t *testing.T) {
	dir := t.TempDir()
	stripped := background(t, buildBurnC(t, dir, "-s", "-Wl,--build-id"), "100")
	time.Sleep(100 * time.Millisecond)
	report, r := doctorReport(t, "--pid", pidOf(stripped))
	require.Zero(t, r.code)
	symbols := find(report, "symbols")
	require.Equal(t, doctor.Warn, symbols[0].Status)
	require.Contains(t, symbols[0].Found, "burnc is stripped")
	require.Regexp(t, `build it without -s and strip, or put the debug file of build ID [0-9a-f]{40} at /usr/lib/debug/\.build-id/`, symbols[0].Fix)

	command := busies[4].command(t, dir)
	java := background(t, append([]string{command[0], "-XX:+DisableAttachMechanism", "-XX:+UnlockDiagnosticVMOptions", "-XX:+DebugNonSafepoints"}, append(command[1:], "100")...)...)
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(filepath.Join("/proc", pidOf(java), "maps"))
		return strings.Contains(string(text), "libjvm.so")
	}, time.Minute, 10*time.Millisecond)
	report, _ = doctorReport(t, "--pid", pidOf(java))
	require.Equal(t, doctor.Warn, find(report, "jvm_attach")[0].Status)
	require.Contains(t, find(report, "jvm_attach")[0].Found, "-XX:+DisableAttachMechanism: tools cannot be attached")
	require.Equal(t, doctor.OK, find(report, "jvm_inlining")[0].Status)

	report, r = doctorReport(t, "--pid", "4194305")
	require.Equal(t, 1, r.code)
	require.False(t, report.Works)
	require.Equal(t, "there is no process 4194305", find(report, "process")[0].Found)
	require.Equal(t, 2, runTool(t, dir, nil, "doctor", "--pid", "x").code)
	require.Equal(t, 2, runTool(t, dir, nil, "doctor", "--pid=-1").code)
}

// TestLiveDoctorSamples samples a stripped program: all of its time is without names.
func TestLiveDoctorSamples(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	source, program := filepath.Join(dir, "spin.c"), filepath.Join(dir, "spin.bin")
	require.NoError(t, os.WriteFile(source, []byte(`
volatile long n;
__attribute__((noipa)) static void spin(long k) { for (long i = 0; i < k; i++) n += i * k; }
int main(void) { for (;;) spin(1000000); }
`), 0o600))
	out, err := exec.CommandContext(t.Context(), "gcc", "-O2", "-s", "-o", program, source).CombinedOutput() //nolint:gosec // fixed command
	require.NoError(t, err, "%s", out)
	report, r := doctorReport(t, "--pid", pidOf(background(t, program)), "--sample", "3s")
	require.Zero(t, r.code, r.stderr)
	found := find(report, "samples")
	require.Len(t, found, 1)
	require.Equal(t, doctor.Warn, found[0].Status, found[0].Found)
	unnamed := find(report, "unnamed")
	require.NotEmpty(t, unnamed)
	require.Regexp(t, `^(9[0-9.]+|100) % of the samples, in spin\.bin$`, unnamed[0].Found)
	require.Contains(t, unnamed[0].Fix, "symbols")

	r = runTool(t, dir, nil, "doctor", "--sample", "1s")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "--pid")
}
