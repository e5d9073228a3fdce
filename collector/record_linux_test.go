package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// A recording of a process of each language has its functions in their shares, and as many
// samples as the process has used CPU time.
func TestLiveRecordLanguages(t *testing.T) {
	requireSampling(t)
	for _, b := range busies {
		t.Run(b.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := background(t, append(b.command(t, dir), "100")...)
			time.Sleep(time.Second) // compilers warm up
			before := cpuSeconds(t, cmd.Process.Pid)
			// With a pause on both sides of the recording that the process uses too.
			r := runTool(t, dir, nil, "record", "-p", pidOf(cmd), "-d", "4s", "-F", "199", "-o", "out.folded")
			used := cpuSeconds(t, cmd.Process.Pid) - before
			require.Zero(t, r.code)
			require.Contains(t, r.stderr, "wrote out.folded")
			text, err := os.ReadFile(filepath.Join(dir, "out.folded"))
			require.NoError(t, err)
			stacks := parseFolded(t, string(text))
			heavy, light := below(stacks, b.turn, b.heavy), below(stacks, b.turn, b.light)
			require.Positive(t, heavy+light, string(text))
			require.InDelta(t, 0.7, heavy/(heavy+light), 0.08)
			total := below(stacks, strings.Split(firstStack(stacks), ";")[0])
			require.Greater(t, heavy+light, 0.8*total, "few stacktraces are cut")
			var all float64
			for _, n := range stacks {
				all += n
			}
			require.LessOrEqual(t, all/199, atMost(used, 199))
			require.LessOrEqual(t, all/199, 4.2, "one thread, for four seconds")
			require.Greater(t, all/199, 0.5)
		})
	}
}

// firstStack returns the commonest stacktrace.
func firstStack(stacks map[string]float64) (first string) {
	most := 0.0
	for stack, n := range stacks {
		if n > most {
			first, most = stack, n
		}
	}
	return first
}

// A command runs with its arguments, streams and exit code.
func TestLiveRecordCommand(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	burn := absolute(t, samplePrograms+"python/burn.py")
	python := requireTool(t, "python3", "python3")

	r := runTool(t, dir, nil, "record", "-F", "199", "-o", "out.pb.gz", "--", python, burn, "2")
	require.Zero(t, r.code)
	var spent [3]float64 // what the program says: heavy, light, all; in ns
	_, err := fmt.Sscan(r.stdout, &spent[0], &spent[1], &spent[2])
	require.NoError(t, err, "its output is its own: %q", r.stdout)
	require.True(t, strings.HasPrefix(r.stderr, "flameline: recording python3 until it ends\n"), r.stderr)
	p := readPprof(t, filepath.Join(dir, "out.pb.gz"))
	require.Equal(t, "cpu", p.DefaultSampleType)
	require.InDelta(t, spent[2], sumOf(p, 1), 0.1*spent[2], "all of its CPU time, from its begin to its end")
	require.Equal(t, sumOf(p, 0)*float64(p.Period), sumOf(p, 1))
	require.Greater(t, float64(p.DurationNanos), 0.95*spent[2])

	r = runTool(t, dir, nil, "record", "-o", "slack.folded", "--", "cat", "/proc/self/timerslack_ns")
	own, err := os.ReadFile("/proc/self/timerslack_ns")
	require.NoError(t, err)
	require.Equal(t, string(own), r.stdout, "its timers are as exact as without a recording")

	shell := func(script string) toolRun {
		return runTool(t, dir, func(c *exec.Cmd) { c.Stdin = strings.NewReader("given\n") }, "record", "-o", "sh.folded", "--", "sh", "-c", script)
	}
	busy := "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; "
	r = shell(busy + "cat; exit 7")
	require.Equal(t, toolRun{7, "given\n", r.stderr}, r)
	require.FileExists(t, filepath.Join(dir, "sh.folded"), "recorded all the same")
	r = shell(busy + "kill -TERM $$")
	require.Equal(t, 128+15, r.code)

	r = runTool(t, dir, nil, "record", "-o", "-", "--", "sh", "-c", "echo out; "+busy)
	require.Zero(t, r.code)
	require.NotEmpty(t, parseFolded(t, r.stdout), "the standard output has the profile and nothing else")
	require.Contains(t, r.stderr, "out\n")

	r = runTool(t, dir, nil, "record", "--", "no-such-command")
	require.Equal(t, 127, r.code)
	require.Contains(t, r.stderr, "no-such-command: executable file not found")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), nil, 0o600))
	r = runTool(t, dir, nil, "record", "--", "./text")
	require.Equal(t, 126, r.code)
	// At one sample per second the chance that a command of a millisecond has one is 1 in 1,000.
	r = runTool(t, dir, nil, "record", "-F", "1", "-o", "never.svg", "--", "true")
	require.Equal(t, 125, r.code, "the command succeeded, the recording did not")
	require.Contains(t, r.stderr, "no samples of true")
	require.NoFileExists(t, filepath.Join(dir, "never.svg"))
	r = runTool(t, dir, nil, "record", "--", "sh", "-c", "exit 9")
	require.Equal(t, 9, r.code)
}

func readPprof(t *testing.T, name string) *profile.Profile {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	p, err := profile.Parse(f)
	require.NoError(t, err)
	require.NoError(t, p.CheckValid())
	return p
}

func sumOf(p *profile.Profile, value int) (sum float64) {
	for _, s := range p.Sample {
		sum += float64(s.Value[value])
	}
	return sum
}

// The command of somebody who has called sudo runs as that user, and the file belongs to
// that user.
func TestLiveRecordSudo(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	sudo := func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "SUDO_UID=65534", "SUDO_GID=65534", "SUDO_USER=nobody", "HOME=/root")
	}
	const script = `echo $(id -u) $HOME $USER ${SUDO_UID-none}; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	r := runTool(t, dir, sudo, "record", "-o", "out.svg", "--", "sh", "-c", script)
	require.Zero(t, r.code)
	require.Equal(t, "65534 /nonexistent nobody none\n", r.stdout)
	info, err := os.Stat(filepath.Join(dir, "out.svg"))
	require.NoError(t, err)
	require.EqualValues(t, 65534, info.Sys().(*syscall.Stat_t).Uid)
	require.EqualValues(t, 0o644, info.Mode().Perm())
	r = runTool(t, dir, sudo, "record", "--user", "root", "-o", "out.svg", "--", "sh", "-c", script)
	require.Zero(t, r.code)
	require.True(t, strings.HasPrefix(r.stdout, "0 "), r.stdout)
}

// Signals reach the command, and what was recorded is kept.
func TestLiveRecordSignals(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	path, err := binary()
	require.NoError(t, err)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1} {
		dir := t.TempDir()
		cmd := exec.Command(path, "record", "-o", "out.folded", "--", "sh", "-c", `trap 'echo got; exit 5' INT TERM USR1; echo ready; while :; do :; done`)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line := make([]byte, len("ready\n"))
		_, err = io.ReadFull(out, line)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.NoError(t, cmd.Process.Signal(sig))
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Equal(t, "got\n", string(rest))
		_ = cmd.Wait()
		require.Equal(t, 5, cmd.ProcessState.ExitCode(), sig)
		text, err := os.ReadFile(filepath.Join(dir, "out.folded"))
		require.NoError(t, err)
		require.NotEmpty(t, parseFolded(t, string(text)))
	}
}

// Ctrl-C ends a recording of a running process early, and keeps it.
func TestLiveRecordInterrupted(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	path, err := binary()
	require.NoError(t, err)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir := t.TempDir()
		busy := background(t, "sh", "-c", "while :; do :; done")
		cmd := exec.Command(path, "record", "-p", pidOf(busy), "-d", "10m", "-o", "out.html")
		cmd.Dir = dir
		tty, err := pty.Start(cmd)
		require.NoError(t, err)
		screen := readAll(tty)
		require.Eventually(t, func() bool {
			return regexp.MustCompile(`recording [1-9].* of 10m0s: [1-9]\d* samples`).MatchString(screen.String())
		}, time.Minute, 20*time.Millisecond, screen)
		if sig == syscall.SIGINT {
			_, err = tty.Write([]byte{3}) // the terminal sends it
		} else {
			// timeout(1) sends it to the process, and again to its group.
			err = cmd.Process.Signal(sig)
			time.Sleep(5 * time.Millisecond)
			_ = cmd.Process.Signal(sig)
		}
		require.NoError(t, err)
		require.NoError(t, cmd.Wait(), screen)
		require.Eventually(t, func() bool { return strings.Contains(screen.String(), "wrote out.html") }, time.Minute, 20*time.Millisecond, screen)
		require.NoError(t, tty.Close())
		text, err := os.ReadFile(filepath.Join(dir, "out.html"))
		require.NoError(t, err)
		require.Contains(t, string(text), "<html")
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1, "no unfinished file stays")
	}
}

// readAll reads what is written to a terminal, as it comes.
func readAll(r io.Reader) *lockedBuffer {
	b := &lockedBuffer{}
	go func() { _, _ = io.Copy(b, r) }()
	return b
}

// Each format is what its readers expect.
func TestLiveRecordFormats(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	dir := t.TempDir()
	busy := background(t, "sh", "-c", "while :; do :; done")
	for name, begin := range map[string]string{
		"a.svg": "<svg", "a.html": "<!DOCTYPE html>", "a.speedscope.json": `{"$schema":"https://www.speedscope.app`, "a.json": `{"meta":{`, "a.pb.gz": "\x1f\x8b",
	} {
		r := runTool(t, dir, nil, "record", "-p", pidOf(busy), "-d", "1", "-q", "-o", name)
		require.Equal(t, toolRun{}, r, "quiet")
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, strings.ToLower(string(text[:min(300, len(text))])), strings.ToLower(begin), name)
	}
	r := runTool(t, dir, nil, "record", "-p", pidOf(busy), "-d", "1", "--to", "pprof", "-o", "-")
	require.Zero(t, r.code)
	p, err := profile.ParseData([]byte(r.stdout))
	require.NoError(t, err)
	require.Positive(t, sumOf(p, 0))
	// By default, a new file whose name is said.
	r = runTool(t, dir, nil, "record", "-p", pidOf(busy), "-d", "1")
	name := regexp.MustCompile(`wrote (flameline-sh-\d+-\d+\.svg)\n`).FindStringSubmatch(r.stderr)
	require.NotNil(t, name, r.stderr)
	require.FileExists(t, filepath.Join(dir, name[1]))
	// A pipe that nobody reads.
	fifo := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	read := make(chan string, 1)
	go func() {
		text, _ := os.ReadFile(fifo)
		read <- string(text)
	}()
	r = runTool(t, dir, nil, "record", "-p", pidOf(busy), "-d", "1", "--to", "folded", "-o", "pipe")
	require.Zero(t, r.code)
	require.NotEmpty(t, parseFolded(t, <-read))
}

// Without children there is only what the shell does, with them all that they do, although
// each has ended before its samples are seen.
func TestLiveRecordSubprocesses(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	burn := buildBurnC(t, dir)
	path, err := binary()
	require.NoError(t, err)
	cmd := exec.Command(path, "record", "--subprocesses", "-F", "499", "-o", "out.folded", "--", "sh", "-c", `for i in 1 2 3 4 5 6 7 8 9 10; do sh -c "$0 0.15"; done; cat /proc/$$/stat`, burn)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	f := strings.Fields(string(out[bytes.LastIndexByte(out, ')'):]))
	var ticks float64
	for _, field := range f[12:16] { // utime, stime, and those of children
		n, err := strconv.ParseFloat(field, 64)
		require.NoError(t, err)
		ticks += n
	}
	text, err := os.ReadFile(filepath.Join(dir, "out.folded"))
	require.NoError(t, err)
	stacks := parseFolded(t, string(text))
	var all float64
	for _, n := range stacks {
		all += n
	}
	byName := map[string]float64{}
	for stack, n := range stacks {
		byName[strings.Split(stack, ";")[0]] += n
	}
	require.InDelta(t, ticks/100, all/499, 0.08*ticks/100+3*math.Sqrt(ticks/100/499), "%v %s", byName, &stderr)
	require.Greater(t, byName["burnc"], 0.6*all, byName)
	r := runTool(t, dir, nil, "record", "-F", "499", "-o", "one.folded", "--", "sh", "-c", `"$0" 0.3; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`, burn)
	require.Zero(t, r.code)
	text, err = os.ReadFile(filepath.Join(dir, "one.folded"))
	require.NoError(t, err)
	require.NotContains(t, string(text), "burn_heavy")
}

func TestLiveRecordSelections(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	dir := t.TempDir()
	burn := buildBurnC(t, dir)
	one := background(t, burn, "100")
	record := func(args ...string) map[string]float64 {
		r := runTool(t, dir, nil, append([]string{"record", "-d", "2", "-o", "-"}, args...)...)
		require.Zero(t, r.code)
		return parseFolded(t, r.stdout)
	}
	for stack := range record("--comm", "^burnc$") {
		require.True(t, strings.HasPrefix(stack, "burnc;"), stack)
	}
	all := record("-a")
	require.Positive(t, below(all, "burnc"))
	require.Greater(t, len(all), 1)
	var early, total, sum float64
	for stack, n := range all {
		sum += n
		if strings.HasPrefix(stack, "burnc;") {
			total += n
			if strings.Contains(stack, "not known yet") || strings.Contains(stack, "new process") {
				early += n
			}
		}
	}
	require.LessOrEqual(t, early, 0.05*total, "it was read before sampling began, unless others took too long")
	require.LessOrEqual(t, sum, 1.2*2*99*float64(runtime.NumCPU()), "no more than the CPUs can give")
	threads := record("-p", pidOf(one), "--threads")
	for stack := range threads {
		require.Regexp(t, `^burnc \(\d+\);`, stack)
	}
	for stack := range record("-p", pidOf(one), "--include", "burn_heavy") {
		require.Contains(t, stack, "burn_heavy")
	}
	for stack := range record("-p", pidOf(one), "--exclude", "burn_heavy") {
		require.NotContains(t, stack, "burn_heavy")
	}
	// A control group of our own.
	group := makeCGroup(t)
	require.NoError(t, os.WriteFile(filepath.Join(group.dir, "cgroup.procs"), []byte(pidOf(one)), 0o600))
	inside := record("--cgroup", group.path)
	require.Positive(t, below(inside, "burnc"))
	for stack := range inside {
		require.True(t, strings.HasPrefix(stack, "burnc;"), stack)
	}
	inside = record("--cgroup", group.dir)
	require.Positive(t, below(inside, "burnc"))
	// And one that is named as that of a container.
	inside = record("--container", strings.Repeat("f1a0", 3))
	require.Positive(t, below(inside, "burnc"))
}

// A testGroup is a control group.
type testGroup struct{ dir, path string }

// makeCGroup makes a control group with the name of a Docker container in any hierarchy
// that allows it.
func makeCGroup(t *testing.T) testGroup {
	t.Helper()
	path := fmt.Sprintf("/flameline-test-%d/%s", os.Getpid(), strings.Repeat("f1a0", 16))
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir := filepath.Join(root, path)
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the permissions of control groups
			continue
		}
		t.Cleanup(func() {
			if text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil {
				for pid := range strings.FieldsSeq(string(text)) {
					_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(pid), 0o600)
				}
			}
			_ = os.Remove(dir)
			_ = os.Remove(filepath.Dir(dir))
		})
		return testGroup{dir, path}
	}
	t.Fatal("no control group can be made: mount cgroup2 at /sys/fs/cgroup")
	return testGroup{}
}

func TestRecordErrors(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{2, "say what to record", nil},
		{2, "give only one of", []string{"-a", "-p", "1"}},
		{2, `"x" is not a process ID`, []string{"-p", "x"}},
		{2, "--comm: error parsing regexp", []string{"--comm", "("}},
		{2, "--include: error parsing regexp", []string{"-a", "--include", "("}},
		{2, "is not between 1 and 1000", []string{"-a", "-F", "5000"}},
		{2, "is not a time such as 30s", []string{"-a", "-d=-3"}},
		{2, "the extension names no format", []string{"-a", "-o", "x.exe"}},
		{2, `format "exe" is not one of`, []string{"-a", "--to", "exe"}},
		{2, "must be one of cpu,off-cpu,wall,page-faults,alloc", []string{"-a", "-e", "cycles"}},
		{2, "--user goes with a command", []string{"-a", "--user", "root"}},
		{2, "--subprocesses goes with -p or a command", []string{"-a", "--subprocesses"}},
		{2, "commands go after --: flameline record -- sh -c exit 3; try --help", []string{"sh", "-c", "exit 3"}},
		{2, "commands go after --: flameline record -F 99 -o x.svg -- ls -a; try --help", []string{"-F", "99", "-o", "x.svg", "ls", "-a"}},
		{2, "commands go after --: flameline record -qF99 -- ls --all /; try --help", []string{"-qF99", "ls", "--all", "/"}},
		{1, "there is no process 4194305", []string{"-p", "4194305"}},
		{1, "no container has an ID that begins with feed", []string{"--container", "feed"}},
		{1, "there is no control group /no/such", []string{"--cgroup", "no/such"}},
		{1, "no such file or directory", []string{"-a", "-o", "no/such/file.svg"}},
		{2, "must be one of cpu,off-cpu,wall,page-faults,alloc", []string{"-a", "-e", "heap"}},
	} {
		r := runTool(t, t.TempDir(), nil, append([]string{"record"}, c.args...)...)
		require.Equal(t, c.code, r.code, c.args)
		require.Contains(t, r.stderr, c.text)
		require.Empty(t, r.stdout)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %s", r.stderr)
	}
}

// asNobody has a program run without rights.
func asNobody(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// What is missing is named, and where to look.
func TestLiveRecordNotPermitted(t *testing.T) {
	requireSampling(t)
	dir, err := os.MkdirTemp("", "flameline-test-") // which another user can get to
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // another user writes to it
	for _, args := range [][]string{{"record", "-a"}, {"top", "--once"}} {
		r := runTool(t, dir, asNobody, args...)
		require.Equal(t, 4, r.code, args)
		require.Contains(t, r.stderr, "run as root or grant CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE")
		require.Contains(t, r.stderr, "flameline doctor")
	}
	r := runTool(t, dir, asNobody, "record", "--", "sh", "-c", "touch ran")
	require.Equal(t, 125, r.code)
	require.NoFileExists(t, filepath.Join(dir, "ran"), "the command is not started")
}

// A process that waits has no samples, and the error says why.
func TestLiveRecordNoSamples(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	dir := t.TempDir()
	sleeper := background(t, "sleep", "100")
	r := runTool(t, dir, nil, "record", "-p", pidOf(sleeper), "-d", "1")
	require.Equal(t, 3, r.code)
	require.Contains(t, r.stderr, "used no CPU time (it waits); -e off-cpu shows what waiting threads wait for")
	r = runTool(t, dir, nil, "record", "--comm", "^no such name$", "-d", "1")
	require.Equal(t, 3, r.code)
	require.Contains(t, r.stderr, "no process matches")
	busy := background(t, "sh", "-c", "while :; do :; done")
	r = runTool(t, dir, nil, "record", "-p", pidOf(busy), "-d", "1", "--include", "^no such function$")
	require.Equal(t, 3, r.code)
	require.Contains(t, r.stderr, "--include and --exclude left out all")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	// It ends when the process does, whose end may be sampled: it takes CPU time.
	short := background(t, "sh", "-c", "sleep 4")
	began := time.Now()
	r = runTool(t, dir, nil, "record", "-p", pidOf(short), "-d", "10m")
	require.Contains(t, []int{0, 3}, r.code)
	require.Less(t, time.Since(began), 5*time.Minute)
}

// A command has the priority that it has without record, which raises its own.
func TestLiveRecordPriority(t *testing.T) {
	requireSampling(t)
	want, err := exec.CommandContext(t.Context(), "nice").Output()
	require.NoError(t, err)
	// Of one that takes no time there may be no samples, which is another exit code.
	r := runTool(t, t.TempDir(), nil, "record", "-o", "out.folded", "--", "nice")
	require.Equal(t, string(want), r.stdout, r.stderr)
}
