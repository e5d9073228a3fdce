package record

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	perf "github.com/elastic/go-perf"
	"github.com/stretchr/testify/require"
)

// TestArrivals checks that a process is read when it begins and when it maps files, and
// others are not.
func TestArrivals(t *testing.T) {
	requireKernel(t)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	started := make(chan struct{})
	read := make(chan int, 1)
	a, err := followArrivals(slog.New(slog.DiscardHandler),
		func(pid int) bool { <-started; return pid == cmd.Process.Pid },
		func(ctx context.Context, pid int) {
			select {
			case read <- pid:
			default:
			}
		})
	require.NoError(t, err)
	defer a.close()
	require.NoError(t, cmd.Start())
	close(started)
	require.Equal(t, cmd.Process.Pid, <-read)
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
}

// TestArrivalsReported checks which reports of the kernel have a process read.
func TestArrivalsReported(t *testing.T) {
	a := &arrivals{wake: make(chan struct{}, 1), waiting: map[int]uint64{}}
	for _, r := range []perf.Record{
		0: &perf.ForkRecord{Pid: 0, Ppid: 100},
		1: &perf.ForkRecord{Pid: 1, Ppid: 1}, // a thread
		2: &perf.MmapRecord{Pid: 2, Filename: "/usr/lib/libc.so.6"},
		3: &perf.MmapRecord{Pid: 3, Filename: "//anon"},
		4: &perf.MmapRecord{Pid: 4, Filename: "[vdso]"},
		5: &perf.ExitRecord{Pid: 5},
	} {
		a.take(r)
	}
	require.Len(t, a.waiting, 2)
	for _, want := range []int{2, 0} { // the latest first
		pid, ok := a.next()
		require.True(t, ok)
		require.Equal(t, want, pid)
	}
	_, ok := a.next()
	require.False(t, ok)
	for pid := range 2 * maxArrivals {
		a.put(pid)
	}
	require.Len(t, a.waiting, maxArrivals)
}

// TestArrivalsPace checks that a process that maps files all the time is read again, and
// that what is reported while it waits is not forgotten.
func TestArrivalsPace(t *testing.T) {
	a := &arrivals{wake: make(chan struct{}, 1), waiting: map[int]uint64{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reads := 0
	self := os.Getpid()
	a.put(self)
	a.run(ctx, func(int) bool { return true }, func(context.Context, int) {
		if reads++; reads == freeReads+2 {
			cancel()
			return
		}
		a.put(self)
	})
	require.Equal(t, freeReads+2, reads)
}
