//go:build linux && (amd64 || arm64)

package sample

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/target"
)

// A pidNames is a Labeler whose processes have no labels.
type pidNames struct{}

func (pidNames) Labels(int, target.Hint) labels.Labels { return labels.EmptyLabels() }

// stackNamed returns a stacktrace of one function.
func stackNamed(name string) event {
	var e event
	e.frames.Append(&libpf.Frame{Type: libpf.NativeFrame, FunctionName: libpf.Intern(name)})
	return e
}

// A sums is what a window has, by function and part of the wait.
type sums map[string]map[waitPart]values

func sumsOf(t *tally) sums {
	s := sums{}
	for _, e := range t.events {
		name := "none"
		if len(e.frames) > 0 {
			name = e.frames[0].Value().FunctionName.String()
		}
		if s[name] == nil {
			s[name] = map[waitPart]values{}
		}
		v := s[name][e.cause.part]
		for i := range v {
			v[i] += e.values[i]
		}
		s[name][e.cause.part] = v
	}
	return s
}

func blockedAt(tid uint32) site { return site{TID: tid, PID: 1, IP: 7, State: stateInterruptible} }

// pooled returns what the kernel's part has added up for waits of a duration in ns.
func pooled(ns uint64, p pool) (w waited) {
	w.ByClass[classOf(ns)] = p
	return w
}

// TestLedgerCrossing checks that a wait over three windows is in each of them with its
// part, and counts once; in the last it waits for a CPU.
func TestLedgerCrossing(t *testing.T) {
	l := newLedger(pidNames{}, newMetrics(nil))
	l.before = 1000
	w := offThread{Out: 1500, At: blockedAt(5), Weight: 256}
	l.stacks.add(5, 1501, stackNamed("f"))
	got := sumsOf(l.window(snapshot{end: 2000, off: []offThread{w}}))
	require.Equal(t, sums{"f": {partBlocked: {500, 1}}}, got)
	got = sumsOf(l.window(snapshot{end: 3000, off: []offThread{w}}))
	require.Equal(t, sums{"f": {partBlocked: {1000, 0}}}, got)
	w.Woken = 3300
	l.ended.add(endedWait{Wait: w, In: 3400})
	l.ended.add(endedWait{Wait: offThread{Out: 4100, Woken: 4200, At: blockedAt(6)}, In: 4200}) // of the next window
	got = sumsOf(l.window(snapshot{end: 4000}))
	require.Equal(t, sums{"f": {partBlocked: {300, 0}, partQueued: {100, 0}}}, got)
	got = sumsOf(l.window(snapshot{end: 5000}))
	require.Equal(t, sums{"none": {partBlocked: {100, 1}}}, got)
	require.Empty(t, l.open)
}

// TestLedgerRace checks a wait that ended while the snapshot was taken: it is not among
// the waiting threads, and its end is told as of the next window.
func TestLedgerRace(t *testing.T) {
	l := newLedger(pidNames{}, newMetrics(nil))
	w := offThread{Out: 500, At: blockedAt(5), Weight: 256}
	l.stacks.add(5, 501, stackNamed("f"))
	require.Equal(t, sums{"f": {partBlocked: {500, 1}}}, sumsOf(l.window(snapshot{end: 1000, off: []offThread{w}})))
	w.Woken = 2001
	l.ended.add(endedWait{Wait: w, In: 2001})
	require.Empty(t, sumsOf(l.window(snapshot{end: 2000})))
	require.Equal(t, sums{"f": {partBlocked: {1001, 0}}}, sumsOf(l.window(snapshot{end: 3000})))
}

// TestLedgerDivides checks that the time of a site is divided exactly, and how: among its
// own stacktraces of this window, by the last one of an earlier window, or by those of
// other threads of the process.
func TestLedgerDivides(t *testing.T) {
	l := newLedger(pidNames{}, newMetrics(nil))
	ended := func(tid uint32, out, in uint64, weight uint32, name string) {
		l.stacks.add(tid, out, stackNamed(name))
		l.ended.add(endedWait{Wait: offThread{Out: out, Woken: in, At: blockedAt(tid), Weight: weight}, In: in})
	}
	ended(5, 100, 200, 256, "short")
	ended(5, 300, 500, 512, "long") // stands for two
	sites := map[site]waited{blockedAt(5): pooled(500, pool{1001, 10, 6})}
	got := sumsOf(l.window(snapshot{end: 1000, sites: sites}))
	// 1 to 4 of the time, 1 to 2 of the waits.
	require.Equal(t, sums{
		"short": {partBlocked: {100 + 200, 1 + 2}, partQueued: {2, 0}},
		"long":  {partBlocked: {200 + 801, 1 + 4}, partQueued: {8, 0}},
	}, got)

	got = sumsOf(l.window(snapshot{end: 2000, sites: sites}))
	require.Equal(t, sums{"long": {partBlocked: {1001, 6}, partQueued: {10, 0}}}, got)

	got = sumsOf(l.window(snapshot{end: 3000, sites: map[site]waited{blockedAt(6): pooled(9, pool{9, 0, 1})}}))
	require.Equal(t, sums{"none": {partBlocked: {9, 1}}}, got)
	ended(5, 3100, 3200, 256, "short")
	got = sumsOf(l.window(snapshot{end: 4000, sites: map[site]waited{blockedAt(6): pooled(9, pool{9, 0, 1})}}))
	require.Equal(t, sums{"short": {partBlocked: {109, 2}}}, got)
}

// TestLedgerRunnable checks that a thread which was preempted waits for a CPU all the time.
func TestLedgerRunnable(t *testing.T) {
	l := newLedger(pidNames{}, newMetrics(nil))
	at := blockedAt(5)
	at.State = stateRunnable
	l.stacks.add(5, 100, stackNamed("f"))
	l.ended.add(endedWait{Wait: offThread{Out: 100, Woken: 100, At: at, Weight: 256}, In: 160})
	got := sumsOf(l.window(snapshot{end: 1000, sites: map[site]waited{at: pooled(20, pool{0, 40, 2})}}))
	require.Equal(t, sums{"f": {partQueued: {100, 3}}}, got)
}

// TestLedgerUnbiased checks that the stacktraces of one site get the shares of its time
// that all its waits have, though one in 40 is unwound: the mean of many windows.
func TestLedgerUnbiased(t *testing.T) {
	for _, c := range []struct {
		name       string
		many, rare int // µs: waits take this and up to twice as much
		tolerance  float64
	}{
		{name: "one class", many: 70, rare: 200, tolerance: 0.03},
		{name: "two classes", many: 100, rare: 5000, tolerance: 0.03},
	} {
		t.Run(c.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			var got, want, all float64
			for range 400 {
				l := newLedger(pidNames{}, newMetrics(nil))
				now := uint64(1000)
				var rest waited
				for n := range 1000 { // as bpf/offcpu.c chooses
					name, µs := "many", c.many
					if random.IntN(10) == 0 {
						name, µs = "rare", c.rare
					}
					took := uint64(1000 * (µs + random.IntN(µs)))
					p := min(1, 6/float64(n+1))
					if random.Float64() < p {
						l.stacks.add(5, now, stackNamed(name))
						l.ended.add(endedWait{Wait: offThread{Out: now, Woken: now + took, At: blockedAt(5), Weight: uint32(256 / p)}, In: now + took})
					} else {
						rest.ByClass[classOf(took)].add(pool{int64(took), 0, 1})
					}
					if name == "rare" {
						want += float64(took)
					}
					now += took
				}
				s := sumsOf(l.window(snapshot{end: now, sites: map[site]waited{blockedAt(5): rest}}))
				require.EqualValues(t, now-1000, s["many"][partBlocked][0]+s["rare"][partBlocked][0])
				got += float64(s["rare"][partBlocked][0])
				all += float64(now - 1000)
			}
			require.InDelta(t, want/all, got/all, c.tolerance)
		})
	}
}

// TestReasons checks the root frames of waits.
func TestReasons(t *testing.T) {
	kernel := func(names ...string) (ls []*location) {
		for _, n := range names {
			ls = append(ls, &location{kind: kindKernel, lines: []line{{function: n}}})
		}
		return ls
	}
	native := func(name string, names ...string) (ls []*location) {
		for _, n := range names {
			ls = append(ls, &location{kind: kindNative, module: module{name: name}, lines: []line{{function: n}}, unknown: n == "?"})
		}
		return ls
	}
	blocked := cause{part: partBlocked, state: stateInterruptible, syscall: -1}
	io := blocked
	io.state = stateIO
	futex := kernel("schedule", "futex_do_wait", "futex_wait", "do_futex", "__x64_sys_futex")
	for _, c := range []struct {
		want  reason
		cause cause
		locs  []*location
	}{
		{runQueue, cause{part: partQueued, state: stateInterruptible}, futex},
		{sleeping, blocked, kernel("schedule", "do_nanosleep", "hrtimer_nanosleep")},
		{lockWait, blocked, futex},
		{pipeIO, blocked, kernel("schedule", "anon_pipe_read", "vfs_read")},
		{socketIO, blocked, kernel("schedule", "schedule_timeout", "wait_woken", "sk_wait_data", "tcp_recvmsg")},
		{eventWait, blocked, kernel("schedule", "ep_poll", "do_epoll_wait")},
		{diskIO, io, nil},
		{diskIO, blocked, kernel("schedule", "io_schedule", "folio_wait_bit_common", "filemap_read")},
		{pageFault, io, kernel("io_schedule", "folio_wait_bit_common", "filemap_fault", "do_user_addr_fault", "exc_page_fault")},
		{kernelLock, blocked, kernel("schedule", "rwsem_down_write_slowpath", "vm_mmap_pgoff")},
		{childProcess, blocked, kernel("schedule", "do_wait", "kernel_wait4")},
		{gilWait, blocked, slices.Concat(futex, native("python3.11", "take_gil", "PyEval_RestoreThread"))},
		{gilWait, blocked, slices.Concat(futex, native("libc.so.6", "pthread_cond_timedwait"), native("python3.11", "?", "_PyEval_EvalFrameDefault"))},
		{lockWait, blocked, slices.Concat(futex, native("libc.so.6", "sem_clockwait"), native("python3.11", "PyThread_acquire_lock_timed"))},
		{idling, blocked, slices.Concat(futex, []*location{{kind: kindGo, lines: []line{{function: "runtime.stopm"}}}})},
		{sleeping, blocked, slices.Concat(futex, []*location{{kind: kindJVM, lines: []line{{function: "java.lang.Thread.sleep"}}}})},
		{stoppedWait, cause{part: partBlocked, state: stateStopped}, nil},
		{sleeping, cause{part: partBlocked, state: stateInterruptible, syscall: unix.SYS_CLOCK_NANOSLEEP, unsampled: true}, nil},
		{otherWait, blocked, nil},
	} {
		require.Equal(t, c.want.lines, reasonOf(c.locs, c.cause).lines)
	}
}
