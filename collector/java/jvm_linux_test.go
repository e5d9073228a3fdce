package java

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	asyncProfilerJar = "tools.profiler:async-profiler:4.6"
	mavenCopy        = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"

	patience = time.Minute
)

// tool returns the path of a program, without which the test fails.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: records real JVMs")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install %s", name, pkg)
	}
	return path
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// classes compiles the program that is recorded, in a folder that every user can read.
func classes(t *testing.T) string {
	t.Helper()
	dir := publicDir(t)
	run(t, exec.Command(tool(t, "javac", "default-jdk-headless"), "-d", dir, "testdata/Alloc.java"))
	return dir
}

func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "flameline-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// profiler returns async-profiler's library, of Maven's repository.
func profiler(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, exec.Command(tool(t, "mvn", "maven"), "--quiet", "--batch-mode", mavenCopy, "-Dartifact="+asyncProfilerJar, "-DoutputDirectory="+dir))
	parts := strings.Split(asyncProfilerJar, ":")
	platform := map[string]string{"amd64": "linux-x64", "arm64": "linux-arm64"}[runtime.GOARCH]
	unpack := exec.Command(tool(t, "jar", "default-jdk-headless"), "--extract", "--file", parts[1]+"-"+parts[2]+".jar", platform+"/libasyncProfiler.so")
	unpack.Dir = dir
	run(t, unpack)
	return filepath.Join(dir, platform, "libasyncProfiler.so")
}

// A jvm is a running Alloc.
type jvm struct {
	pid int
	cmd *exec.Cmd
}

// start starts a program, waits until it has printed a line, and ends it with the test.
// The line is the PID if the program is not the JVM itself.
func start(t *testing.T, cmd *exec.Cmd) jvm {
	t.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the program has ended: %s", line)
	return jvm{cmd.Process.Pid, cmd}
}

// alloc returns the command that runs Alloc, which holds memory after some seconds.
func alloc(t *testing.T, classes string, holdAfter int, options ...string) *exec.Cmd {
	t.Helper()
	args := append(options, "-Xmx256m", "-cp", classes, "Alloc", fmt.Sprint(holdAfter))
	return exec.Command(tool(t, "java", "default-jdk-headless"), args...)
}

// A memory keeps profiles.
type memory struct {
	mu sync.Mutex
	ps []profile.Profile
}

func (m *memory) Append(_ context.Context, ps []profile.Profile) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ps = append(m.ps, ps...)
	return nil
}

// values returns the values of a sample type by the functions that have them in their
// stacktraces.
func (m *memory) values(sampleType string) (by map[string]int64, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	by = map[string]int64{}
	for _, p := range m.ps {
		for k, st := range p.Pprof.SampleType {
			if p.Pprof.StringTable[st.Type] != sampleType {
				continue
			}
			functions, lines := map[uint64]string{}, map[uint64]string{}
			for _, f := range p.Pprof.Function {
				functions[f.Id] = p.Pprof.StringTable[f.Name]
			}
			for _, l := range p.Pprof.Location {
				lines[l.Id] = functions[l.Line[0].FunctionId]
			}
			for _, s := range p.Pprof.Sample {
				total += s.Value[k]
				seen := map[string]bool{}
				for _, l := range s.LocationId {
					if name := lines[l]; !seen[name] {
						seen[name] = true
						by[name] += s.Value[k]
					}
				}
			}
		}
	}
	return by, total
}

// A logged is a log in memory.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A running Source and what it has stored and said.
type running struct {
	*Source
	memory
	said   logged
	chunks []chunk // that were decoded
	reg    *prometheus.Registry
	stop   func()
}

// source starts a Source that records only the process of the test.
func source(t *testing.T, pid int, o Options) *running {
	t.Helper()
	r := &running{reg: prometheus.NewRegistry()}
	o.Appender, o.Registerer = &r.memory, r.reg
	o.Labels = func(p int) labels.Labels {
		return labels.FromStrings("service_name", "Alloc", "pid", fmt.Sprint(p), "node", "test")
	}
	o.Decode = func(of Chunk) ([]profile.Profile, error) {
		b := of.Data
		c, err := chunkAt(bytes.NewReader(b), 0, int64(len(b)))
		require.NoError(t, err)
		r.memory.mu.Lock()
		r.chunks = append(r.chunks, c)
		r.memory.mu.Unlock()
		ps, _, err := ingest.JFR(b, nil, ingest.Push{Labels: of.Labels, From: time.Now(), Until: time.Now(), AllocInterval: of.AllocInterval, OldThreads: of.OldThreads}, ingest.Limits{})
		return ps, err
	}
	o.Selector = []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "pid", fmt.Sprint(pid))}
	o.Logger = slog.New(slog.NewTextHandler(&r.said, nil))
	o.Rescan, o.MinAge = 200*time.Millisecond, time.Millisecond
	var err error
	r.Source, err = New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Log(r.said.String())
		}
	})
	return r
}

// gapless checks that each chunk begins where the one before ended.
func gapless(t *testing.T, chunks []chunk, slack time.Duration) {
	t.Helper()
	require.Greater(t, len(chunks), 2)
	for i, c := range chunks[1:] {
		end := chunks[i].begin + chunks[i].length
		require.InDelta(t, end, c.begin, float64(slack), "chunk %d of %d", i+1, len(chunks))
	}
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func (r *running) says(text string) func() bool {
	return func() bool { return strings.Contains(r.said.String(), text) }
}

func (r *running) attached() bool { return testutil.ToFloat64(r.metrics.attached) == 1 }

// sevenToThree checks the shares of the two methods.
func sevenToThree(t *testing.T, m *memory, sampleType string) {
	t.Helper()
	by, total := m.values(sampleType)
	seven, three := float64(by["Alloc.seven"]), float64(by["Alloc.three"])
	require.NotZero(t, total)
	require.InDelta(t, 0.7, seven/(seven+three), 0.06, "%v", by)
	require.Greater(t, (seven+three)/float64(total), 0.7, "%v", by)
}

// recordingsOf returns what the JVM says of its flight recordings.
func recordingsOf(t *testing.T, pid int) string {
	t.Helper()
	out, err := exec.Command(tool(t, "jcmd", "default-jdk-headless"), fmt.Sprint(pid), "JFR.check").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// noFolder checks that nothing of ours is left in a JVM's /tmp.
func noFolder(t *testing.T, pid int) {
	t.Helper()
	left, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/tmp/%s*", pid, folderPrefix))
	require.NoError(t, err)
	for _, dir := range left {
		if strings.HasSuffix(dir, fmt.Sprintf("-%d", pid)) {
			t.Errorf("%s is left", dir)
		}
	}
	_, err = os.Stat(fmt.Sprintf("/proc/%d/root/tmp/.attach_pid%d", pid, pid))
	require.ErrorIs(t, err, os.ErrNotExist)
}
