//go:build linux && (amd64 || arm64)

package sample

import (
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/support"
	"golang.org/x/sys/unix"
)

// own is the table of this test's own program, with one segment that is loaded at its
// addresses.
func own(t testing.TB) (*stackdeltatypes.IntervalData, []segment) {
	exe, err := os.Executable()
	require.NoError(t, err)
	table, err := elfunwindinfo.Extract(exe)
	require.NoError(t, err)
	require.NotEmpty(t, table.Blocks)
	return table, []segment{{size: 1 << 40}}
}

func TestRulesAreThoseOfTheTable(t *testing.T) {
	table, ss := own(t)
	r, err := compact(table, ss)
	require.NoError(t, err)
	_, ok := r.at(table.Blocks[0].Start - 1)
	require.False(t, ok)
	for range 20000 {
		b := table.Blocks[rand.IntN(len(table.Blocks))]
		addr := b.Start + rand.Uint64N(b.End-b.Start+2)
		want, ok := ruleAt(table, addr)
		if !ok {
			want = stackdeltatypes.UnwindInfoInvalid
		}
		got, ok := r.at(addr)
		require.True(t, ok)
		require.Equal(t, want, got, "0x%x", addr)
	}
	require.Less(t, r.bytes(), 40*int(table.NumDeltas)+4096)
}

func TestRulesRefuse(t *testing.T) {
	one := stackdeltatypes.StackDeltaArray{{Info: stackdeltatypes.UnwindInfoFramePointer}}
	for name, table := range map[string]*stackdeltatypes.IntervalData{
		"not in order": {NumDeltas: 2, Blocks: []*stackdeltatypes.BasicBlock{
			{Start: 100, End: 200, Deltas: one}, {Start: 50, End: 60, Deltas: one},
		}},
		"too large": {NumDeltas: maxRuleFileBytes},
		"not in order at 0x10000000a": {NumDeltas: 2, Blocks: []*stackdeltatypes.BasicBlock{
			{Start: 10, End: 20, Deltas: one}, {Start: 10 + 1<<32, End: 20 + 1<<32, Deltas: one},
		}},
	} {
		if len(table.Blocks) == 0 {
			table.Blocks = []*stackdeltatypes.BasicBlock{{Start: 1, End: 2, Deltas: one}}
		}
		_, err := compact(table, nil)
		require.ErrorContains(t, err, name)
	}
	r, err := compact(&stackdeltatypes.IntervalData{}, nil)
	require.NoError(t, err)
	_, ok := r.at(0)
	require.False(t, ok)
}

func TestRuleCacheIsBounded(t *testing.T) {
	var c ruleCache
	now := time.Now()
	key := func(i int) fileKey { return fileKey{1, uint64(i)} }
	large := &rules{starts: make([]uint32, maxRuleBytes/4/4)} // a quarter
	for i := range 8 {
		c.put(key(i), large, now.Add(time.Duration(i)))
		c.get(key(0), now.Add(time.Duration(i)))
		require.LessOrEqual(t, c.bytes, maxRuleBytes)
	}
	_, ok := c.get(key(0), now)
	require.True(t, ok, "it was used lately")
	_, ok = c.get(key(1), now)
	require.False(t, ok)
	c.put(key(9), nil, now)
	r, ok := c.get(key(9), now)
	require.True(t, ok, "it is known to have none")
	require.Nil(t, r)
	_, ok = c.get(key(9), now.Add(2*noRulesTime))
	require.False(t, ok)
}

// FuzzKeptStack unwinds arbitrary registers and memory by the rules of this program: it
// ends, and reads nothing that was not kept.
func FuzzKeptStack(f *testing.F) {
	table, ss := own(f)
	r, err := compact(table, ss)
	require.NoError(f, err)
	first, last := table.Blocks[0].Start, table.Blocks[len(table.Blocks)-1].End
	ms := []codeMapping{{span: span{first, last}, offset: first, file: fileKey{1, 1}, path: "/test"}}
	f.Add([]byte("some registers and a stack"), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, skip uint64) {
		k := keptStack{bytes: make([]byte, 0, 8*len(data))}
		for i := range k.registers {
			k.registers[i] = first + skip%(last-first) + uint64(i)
		}
		for _, b := range data { // each byte is an address of code, or near the stack pointer
			word := first + uint64(b)*(last-first)/256
			if b%3 == 0 {
				word = k.unwinding().regs[support.UnwindRegSp] + uint64(b)
			}
			k.bytes = binary.LittleEndian.AppendUint64(k.bytes, word)
		}
		places, whole := k.walk(ms, func(codeMapping) *rules { return r })
		require.LessOrEqual(t, len(places), maxLateFrames)
		require.True(t, !whole || len(places) > 0)
	})
}

func TestOverlay(t *testing.T) {
	m := func(start, end, offset uint64, inode uint64) codeMapping {
		return codeMapping{span: span{start, end}, offset: offset, file: fileKey{1, inode}}
	}
	ms := []codeMapping{m(10, 20, 0, 1), m(30, 60, 100, 2)}
	for name, c := range map[string]struct {
		add  codeMapping
		want []codeMapping
	}{
		"beside":   {m(20, 30, 0, 3), []codeMapping{ms[0], m(20, 30, 0, 3), ms[1]}},
		"over":     {m(5, 70, 0, 3), []codeMapping{m(5, 70, 0, 3)}},
		"within":   {m(40, 50, 0, 3), []codeMapping{ms[0], m(30, 40, 100, 2), m(40, 50, 0, 3), m(50, 60, 120, 2)}},
		"head":     {m(25, 35, 0, 3), []codeMapping{ms[0], m(25, 35, 0, 3), m(35, 60, 105, 2)}},
		"tail":     {m(15, 25, 0, 3), []codeMapping{m(10, 15, 0, 1), m(15, 25, 0, 3), ms[1]}},
		"no file":  {m(10, 20, 0, 0), []codeMapping{ms[1]}},
		"no bytes": {m(40, 40, 0, 3), ms},
	} {
		require.Equal(t, c.want, overlay(ms, c.add), name)
	}
	require.Equal(t, []codeMapping{m(10, 20, 0, 1), m(30, 60, 100, 2)}, ms, "it was changed")
}

// TestCodeHistory asks for the code of processes that have ended.
func TestCodeHistory(t *testing.T) {
	requireKernel(t)
	h, err := openCodeHistory()
	require.NoError(t, err)
	defer h.close()
	_, ok := h.at(uint32(os.Getpid()), monotonic(t))
	require.False(t, ok, "it began before")
	before := monotonic(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "/bin/sleep 0.05; echo $$; exec sleep 0.05")
	out, err := cmd.Output()
	require.NoError(t, err)
	require.NotEmpty(t, out)
	pid := uint32(cmd.Process.Pid)
	c, ok := h.at(pid, monotonic(t))
	require.True(t, ok)
	require.Contains(t, names(c.code), "sleep", "after its last exec")
	require.Contains(t, strings.Join(names(c.code), " "), "libc")
	require.Contains(t, names(c.code), process.VdsoPathName)
	require.NotContains(t, names(c.before), "sleep")
	require.NotEmpty(t, c.before, "of the shell")
	c, ok = h.at(pid, monotonic(t)-uint64(45*time.Millisecond))
	require.True(t, ok)
	for _, m := range c.code {
		own, ok := find(c.code, m.start)
		require.True(t, ok)
		require.Equal(t, m, own)
	}
	_, ok = h.at(pid, before)
	require.False(t, ok, "it had not begun")
}

func names(ms []codeMapping) (all []string) {
	for _, m := range ms {
		all = append(all, m.at(m.start).name)
	}
	return all
}

// monotonic is the time by CLOCK_MONOTONIC in ns.
func monotonic(t *testing.T) uint64 {
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return uint64(now.Nano())
}

// A process may end in the middle of a sample: then there is neither a kernel's part nor a
// user's part.
func TestChainOfNothing(t *testing.T) {
	m := newMetrics(nil)
	b := newBinaries(nil, m, slog.New(slog.DiscardHandler))
	c := &collector{frames: newFrames(nil, b, m), binaries: b, metrics: m}
	e := event{labels: labels.FromStrings("a", "b"), chain: &chain{whole: true}}
	ws := c.windows([]*tally{{kind: cpuKind, events: map[tallyKey]*tallied{{}: {event: e, count: 1, values: values{1}}}}})
	require.Len(t, ws, 1)
	for _, s := range ws[0].series {
		require.Equal(t, []*location{noStack}, s.locations)
	}
}
