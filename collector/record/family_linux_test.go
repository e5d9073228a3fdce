package record

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"

	perf "github.com/elastic/go-perf"
	"github.com/stretchr/testify/require"
)

func newTestFamily() *family {
	return &family{log: slog.New(slog.DiscardHandler), members: map[int]uint64{}, begun: map[int]birth{}, names: map[int]string{}}
}

// Reports come in any order, as each CPU has its own.
func TestFamilyOrder(t *testing.T) {
	f := newTestFamily()
	f.members[10] = 1
	f.take(&perf.ForkRecord{Pid: 12, Ppid: 11, Tid: 12, Time: 3})
	require.False(t, f.has(12), "its parent is not known yet")
	f.take(&perf.ForkRecord{Pid: 11, Ppid: 10, Tid: 11, Time: 2})
	f.take(&perf.ForkRecord{Pid: 11, Ppid: 11, Tid: 99}) // a thread
	require.True(t, f.has(12))
	require.True(t, f.has(11))
	require.False(t, f.has(99))
	f.take(&perf.ForkRecord{Pid: 12, Ppid: 1, Tid: 12, Time: 4})
	require.False(t, f.has(12), "another process has its number")
	f.take(&perf.CommRecord{Pid: 11, Tid: 11, NewName: "make"})
	f.take(&perf.ForkRecord{Pid: 13, Ppid: 11, Tid: 13})
	require.Equal(t, "make", f.name(13), "a child has its parent's name")
	f.members[14] = 7
	f.take(&perf.ForkRecord{Pid: 14, Ppid: 1, Tid: 14, Time: 6})
	require.True(t, f.has(14), "it was added before its begin was reported")
	f.take(&perf.ForkRecord{Pid: 14, Ppid: 1, Tid: 14, Time: 8})
	require.False(t, f.has(14))
	f.take(&perf.LostRecord{Lost: 3})
	require.EqualValues(t, 3, f.lost)
}

// Processes that contradict each other do not make a loop endless.
func TestFamilyLoop(t *testing.T) {
	f := newTestFamily()
	f.take(&perf.ForkRecord{Pid: 1, Ppid: 2})
	f.take(&perf.ForkRecord{Pid: 2, Ppid: 1})
	require.False(t, f.has(1))
}

// Real children are known although they have ended, and so are those that ran before.
func TestFamily(t *testing.T) {
	requireKernel(t)
	f, err := newFamily(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer f.close()
	sleeper := exec.Command("sleep", "60")
	require.NoError(t, sleeper.Start())
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	f.addAll(os.Getpid())
	require.True(t, f.has(sleeper.Process.Pid))
	shell := exec.Command("sh", "-c", "sh -c 'echo $$'; true")
	out, err := shell.Output()
	require.NoError(t, err)
	pids, err := ParsePIDs([]string{string(out[:len(out)-1])})
	require.NoError(t, err)
	require.True(t, f.has(pids[0]), "the grandchild that has ended")
	require.Equal(t, "sh", f.name(pids[0]))
	require.False(t, f.has(1))

	// Added right after it began, which is often reported later.
	for range 200 {
		cmd := exec.Command("cat")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		f.add(cmd.Process.Pid)
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
		f.mu.Lock()
		delete(f.members, os.Getpid())
		f.mu.Unlock()
		require.True(t, f.has(cmd.Process.Pid))
		require.Equal(t, os.Getpid(), f.begun[cmd.Process.Pid].parent)
	}
}
