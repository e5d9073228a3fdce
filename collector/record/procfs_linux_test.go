package record

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/target"
)

// requireKernel fails a test where processes cannot be sampled.
func requireKernel(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: it samples this machine, as root")
	}
	if err := sample.Supported(); err != nil {
		t.Fatalf("this test needs root and eBPF: %v (-short leaves it out)", err)
	}
}

func waitUntil(t *testing.T, cond func() bool, what string) {
	t.Helper()
	require.Eventually(t, cond, time.Minute, 5*time.Millisecond, what)
}

func TestParseState(t *testing.T) {
	s, err := parseState([]byte("7 (a) b) S 3 7 7 0 -1 4194304 1 2 3 4 50 60 0 0 20 0 1 0 12345 1 2"))
	require.NoError(t, err)
	require.Equal(t, processState{comm: "a) b", state: 'S', parent: 3, ticks: 110, start: 12345}, s)
	for _, bad := range []string{"", "7", ")(", "7 (a) S 1", "(a) "} {
		_, err := parseState([]byte(bad))
		require.Error(t, err, bad)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte("7 (a) b) S 3 7 7 0 -1 4194304 1 2 3 4 50 60 0 0 20 0 1 0 12345 1 2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := parseState(data); err == nil {
			require.NotZero(t, s.state)
		}
	})
}

func TestCheckPID(t *testing.T) {
	require.NoError(t, checkPID(os.Getpid()))
	require.ErrorContains(t, checkPID(1<<22+1), "there is no process 4194305")
	dead := exec.Command("true")
	require.NoError(t, dead.Start())
	waitUntil(t, func() bool { s, err := stateOf(dead.Process.Pid); return err == nil && s.state == 'Z' }, "a zombie")
	require.ErrorContains(t, checkPID(dead.Process.Pid), "has ended")
	require.NoError(t, dead.Wait())
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, e := range tasks {
		tid, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		if tid != os.Getpid() {
			require.ErrorContains(t, checkPID(tid), "is a thread of process "+strconv.Itoa(os.Getpid()))
		}
	}
}

func TestMembers(t *testing.T) {
	own := os.Getpid()
	labels := func(s Selection, pid int, h target.Hint) string { return newMembers(s, nil).Labels(pid, h).String() }
	require.Contains(t, labels(Selection{PIDs: []int{own}}, own, target.Hint{}), `pid="`+strconv.Itoa(own)+`"`)
	require.Equal(t, "{}", labels(Selection{PIDs: []int{own}}, 1, target.Hint{}))
	// Of a process that has ended, what the sampler knows.
	const gone = 1<<22 + 1
	require.Equal(t, `{comm="shop", pid="4194305"}`, labels(Selection{Comm: regexp.MustCompile("^shop$")}, gone, target.Hint{Comm: "shop"}))
	require.Equal(t, `{comm="shop", pid="4194305"}`, labels(Selection{All: true}, gone, target.Hint{Exe: "/usr/bin/shop"}))
	require.Equal(t, "{}", labels(Selection{Comm: regexp.MustCompile("^shop$")}, gone, target.Hint{Comm: "cart"}))
	id := "0123456789012345678901234567890123456789012345678901234567890123"
	require.NotEqual(t, "{}", labels(Selection{Container: "0123"}, gone, target.Hint{Comm: "a", ContainerID: id}))
	require.Equal(t, "{}", labels(Selection{Container: "123"}, gone, target.Hint{Comm: "a", ContainerID: id}))
	require.ErrorContains(t, newMembers(Selection{Container: "feed"}, nil).check(), "no container has an ID that begins with feed")
	require.ErrorContains(t, newMembers(Selection{CGroup: "/no/such/group"}, nil).check(), "there is no control group /no/such/group")
}

func TestThreadsThatStay(t *testing.T) {
	n, waits := parseSwitches("Name:\tx\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t4\nnonvoluntary_ctxt_switches:\t3\n")
	require.True(t, waits)
	require.EqualValues(t, 7, n)
	_, waits = parseSwitches("State:\tR (running)\n")
	require.False(t, waits)
	require.EqualValues(t, 1, stayed(map[int]uint64{1: 5, 2: 5, 3: 5}, map[int]uint64{1: 5, 2: 6, 4: 5}))

	sleeper := exec.Command("sleep", "60")
	require.NoError(t, sleeper.Start())
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	pids := []int{sleeper.Process.Pid}
	require.Eventually(t, func() bool {
		before := switchesOf(pids)
		time.Sleep(10 * time.Millisecond)
		return stayed(before, switchesOf(pids)) == 1
	}, 10*time.Second, time.Millisecond)
}

// TestWithoutPython checks for which selections the unwinder of Python's stacks is left
// out: processes by number, none of which is one of CPython.
func TestWithoutPython(t *testing.T) {
	python := exec.Command("python3", "-c", "input()")
	stdin, err := python.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, python.Start())
	defer func() { _ = stdin.Close(); _ = python.Wait() }()
	own, pythons := os.Getpid(), python.Process.Pid
	require.Eventually(t, func() bool { return mapsPython(pythons) }, time.Minute, time.Millisecond)
	for _, c := range []struct {
		selection Selection
		want      bool
	}{
		{Selection{PIDs: []int{own}}, true},
		{Selection{PIDs: []int{own, pythons}}, false},
		{Selection{PIDs: []int{own, 1<<22 + 1}}, false}, // unknown
		{Selection{PIDs: []int{own}, Subprocesses: true}, false},
		{Selection{Command: []string{"true"}}, false},
		{Selection{Comm: regexp.MustCompile("x")}, false},
		{Selection{All: true}, false},
	} {
		require.Equal(t, c.want, newMembers(c.selection, nil).withoutPython(), "%s", c.selection)
	}
}
