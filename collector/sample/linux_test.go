//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/reporter/samples"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
)

func TestParseCPUs(t *testing.T) {
	cpus, err := parseCPUs("0-2,5,8-9")
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 5, 8, 9}, cpus)
	for _, bad := range []string{"", "a", "3-1", "-1", "0-99999999", "1,,2"} {
		_, err := parseCPUs(bad)
		require.Error(t, err, bad)
	}
}

func TestTicksPerSample(t *testing.T) {
	require.Equal(t, 13, ticksPerSample(19))
	require.Equal(t, 7, ticksPerSample(99))
	for f := 1; f <= MaxFrequency; f++ {
		n := ticksPerSample(f)
		require.True(t, n == 1 || n*f <= maxTickRate && n%2 == 1 && n%5 != 0, "%d Hz: %d", f, n)
	}
}

func TestMissingCapabilities(t *testing.T) {
	all := uint64(1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_CHECKPOINT_RESTORE | 1<<unix.CAP_SYSLOG)
	require.NoError(t, missingCapabilities(all))
	require.NoError(t, missingCapabilities(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_SYS_PTRACE|1<<unix.CAP_SYSLOG))
	err := missingCapabilities(all &^ (1<<unix.CAP_PERFMON | 1<<unix.CAP_SYSLOG))
	require.EqualError(t, err, "not permitted to attach them to CPU timers, read kernel symbols: run as root or grant CAP_PERFMON, CAP_SYSLOG")
	require.ErrorContains(t, missingCapabilities(0), "run as root or grant CAP_BPF, CAP_PERFMON")
}

func TestEffectiveCapabilities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "status")
	require.NoError(t, os.WriteFile(file, []byte("Name:\tx\nCapEff:\t000001fffeffffff\n"), 0o600))
	set, err := effectiveCapabilities(file)
	require.NoError(t, err)
	require.EqualValues(t, 0x1fffeffffff, set)
	for _, bad := range []string{"", "CapEff: zz\n"} {
		require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
		_, err := effectiveCapabilities(file)
		require.Error(t, err)
	}
}

func TestParseCodeMapping(t *testing.T) {
	m, ok := parseCodeMapping("7f00a000-7f00c000 r-xp 00003000 fe:01 4711                      /usr/lib/libx y.so")
	require.True(t, ok)
	require.Equal(t, codeMapping{
		span: span{0x7f00a000, 0x7f00c000}, offset: 0x3000, file: fileKey{device: 0xfe01, inode: 4711}, path: "/usr/lib/libx y.so",
	}, m)
	require.Equal(t, place{file: fileKey{device: 0xfe01, inode: 4711}, name: "libx y.so", offset: 0x3010}, m.at(0x7f00a010))
	m, ok = parseCodeMapping("7ffd1000-7ffd3000 r-xp 00000000 00:00 0      [vdso]")
	require.True(t, ok)
	require.Equal(t, codeMapping{span: span{0x7ffd1000, 0x7ffd3000}, path: process.VdsoPathName}, m)
	for _, ln := range []string{
		"", "x", "7f00a000-7f00c000 rwxp 00000000 00:00 0", "7f00c000-7f00a000 r-xp 00003000 fe:01 1 /x",
		"zz-7f00c000 r-xp 0 fe:01 1 /x", "7f00a000-7f00c000 r--p 00003000 fe:01 4711 /usr/lib/libx.so",
		"7f00a000-7f00c000 r-xp 00000000 00:00 0 [stack]",
	} {
		_, ok := parseCodeMapping(ln)
		require.False(t, ok, ln)
	}
}

func TestFindMapping(t *testing.T) {
	ms := []codeMapping{{span: span{10, 20}, path: "a"}, {span: span{20, 30}, path: "b"}, {span: span{40, 50}, path: "c"}}
	for addr, want := range map[uint64]string{10: "a", 19: "a", 20: "b", 29: "b", 40: "c", 49: "c"} {
		m, ok := find(ms, addr)
		require.True(t, ok, addr)
		require.Equal(t, want, m.path)
	}
	for _, addr := range []uint64{0, 9, 30, 39, 50, 1 << 63} {
		_, ok := find(ms, addr)
		require.False(t, ok, addr)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"void org.example.Foo.bar(int, java.lang.String)": "org.example.Foo.bar",
		"java.lang.Thread.run":                            "java.lang.Thread.run",
		"StubRoutines (1) [call_stub_return_address]":     "StubRoutines (1) [call_stub_return_address]",
		"void Burn$$Lambda$14+<hidden>.run()":             "Burn$$Lambda$14.run",
		"()":                                              "()",
	} {
		require.Equal(t, want, javaName(in))
	}
	for in, want := range map[string]string{
		"main.main": "main.main",
		"unique.Make[go.shape.struct { A []int }]":       "unique.Make[...]",
		"xsync.(*Once[go.shape.[]uint8]).Get":            "xsync.(*Once[...]).Get",
		"runtime.futex.abi0":                             "runtime.futex",
		"slices.SortFunc[go.shape.[]string,string].fun1": "slices.SortFunc[...].fun1",
	} {
		require.Equal(t, want, goName(in))
	}
}

// A tableSymbolizer knows one function.
type tableSymbolizer struct{ asked int }

func (*tableSymbolizer) Add(symbolize.FileID, symbolize.Binary) {}

func (s *tableSymbolizer) Lookup(_ symbolize.FileID, addr uint64) ([]symbolize.Line, bool) {
	s.asked++
	if addr < 0x1000 || addr >= 0x2000 {
		return nil, false
	}
	return []symbolize.Line{{Function: "inner"}, {Function: "outer", File: "x.c", Line: 7}}, true
}

func (s *tableSymbolizer) LookupAll(id symbolize.FileID, addrs []uint64) [][]symbolize.Line {
	found := make([][]symbolize.Line, len(addrs))
	for i, addr := range addrs {
		found[i], _ = s.Lookup(id, addr)
	}
	return found
}

func nativeFrame(addr uint64) libpf.Frame {
	file := libpf.NewFrameMappingFile(libpf.FrameMappingFileData{
		FileID: libpf.NewFileID(1, 2), FileName: libpf.Intern("libx.so"), GnuBuildID: "abcd",
	})
	return libpf.Frame{
		Type:            libpf.NativeFrame,
		AddressOrLineno: libpf.AddressOrLineno(addr),
		Mapping:         libpf.NewFrameMapping(libpf.FrameMappingData{File: file, Start: 0, End: 0x10000}),
	}
}

func TestFrames(t *testing.T) {
	sym := &tableSymbolizer{}
	f := newFrames(sym, newBinaries(sym, newMetrics(nil), slog.New(slog.DiscardHandler)), newMetrics(nil))
	var in libpf.Frames
	kernel := libpf.NewFrameMappingFile(libpf.FrameMappingFileData{FileName: libpf.Intern("vmlinux")})
	frames := []libpf.Frame{
		{Type: libpf.KernelFrame, FunctionName: libpf.Intern("vfs_read"), Mapping: libpf.NewFrameMapping(libpf.FrameMappingData{File: kernel})},
		nativeFrame(0x1010),
		nativeFrame(0x1020),
		nativeFrame(0x9000),
		{Type: libpf.NativeFrame, AddressOrLineno: 0x42},
		{Type: libpf.PythonFrame, FunctionName: libpf.Intern("handle"), SourceFile: libpf.Intern("app.py"), SourceLine: 12},
		{Type: libpf.PythonFrame},
		{Type: libpf.V8Frame, SourceFile: libpf.Intern("app.js"), SourceLine: 3},
		{Type: libpf.NativeFrame.Error(), AddressOrLineno: codeNotKnown},
		{Type: libpf.NativeFrame.Error(), AddressOrLineno: 99999},
	}
	for i := range frames {
		in.Append(&frames[i])
	}
	got := f.locations(nil, in, 1)
	require.Len(t, got, len(frames), "no frame is dropped")
	require.Equal(t, &location{kind: kindKernel, module: module{name: "vmlinux"}, lines: []line{{function: "vfs_read", file: "vmlinux"}}}, got[0])
	require.Equal(t, []line{{function: "inner"}, {function: "outer", file: "x.c", number: 7}}, got[1].lines)
	require.Same(t, got[1], got[2], "addresses of one line are one location")
	require.Equal(t, "libx.so+0x9000", got[3].lines[0].function)
	require.EqualValues(t, 0x9000, got[3].address)
	require.Equal(t, "[unknown]+0x42", got[4].lines[0].function)
	require.Equal(t, line{function: "handle", file: "app.py", number: 12}, got[5].lines[0])
	require.Equal(t, "[unknown cpython function]", got[6].lines[0].function)
	require.Equal(t, "(anonymous)", got[7].lines[0].function)
	require.Equal(t, "[stack incomplete: code not known yet]", got[8].lines[0].function)
	require.Equal(t, "[stack incomplete: unwinder error 99999]", got[9].lines[0].function)
	require.EqualValues(t, 2, counterValue(f.metrics.unsymbolizedByKind[kindNative]))
	require.EqualValues(t, 1, counterValue(f.metrics.unsymbolizedByKind[kindPython]))

	// Known locations outlive a generation, unknown ones are asked for again.
	asked := sym.asked
	f.age(f.born.Add(generationAge))
	again := f.locations(nil, in, 1)
	require.Same(t, got[1], again[1])
	require.Equal(t, asked+1, sym.asked)
	f.age(f.born.Add(generationAge))
	f.age(f.born.Add(generationAge))
	require.Empty(t, f.old.byFrame, "what is not seen is dropped")
}

// A countingLabeler counts the questions.
type countingLabeler struct {
	asked int
	hint  target.Hint
}

func (l *countingLabeler) Labels(pid int, hint target.Hint) labels.Labels {
	l.asked++
	l.hint = hint
	return labels.FromStrings("pid", strconv.Itoa(pid), "exe", hint.Exe)
}

func TestLabelCache(t *testing.T) {
	targets := &countingLabeler{}
	c := &labelCache{targets: targets, metrics: newMetrics(nil), byPID: map[libpf.PID]labeled{}}
	meta := &samples.TraceEventMeta{
		PID: 7, TID: 7,
		Comm:           libpf.NewCommFromString("main"),
		ExecutablePath: libpf.Intern("/bin/a"),
		EnvVars:        map[libpf.String]libpf.String{libpf.Intern("OTEL_SERVICE_NAME"): libpf.Intern("shop")},
	}
	first := c.get(meta)
	require.Equal(t, "/bin/a", first.Get("exe"))
	require.Equal(t, target.Hint{Comm: "main", Exe: "/bin/a", Env: map[string]string{"OTEL_SERVICE_NAME": "shop"}}, targets.hint)
	c.get(meta)
	thread := *meta
	thread.TID, thread.Comm = 8, libpf.NewCommFromString("worker-1")
	c.get(&thread)
	require.Equal(t, 1, targets.asked, "a thread's name is not the process' name")

	l := c.byPID[7]
	require.LessOrEqual(t, time.Until(l.until), firstLabelAge, "it may be in the middle of exec")
	l.until = time.Time{}
	c.byPID[7] = l
	c.get(meta)
	require.Equal(t, 2, targets.asked)
	require.Greater(t, time.Until(c.byPID[7].until), firstLabelAge)

	exec := *meta
	exec.ExecutablePath = libpf.Intern("/bin/b")
	require.Equal(t, "/bin/b", c.get(&exec).Get("exe"), "after exec labels are asked for again")
	for pid := range libpf.PID(2 * maxLabeled) {
		m := *meta
		m.PID = pid
		c.get(&m)
		require.LessOrEqual(t, len(c.byPID), maxLabeled)
	}
}

// TestFilterMemlock checks the filter on a thread of its own: the limit cannot
// be raised, and yet the call succeeds and leaves the limit as it is; reading
// limits and other limits work as ever.
func TestFilterMemlock(t *testing.T) {
	requireKernel(t)
	check := func(_ setup) error {
		if err := filterMemlock(); err != nil {
			return err
		}
		var before, after unix.Rlimit
		if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &before); err != nil {
			return err
		}
		most := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &most, nil); err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
			return err
		}
		if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &after); err != nil {
			return err
		}
		require.Equal(t, before, after)
		var files unix.Rlimit
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &files); err != nil {
			return err
		}
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &files, nil)
	}
	require.NoError(t, onSetupThread(check))
}

// TestTracefs checks that the setup thread sees trace events whether tracefs is
// mounted or not, and that its mount is its own.
func TestTracefs(t *testing.T) {
	requireKernel(t)
	mounts := func() string {
		text, err := os.ReadFile("/proc/self/mounts")
		require.NoError(t, err)
		return string(text)
	}
	before := mounts()
	require.NoError(t, onSetupThread(func(s setup) error {
		_, err := os.Stat(tracefsPath + "/events/sched/sched_process_free/id")
		if s.tracefs == nil {
			require.NoError(t, err)
		} else {
			t.Errorf("no tracefs: %v", s.tracefs)
		}
		return nil
	}))
	require.Equal(t, before, mounts(), "the process' own mounts are as they were")
}

// onFirstThread makes the test program call onOtherThread on its first thread.
const onFirstThread = "FLAMELINE_TEST_ON_FIRST_THREAD"

func init() { //nolint:gochecknoinits // only while packages are initialised is this goroutine on the first thread
	if os.Getenv(onFirstThread) != "" {
		runtime.LockOSThread() // of the main goroutine, to the first thread
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(onFirstThread) == "" {
		os.Exit(m.Run())
	}
	called := -1
	onOtherThread(func() { called = unix.Gettid() })
	if unix.Gettid() != unix.Getpid() || called < 0 || called == unix.Getpid() {
		fmt.Fprintf(os.Stderr, "process %d called on thread %d, from %d\n", unix.Getpid(), called, unix.Gettid())
		os.Exit(1)
	}
	os.Exit(0)
}

// TestSetupLeavesTheFirstThread checks that nothing of the setup runs on the
// process' first thread, which /proc/self is about.
func TestSetupLeavesTheFirstThread(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), onFirstThread+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestQuietHandler checks that the unwinder's lines are moved to lower levels,
// counted, and not repeated.
func TestQuietHandler(t *testing.T) {
	var out strings.Builder
	b := &bridge{}
	m := newMetrics(nil)
	b.current.Store(&ears{log: slog.New(slog.NewTextHandler(&out, nil)), metrics: m})
	l := slog.New(&quietHandler{bridge: b})
	l.Info("information")
	l.Warn("a warning")
	l.Error("an error")
	l.Error("an error again")
	require.NotContains(t, out.String(), "information")
	require.Equal(t, 1, strings.Count(out.String(), "level=WARN"), out.String())
	require.Contains(t, out.String(), `msg="unwinder: an error"`)
	require.EqualValues(t, 2, counterValue(m.libraryLogs.WithLabelValues("ERROR")))
	require.EqualValues(t, 1, counterValue(m.libraryLogs.WithLabelValues("WARN")))

	c, err := libraryMeter{bridge: b}.Int64Counter("bpf.errors.ringbuf_output")
	require.NoError(t, err)
	c.Add(context.Background(), 3)
	require.EqualValues(t, 3, counterValue(m.lost.WithLabelValues("buffer_full")))
}

// TestAggregateIsBounded checks that stacktraces are lost, not kept without end,
// when nobody takes them.
func TestAggregateIsBounded(t *testing.T) {
	m := newMetrics(nil)
	a := newAggregate(5*time.Second, m, false)
	for i := range maxTallied + 5 {
		e := testEvent(101 * second)
		e.chain = &chain{places: []place{{offset: uint64(i)}}}
		a.add(e)
		a.add(e)
	}
	require.EqualValues(t, 10, counterValue(m.lost.WithLabelValues("queue_full")))
	require.Len(t, a.rest()[0].events, maxTallied)
	a.add(testEvent(101 * second))
	require.EqualValues(t, 10, counterValue(m.lost.WithLabelValues("queue_full")))
}

func testEvent(time int64) event {
	e := event{labels: labels.FromStrings("service_name", "a"), time: time}
	e.frames.Append(&libpf.Frame{Type: libpf.PythonFrame, FunctionName: libpf.Intern("f")})
	return e
}

func TestAggregateLateSamples(t *testing.T) {
	at := func(ns int64) time.Time { return time.Unix(0, ns) }
	m := newMetrics(nil)
	a := newAggregate(5*time.Second, m, false)
	add := func(time int64) { a.add(testEvent(time)) }
	add(101 * second)
	add(105 * second)
	add(106 * second)
	require.Equal(t, at(105*second).Add(lateness), a.next(at(102*second)))
	require.Empty(t, a.due(at(105*second)), "a window waits for what is on its way")

	ws := a.due(at(105 * second).Add(lateness))
	require.Len(t, ws, 1)
	require.Equal(t, 100*second, ws[0].start)
	require.Len(t, ws[0].events, 1, "equal events are one")
	for _, e := range ws[0].events {
		require.EqualValues(t, 2, e.count)
	}
	require.Zero(t, counterValue(m.late))

	add(104 * second) // late
	ws = a.due(at(110 * second).Add(lateness))
	require.Len(t, ws, 2, "the late sample comes with the next flush")
	require.Equal(t, 100*second, ws[0].start, "in a window of its own time")
	require.Equal(t, 105*second, ws[1].start)
	require.EqualValues(t, 1, counterValue(m.late))

	add(111 * second)
	require.Len(t, a.rest(), 1)
	require.Empty(t, a.rest())
}
