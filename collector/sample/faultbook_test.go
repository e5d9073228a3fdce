//go:build linux && (amd64 || arm64)

package sample

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFaultBook checks that faults get the stacktrace that follows them on their thread,
// in their windows, and that a kill has all of its process so far, once.
func TestFaultBook(t *testing.T) {
	b := newFaultBook(pidNames{})
	stacks := newEventStacks(newMetrics(nil).pageFaultLost)
	stacks.add(7, 101, stackNamed("f"))
	stacks.add(7, 301, stackNamed("g"))
	stacks.add(8, 102, stackNamed("h"))
	faults := []fault{
		{Time: 300, Bytes: 10, PID: 1, TID: 7},
		{Time: 100, Bytes: 20, PID: 1, TID: 7},
		{Time: 200, Bytes: 30, PID: 1, TID: 7}, // its stacktrace was lost
		{Time: 100, Bytes: 40, PID: 2, TID: 8},
	}
	start := func(at uint64) int64 { return int64(at / 250 * 250) }
	byStart := func(ts []*tally) map[int64]sums {
		got := map[int64]sums{}
		for _, w := range ts {
			got[w.start] = sumsOf(w)
		}
		return got
	}
	require.Equal(t, map[int64]sums{
		0: {
			"f":    {partNone: {20}},
			"none": {partNone: {30}},
			"h":    {partNone: {40}},
		},
		250: {"g": {partNone: {10}}},
	}, byStart(b.windows(faults, stacks.take(), start)))

	kill := []fault{{Time: 600, PID: 1, TID: 1}, {Time: 600, PID: 3, TID: 3}}
	ts := b.windows(kill, nil, start)
	require.Len(t, ts, 1)
	require.Equal(t, oomKind, ts[0].kind)
	require.Equal(t, sums{
		"f":    {partNone: {0, 20}},
		"g":    {partNone: {1, 10}}, // the last one
		"none": {partNone: {1, 30}}, // of process 3, which was not seen before
	}, sumsOf(ts[0]))
	require.NotContains(t, b.byPID, uint32(1))
}

// TestFaultBookBounds checks that the book stays bounded, and that no bytes of a process
// are lost by that.
func TestFaultBookBounds(t *testing.T) {
	b := newFaultBook(pidNames{})
	for pid := range uint32(3 * maxBookProcesses) {
		b.turn++
		e := stackNamed("f")
		b.note(pid, hashEvent(b.seed, e), &e, 1)
	}
	require.LessOrEqual(t, len(b.byPID), maxBookProcesses)
	require.Contains(t, b.byPID, uint32(3*maxBookProcesses-1))
	for n := range 2 * maxBookStacks {
		e := stackNamed("f")
		e.time = int64(n)
		b.note(1, tallyKey{stack: uint64(n)}, &e, 1)
	}
	require.LessOrEqual(t, len(b.byPID[1].stacks), maxBookStacks+1)
	var all int64
	for _, s := range b.byPID[1].stacks {
		all += s.values[1]
	}
	require.EqualValues(t, 2*maxBookStacks, all)
}
