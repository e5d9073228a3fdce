//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

// The kernel tests sample real processes. Where that is not possible they fail
// and say what is missing; -short leaves them out.
func requireKernel(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: it samples real processes, as root")
	}
	if err := Supported(); err != nil {
		t.Fatalf("kernel tests cannot run here: %v (-short leaves them out)", err)
	}
}

// requireTool returns the path of a program that a Debian package brings.
func requireTool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install %s", name, pkg)
	}
	return path
}

// A memory appender keeps profiles.
type memory struct {
	mu       sync.Mutex
	profiles []profile.Profile
	fail     func() error    // if set, called by each Append
	deep     <-chan struct{} // closed once deep stacks are whole
}

func (m *memory) Append(_ context.Context, ps []profile.Profile) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return err
		}
	}
	m.profiles = append(m.profiles, ps...)
	return nil
}

// A stack is what a flame graph shows of a sample.
type stack struct {
	functions []string // root first
	files     []string
	modules   []string
	value     int64 // ns
	count     int64 // of waits; 0 in other profiles
}

// has reports whether functions follow each other somewhere in the stack.
func (s stack) has(functions ...string) bool {
	for i := 0; i+len(functions) <= len(s.functions); i++ {
		if slices.Equal(s.functions[i:i+len(functions)], functions) {
			return true
		}
	}
	return false
}

// stacks returns the CPU samples of the series that have a label.
func (m *memory) stacks(name, value string) (ss []stack) {
	return m.stacksOf(cpuKind, name, value)
}

// stacksOf returns the samples of the series of one kind that have a label.
func (m *memory) stacksOf(k *profileKind, name, value string) (ss []stack) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.profiles {
		if p.Labels.Get("__name__") == k.name && p.Labels.Get(name) == value {
			ss = append(ss, stacksOf(p.Pprof)...)
		}
	}
	return ss
}

func stacksOf(p *googlev1.Profile) (ss []stack) {
	for _, smp := range p.Sample {
		s := stack{value: smp.Value[0]}
		if len(smp.Value) > 1 {
			s.count = smp.Value[1]
		}
		for _, id := range slices.Backward(smp.LocationId) {
			loc := p.Location[id-1]
			for _, ln := range slices.Backward(loc.Line) {
				f := p.Function[ln.FunctionId-1]
				s.functions = append(s.functions, p.StringTable[f.Name])
				s.files = append(s.files, p.StringTable[f.Filename])
				mod := ""
				if loc.MappingId != 0 {
					mod = p.StringTable[p.Mapping[loc.MappingId-1].Filename]
				}
				s.modules = append(s.modules, mod)
			}
		}
		ss = append(ss, s)
	}
	return ss
}

// early reports whether a stack was sampled before the unwinder had read its process:
// before it began to, or before it was done.
func (s stack) early() bool {
	return s.functions[0] == newProcess.lines[0].function || s.functions[0] == "[stack incomplete: "+unwindErrors[codeNotKnown]+"]"
}

// sum adds up the values of the stacks that a condition holds for.
func sum(ss []stack, cond func(stack) bool) (total float64) {
	for _, s := range ss {
		if cond == nil || cond(s) {
			total += float64(s.value)
		}
	}
	return total
}

// A pidLabeler adds the process' number to the labels of the real resolver, so
// that tests can tell processes apart.
type pidLabeler struct{ resolver *target.Resolver }

func (l pidLabeler) Labels(pid int, hint target.Hint) labels.Labels {
	b := labels.NewBuilder(l.resolver.Labels(pid, hint))
	b.Set("pid", strconv.Itoa(pid))
	return b.Labels()
}

// A testLog passes log lines on to a test.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// startSource samples until the test has called stop.
func startSource(t *testing.T, frequency int) (m *memory, reg *prometheus.Registry, stop func()) {
	t.Helper()
	return startWith(t, Options{FrequencyHz: frequency})
}

// startWith is startSource with other options.
func startWith(t *testing.T, o Options) (m *memory, reg *prometheus.Registry, stop func()) {
	t.Helper()
	requireKernel(t)
	m, reg = &memory{}, prometheus.NewRegistry()
	log := testLog(t)
	sym := symbolize.New(symbolize.Options{Logger: log})
	o.Appender, o.Symbolizer, o.Targets = m, sym, pidLabeler{target.New(target.Options{Logger: log})}
	o.Interval, o.Logger, o.Registerer = 2*time.Second, log, reg
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	m.deep = s.deep
	stop = sync.OnceFunc(func() {
		assert.NoError(t, s.Close())
		assert.NoError(t, sym.Close())
		checkNothingLost(t, reg)
		library.current.Store(&ears{log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil)})
	})
	t.Cleanup(stop)
	return m, reg, stop
}

// checkNothingLost compares the samples that the gate took with those that
// became stacktraces.
func checkNothingLost(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	taken, _ := metricSum(t, reg, "samples_total")
	kept, outcomes := metricSum(t, reg, "stacktraces_total")
	lost, reasons := metricSum(t, reg, "lost_samples_total")
	t.Logf("%.0f samples, %.0f stacktraces%s, %.0f lost%s", taken, kept, outcomes, lost, reasons)
	// Those of the last moment are taken but not counted, or the other way round.
	assert.InDelta(t, taken, kept+lost, 20+taken/100)
	assert.LessOrEqual(t, lost, taken/100)
}

// metricSum sums up the values of a metric of this package and lists them.
func metricSum(t *testing.T, reg *prometheus.Registry, name string) (sum float64, parts string) {
	t.Helper()
	families, err := reg.Gather()
	assert.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "flameline_sample_"+name {
			continue
		}
		for _, m := range f.Metric {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			sum += v
			for _, l := range m.Label {
				parts += fmt.Sprintf(" %s=%.0f", l.GetValue(), v)
			}
		}
	}
	return sum, parts
}

// A fixture is a program that burns CPU time in a known way.
type fixture struct {
	name  string
	build func(t *testing.T, dir string) []string // returns its command
	root  []string                                // what stacktraces may start with
	chain []string                                // the callers of the hot functions
	heavy string
	light string
	file  string // of the hot functions; "" if there is none
	calls string // a function that the compiler inlined into both; "" if none
}

var fixtures = []fixture{
	{
		name: "C without frame pointers", build: buildC("native/burn.c"),
		root: []string{"clone3", "__clone", "clone", "__GI___clone3", "thread_start", "start_thread"}, chain: []string{"worker", "turn"},
		heavy: "burn_heavy", light: "burn_light",
	},
	{
		name: "Go", build: buildGo(),
		root: []string{"runtime.goexit"}, chain: []string{"main.worker", "main.turn"},
		heavy: "main.burnHeavy", light: "main.burnLight", file: "burn.go", calls: "main.cpu",
	},
	{
		name: "Go stripped", build: buildGo("-ldflags", "-s -w"),
		root: []string{"runtime.goexit"}, chain: []string{"main.worker", "main.turn"},
		heavy: "main.burnHeavy", light: "main.burnLight", file: "burn.go", calls: "main.cpu",
	},
	{
		name: "Python", build: func(t *testing.T, _ string) []string {
			return []string{requireTool(t, "python3", "python3"), "testdata/python/burn.py"}
		},
		root: []string{"clone3", "clone", "__clone", "thread_start", "start_thread"}, chain: []string{"worker", "turn"},
		heavy: "burn_heavy", light: "burn_light", file: "burn.py",
	},
	{
		name: "Node.js", build: func(t *testing.T, _ string) []string {
			return []string{requireTool(t, "node", "nodejs"), "testdata/node/burn.js"}
		},
		root: []string{"_start"}, chain: []string{"worker", "turn"},
		heavy: "burnHeavy", light: "burnLight", file: "burn.js",
	},
	{
		name: "Java", build: func(t *testing.T, dir string) []string {
			run(t, requireTool(t, "javac", "default-jdk-headless"), "-d", dir, "testdata/java/Burn.java")
			return []string{requireTool(t, "java", "default-jdk-headless"), "-cp", dir, "Burn"}
		},
		root: []string{"clone3", "clone", "__clone", "thread_start", "start_thread"}, chain: []string{"Burn.work", "Burn.turn"},
		heavy: "Burn.burnHeavy", light: "Burn.burnLight", file: "Burn.java",
	},
}

func buildC(source string) func(t *testing.T, dir string) []string {
	return func(t *testing.T, dir string) []string {
		bin := filepath.Join(dir, strings.TrimSuffix(filepath.Base(source), ".c"))
		run(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O2", "-fomit-frame-pointer", "-pthread", "-o", bin, "testdata/"+source)
		return []string{bin}
	}
}

func buildGo(flags ...string) func(t *testing.T, dir string) []string {
	return func(t *testing.T, dir string) []string {
		t.Helper()
		bin := filepath.Join(dir, "burn"+strconv.Itoa(len(flags)))
		args := append([]string{"build"}, flags...)
		run(t, "go", append(args, "-o", bin, "testdata/golang/burn.go")...)
		return []string{bin}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}

// A burned is what a fixture says about its CPU time, in ns.
type burned struct {
	pid                   string
	heavy, light, process float64
}

// burn runs a fixture until it has burned its CPU seconds.
func burn(t *testing.T, command []string, args ...string) (burned, error) {
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], args...)...)
	cmd.Env = append(os.Environ(), "OTEL_SERVICE_NAME=burner")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return burned{}, fmt.Errorf("%s: %w: %s", command[0], err, errs.String())
	}
	b := burned{pid: strconv.Itoa(cmd.Process.Pid)}
	_, err := fmt.Sscan(out.String(), &b.heavy, &b.light, &b.process)
	return b, err
}

// TestLanguages checks for each language that both hot functions stand under
// their callers up to the thread's start with the shares of CPU time that they
// have, and that the process' total is right.
func TestLanguages(t *testing.T) {
	requireKernel(t)
	const seconds = "5"
	commands := make([][]string, len(fixtures))
	for i, f := range fixtures {
		dir := t.TempDir()
		commands[i] = f.build(t, dir)
	}
	m, _, stop := startSource(t, 797)
	results := make([]burned, len(fixtures))
	errs := make([]error, len(fixtures))
	var all sync.WaitGroup
	for i := range fixtures {
		all.Go(func() { results[i], errs[i] = burn(t, commands[i], seconds) })
	}
	all.Wait()
	stop()
	for i, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			require.NoError(t, errs[i])
			r := results[i]
			ss := m.stacks("pid", r.pid)
			heavyAt, lightAt := append(slices.Clone(f.chain), f.heavy), append(slices.Clone(f.chain), f.light)
			heavy := sum(ss, func(s stack) bool { return s.has(heavyAt...) && slices.Contains(f.root, s.functions[0]) })
			light := sum(ss, func(s stack) bool { return s.has(lightAt...) && slices.Contains(f.root, s.functions[0]) })
			total := sum(ss, nil)
			share, want := heavy/(heavy+light), r.heavy/(r.heavy+r.light)
			t.Logf("share of %s: %.3f, by its own clock %.3f; stacks complete: %.3f; CPU time: sampled %.3f s, by its own clock %.3f s",
				f.heavy, share, want, (heavy+light)/(r.heavy+r.light), total/1e9, r.process/1e9)
			if math.Abs(share-want) > 0.03 {
				t.Errorf("share of %s is %.3f, its CPU time's share is %.3f", f.heavy, share, want)
			}
			if math.Abs(total/r.process-1) > 0.05 {
				t.Errorf("sampled %.3f s of CPU time, the process used %.3f s", total/1e9, r.process/1e9)
			}
			// Until the unwinder knows a process there is a note instead of the
			// callers; on a machine that is busy otherwise this takes its time.
			early := sum(ss, stack.early)
			if got, want := (heavy+light)/(total-early), (r.heavy+r.light)/r.process; got < want-0.07 {
				t.Errorf("%.3f of the stacktraces stand under %v from %v on, the hot functions' share is %.3f; the largest others:\n%s",
					got, f.chain, f.root, want,
					largest(ss, func(s stack) bool { return !s.has(heavyAt...) && !s.has(lightAt...) }))
			}
			if early > 0.3*total {
				t.Errorf("%.3f of %.3f s were sampled before the unwinder knew the process", early/1e9, total/1e9)
			}
			for _, s := range ss {
				if n := slices.Index(s.functions, f.heavy); n >= 0 && !strings.HasSuffix(s.files[n], f.file) {
					t.Errorf("file of %s is %q, want %s", f.heavy, s.files[n], f.file)
					break
				}
			}
			if f.calls != "" && sum(ss, func(s stack) bool { return s.has(f.heavy, f.calls) }) == 0 {
				t.Errorf("%s, which was inlined into %s, is not shown", f.calls, f.heavy)
			}
			for _, p := range m.profiles {
				if p.Labels.Get("pid") == r.pid {
					require.Equal(t, "burner", p.Labels.Get("service_name"), "labels %v", p.Labels)
					require.Equal(t, profileName, p.Labels.Get("__name__"))
				}
			}
		})
	}
}

// largest lists the stacks with the largest values that a condition holds for.
func largest(ss []stack, cond func(stack) bool) string {
	byStack := map[string]int64{}
	for _, s := range ss {
		if cond(s) {
			byStack[strings.Join(s.functions, ";")] += s.value
		}
	}
	keys := make([]string, 0, len(byStack))
	for k := range byStack {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return int(byStack[b] - byStack[a]) })
	var b strings.Builder
	for _, k := range keys[:min(5, len(keys))] {
		fmt.Fprintf(&b, "%6d ms %s\n", byStack[k]/1e6, k)
	}
	return b.String()
}

// TestKernelFrames checks that system calls show the kernel's functions under
// the function that makes them.
func TestKernelFrames(t *testing.T) {
	requireKernel(t)
	command := buildC("kernel/read.c")(t, t.TempDir())
	m, _, stop := startSource(t, 797)
	r, err := burn(t, command, "3") // heavy is user time, light system time
	require.NoError(t, err)
	stop()
	ss := m.stacks("pid", r.pid)
	kernel := sum(ss, func(s stack) bool {
		n := slices.Index(s.functions, "read_zeros")
		return n > 0 && s.functions[n-1] == "main" && slices.Contains(s.modules[n:], "vmlinux") &&
			slices.ContainsFunc(s.functions[n:], func(f string) bool { return strings.HasPrefix(f, "vfs_read") })
	})
	known := sum(ss, func(s stack) bool { return !s.early() })
	share, want := kernel/known, r.light/r.process
	t.Logf("share of the kernel: %.3f, by its own accounting %.3f", share, want)
	if math.Abs(share-want) > 0.03+0.02 { // the kernel accounts by ticks
		t.Errorf("share of the kernel is %.3f, want %.3f; the largest stacks:\n%s", share, want,
			largest(ss, func(stack) bool { return true }))
	}
}

// TestCPUTime checks that the samples of a process add up to the CPU time that
// it used, at a quarter, half and all of a core, in work that is exactly
// periodic.
func TestCPUTime(t *testing.T) {
	requireKernel(t)
	command := buildC("native/burn.c")(t, t.TempDir())
	// The timers' own work is not accounted to the process that they interrupt,
	// so at high frequencies samples show more than was used.
	m, _, stop := startSource(t, 397)
	var all sync.WaitGroup
	loads := []struct{ share, seconds string }{{"0.25", "4"}, {"0.5", "8"}, {"1", "14"}}
	results := make([]burned, len(loads))
	errs := make([]error, len(loads))
	for i, l := range loads {
		all.Go(func() { results[i], errs[i] = burn(t, command, l.seconds, l.share) })
	}
	all.Wait()
	stop()
	var sampled, used float64
	for i, l := range loads {
		require.NoError(t, errs[i])
		got := sum(m.stacks("pid", results[i].pid), nil)
		sampled, used = sampled+got, used+results[i].process
		t.Logf("%s cores: sampled %.3f s, used %.3f s: %+.1f %%", l.share, got/1e9, results[i].process/1e9, 100*(got/results[i].process-1))
		if math.Abs(got/results[i].process-1) > 0.10 {
			t.Errorf("%s cores: sampled %.3f s of CPU time, the process used %.3f s", l.share, got/1e9, results[i].process/1e9)
		}
	}
	t.Logf("together: %+.1f %%", 100*(sampled/used-1))
	if math.Abs(sampled/used-1) > 0.03 {
		t.Errorf("sampled %.3f s of CPU time, the processes used %.3f s", sampled/1e9, used/1e9)
	}
}

// TestShortProcesses checks that the CPU time of processes is not lost that
// end before the unwinder knows them.
func TestShortProcesses(t *testing.T) {
	requireKernel(t)
	command := buildC("native/burn.c")(t, t.TempDir())
	m, _, stop := startSource(t, 797)
	var used float64
	pids := map[string]bool{}
	for range 150 {
		r, err := burn(t, command, "0.02")
		require.NoError(t, err)
		used += r.process
		pids[r.pid] = true
	}
	stop()
	var got, named, whole float64
	for pid := range pids {
		ss := m.stacks("pid", pid)
		got += sum(ss, nil)
		whole += sum(ss, func(s stack) bool { return !s.early() })
		named += sum(ss, func(s stack) bool {
			return slices.Contains(s.functions, "burn_heavy") || slices.Contains(s.functions, "burn_light")
		})
	}
	t.Logf("sampled %.3f s of %.3f s, %.0f %% of it in the hot functions, %.1f %% whole", got/1e9, used/1e9, 100*named/got, 100*whole/got)
	// The processes' own clocks start after exec and end before exit.
	if got < 0.95*used || got > 1.25*used {
		t.Errorf("sampled %.3f s of CPU time, the processes used %.3f s", got/1e9, used/1e9)
	}
	if named < 0.8*used {
		t.Errorf("only %.3f s of %.3f s are named", named/1e9, used/1e9)
	}
	if whole < 0.85*got { // 97 to 99 % where nothing else runs
		t.Errorf("only %.1f %% of the stacktraces are whole", 100*whole/got)
	}
}

// TestEndOfProcess checks that the time is not lost in which the kernel takes away the
// memory of a process that the unwinder does not know.
func TestEndOfProcess(t *testing.T) {
	requireKernel(t)
	command := buildC("native/exit.c")(t, t.TempDir())
	m, _, stop := startSource(t, 797)
	var used float64
	var pids []string
	for range 40 {
		cmd := exec.CommandContext(t.Context(), command[0], "100")
		require.NoError(t, cmd.Run())
		used += float64(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
		pids = append(pids, strconv.Itoa(cmd.Process.Pid))
	}
	stop()
	var got, ending float64
	for _, pid := range pids {
		ss := m.stacks("pid", pid)
		got += sum(ss, nil)
		ending += sum(ss, func(s stack) bool {
			return slices.Contains(s.functions, "exit_mm") || slices.Contains(s.functions, "exit_mmap")
		})
	}
	t.Logf("sampled %.3f s of %.3f s, %.0f %% of it at the end", got/1e9, used/1e9, 100*ending/got)
	assert.InEpsilon(t, used, got, 0.05)
	assert.Positive(t, ending)
}

// No sample is taken while processes are read before sampling begins, however long that takes.
func TestFirstProcessesAreReadBeforeSampling(t *testing.T) {
	requireKernel(t)
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var read time.Time
	m, _, stop := startWith(t, Options{FrequencyHz: 99, First: func() []int {
		time.Sleep(3 * time.Second) // reading takes longer than an interval, which is 2 s
		read = time.Now()
		return []int{cmd.Process.Pid}
	}})
	time.Sleep(500 * time.Millisecond) // is sampled: some 50 samples
	stop()
	most := time.Since(read)
	ss := m.stacks("pid", strconv.Itoa(cmd.Process.Pid))
	require.NotEmpty(t, ss)
	require.LessOrEqual(t, sum(ss, nil), float64(most), "in %v", most)
	require.Zero(t, sum(ss, stack.early))
}

// TestMemlock checks that the source starts where RLIMIT_MEMLOCK may not be
// raised, and that the filter that makes it so stays on the setup thread.
func TestMemlock(t *testing.T) {
	requireKernel(t)
	var before, after string
	read := func() string {
		text, err := os.ReadFile("/proc/self/limits")
		require.NoError(t, err)
		for ln := range strings.Lines(string(text)) {
			if strings.HasPrefix(ln, "Max locked memory") {
				return ln
			}
		}
		return ""
	}
	before = read()
	_, _, stop := startSource(t, 19)
	after = read()
	require.Equal(t, before, after, "the process' limit changed")
	// The thread that reads processes keeps it; those of setups end. The main
	// thread cannot end, so if it was one of them it waits for ever.
	require.Eventually(t, func() bool { return filteredThreads(t) <= 1 }, time.Minute, 100*time.Millisecond,
		"threads with a seccomp filter")
	stop()
}

// filteredThreads counts the threads of this process other than the main one
// that have a seccomp filter.
func filteredThreads(t *testing.T) (n int) {
	statuses, err := filepath.Glob("/proc/self/task/*/status")
	require.NoError(t, err)
	main := fmt.Sprintf("/proc/self/task/%d/status", os.Getpid())
	for _, status := range statuses {
		text, err := os.ReadFile(status)
		if err == nil && status != main && strings.Contains(string(text), "Seccomp_filters:\t1") {
			n++
		}
	}
	return n
}
