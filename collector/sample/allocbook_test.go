//go:build linux && (amd64 || arm64)

package sample

import (
	"math"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/target"
)

// sampledBytes is the weight of the allocations in these tests.
const sampledBytes = 1000

// pidLabels is a Labeler that gives each process its number.
type pidLabels struct{}

func (pidLabels) Labels(pid int, _ target.Hint) labels.Labels {
	return labels.FromStrings("pid", strconv.Itoa(pid))
}

// allocOf is an allocation of 100 bytes.
func allocOf(time uint64, pid, tid uint32, pointer uint64) happening {
	return happening{Time: time, PID: pid, TID: tid, Pointer: pointer, Size: 100, Weight: sampledBytes, Kind: happenedAlloc, Live: 1}
}

func freeOf(time uint64, pid uint32, pointer uint64) happening {
	return happening{Time: time, PID: pid, TID: pid, Pointer: pointer, Kind: happenedFree}
}

// bookSums are the sums of windows, by kind, start and function.
type bookSums map[*profileKind]map[int64]map[string]values

func sumsOfBook(ts []*tally) bookSums {
	got := bookSums{}
	for _, t := range ts {
		if got[t.kind] == nil {
			got[t.kind] = map[int64]map[string]values{}
		}
		by := map[string]values{}
		for name, parts := range sumsOf(t) {
			by[name] = parts[partNone]
		}
		got[t.kind][t.start] = by
	}
	return got
}

// TestAllocBook checks that allocations get their stacktraces in their windows, that what
// is in use at the end of each window is right after frees, repeated pointers and the end
// of a process, and that frees without an allocation are passed over.
func TestAllocBook(t *testing.T) {
	self, parent := uint32(os.Getpid()), uint32(os.Getppid())
	var forgotten []uint64
	b := newAllocBook(pidLabels{}, newMetrics(nil), func(_ uint32, pointer uint64) { forgotten = append(forgotten, pointer) })
	stacks := newEventStacks(newMetrics(nil).allocLost)
	for at, name := range map[uint64]string{1001: "f", 1021: "g", 1301: "f", 1511: "h"} {
		e := stackNamed(name)
		e.labels = pidLabels{}.Labels(int(self), target.Hint{})
		stacks.add(7, at, e)
	}
	start := func(at uint64) int64 { return int64(at / 250 * 250) }
	put := allocOf(1020, self, 7, 2)
	put.Due = 3 * sampledBytes
	got := sumsOfBook(b.windows([]happening{
		put,
		allocOf(1000, self, 7, 1),
		freeOf(1030, self, 77),
		allocOf(1300, self, 7, 3),
		freeOf(1310, self, 1),
		allocOf(1510, self, 7, 3), // its free was not seen
		allocOf(1520, parent, 8, 1),
		{Time: 1530, PID: parent, Kind: happenedEnd},
	}, stacks.take(), 1750, 250, start))
	one := values{sampledBytes / 100, sampledBytes}
	require.Equal(t, bookSums{
		allocKind: {
			1000: {"f": one, "g": {4 * one[0], 4 * one[1]}},
			1250: {"f": one},
			1500: {"h": one, "none": one},
		},
		liveKind: {
			1000: {"f": one, "g": one},
			1250: {"f": one, "g": one},
			1500: {"g": one, "h": one, "none": one}, // of the process that has ended
		},
	}, got)
	require.Equal(t, []uint64{1}, forgotten)

	// Nothing happens, and what is in use is reported once for each window.
	require.Equal(t, bookSums{liveKind: {
		1750: {"g": one, "h": one},
		2000: {"g": one, "h": one},
	}}, sumsOfBook(b.windows(nil, nil, 2250, 250, start)))
	b.reconcile(func(_ uint32, pointer uint64) bool { return pointer != 2 })
	require.Equal(t, bookSums{liveKind: {2250: {"h": one}}}, sumsOfBook(b.windows(nil, nil, 2500, 250, start)))
	require.Equal(t, bookSums{liveKind: {2500: {"h": {}}}}, sumsOfBook(b.windows([]happening{freeOf(2600, self, 3)}, nil, 2750, 250, start)), "nothing, once")
	require.Empty(t, b.windows(nil, nil, 3000, 250, start))
	require.Empty(t, b.byPID)
	require.Zero(t, b.live)
	require.LessOrEqual(t, len(b.windows(nil, nil, 1<<40, 250, start)), maxEmptyWindows)
}

// TestAllocBookEnded checks that the memory of a process that has ended without a word is
// not in use.
func TestAllocBookEnded(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "true")
	require.NoError(t, cmd.Run())
	b := newAllocBook(pidLabels{}, newMetrics(nil), func(uint32, uint64) {})
	ts := b.windows([]happening{allocOf(100, uint32(cmd.Process.Pid), 7, 1)}, nil, 250, 250, func(uint64) int64 { return 0 })
	require.Contains(t, sumsOfBook(ts), liveKind)
	require.Zero(t, b.live)
}

// TestAllocBookLeftOut checks that nothing is kept of processes without labels.
func TestAllocBookLeftOut(t *testing.T) {
	forgotten := 0
	b := newAllocBook(pidNames{}, newMetrics(nil), func(uint32, uint64) { forgotten++ })
	b.windows([]happening{allocOf(100, uint32(os.Getpid()), 7, 1)}, nil, 250, 250, func(uint64) int64 { return 0 })
	require.Zero(t, b.live)
	require.Equal(t, 1, forgotten)
}

// TestAllocBookBounds checks that the book stays bounded, refuses what is beyond, and
// counts it; and that allocations are in their profile all the same.
func TestAllocBookBounds(t *testing.T) {
	self := uint32(os.Getpid())
	m, refused := newMetrics(nil), 0
	b := newAllocBook(pidLabels{}, m, func(uint32, uint64) { refused++ })
	var hs []happening
	for i := range uint64(maxLiveOfProcess + 10) {
		hs = append(hs, allocOf(100+i, self, 7, i))
	}
	ts := b.windows(hs, nil, 250, 250, func(uint64) int64 { return 0 })
	require.EqualValues(t, (maxLiveOfProcess+10)*sampledBytes, sumsOfBook(ts)[allocKind][0]["none"][1])
	require.EqualValues(t, maxLiveOfProcess*sampledBytes, sumsOfBook(ts)[liveKind][0]["none"][1])
	require.Equal(t, 10, refused)
	require.EqualValues(t, 10, testutil.ToFloat64(m.allocNotLive.WithLabelValues("process")))
	require.EqualValues(t, maxLiveOfProcess, testutil.ToFloat64(m.allocLive))
}

// TestAllocBookLies checks that sums stay positive and go back to nothing, whatever a
// program says of its allocations.
func TestAllocBookLies(t *testing.T) {
	self := uint32(os.Getpid())
	b := newAllocBook(pidLabels{}, newMetrics(nil), func(uint32, uint64) {})
	var hs, frees []happening
	for i := range uint64(maxLiveOfProcess) {
		h := allocOf(100+i, self, 7, i)
		h.Weight, h.Due, h.Size = math.MaxUint64, math.MaxUint64, i%2
		hs = append(hs, h)
		frees = append(frees, freeOf(1_000_000+i, self, i))
	}
	at := func(uint64) int64 { return 0 }
	got := sumsOfBook(b.windows(hs, nil, 250, 250, at))
	for _, kind := range []*profileKind{allocKind, liveKind} {
		for _, v := range got[kind][0]["none"] {
			require.Positive(t, v, kind.name)
			require.Less(t, v, int64(math.MaxInt64/2), kind.name)
		}
	}
	at = func(uint64) int64 { return 250 }
	require.Equal(t, bookSums{liveKind: {250: {"none": {}}}}, sumsOfBook(b.windows(frees, nil, 500, 250, at)))
	require.Zero(t, b.live)
}

func TestObjectsOf(t *testing.T) {
	for _, c := range []struct {
		weight, size uint64
		want         int64
	}{
		{512 << 10, 64, 8192}, {512 << 10, 700, 749}, {10, 4, 3}, {9, 4, 2}, {512 << 10, 700 << 10, 1},
		{512 << 10, 0, 1}, {0, 0, 1}, {math.MaxUint64, 1, maxWeight}, {math.MaxUint64, math.MaxUint64, 1}, {5, math.MaxUint64 - 1, 1},
	} {
		require.Equal(t, c.want, objectsOf(c.weight, c.size), c)
	}
}
