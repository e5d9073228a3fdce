package record

import (
	"context"
	"log/slog"
	"sync"
	"time"

	perf "github.com/elastic/go-perf"
	"golang.org/x/sys/unix"
)

// Bounds of a family.
const (
	maxForks  = 1 << 18 // processes that are remembered
	ringPages = 64      // of each CPU: some 4,000 forks
	// takeEvery is how often reports are taken at least, so that rings do not fill up.
	takeEvery = 50 * time.Millisecond
)

// A family is processes and their descendants, which the kernel reports when
// they are made: a process may have ended before its samples are seen, and its
// parent before that. An answer regards all reports that the kernel has made until
// then. It is safe for concurrent use.
type family struct {
	log  *slog.Logger
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	events []*perf.Event // with a ring of reports each
	// members, and their descendants as far as they were asked for, are known to
	// have been ones at a time: reports of before are not about another process
	// with the number.
	members map[int]uint64
	begun   map[int]birth  // processes that began meanwhile
	names   map[int]string // by exec or prctl, of processes that began meanwhile
	lost    uint64         // processes whose begin was not reported
}

// A birth is how a process began.
type birth struct {
	parent int
	at     uint64 // CLOCK_MONOTONIC, nanoseconds
}

// newFamily begins to follow forks.
func newFamily(log *slog.Logger) (*family, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &family{
		log: log, stop: stop,
		members: map[int]uint64{}, begun: map[int]birth{}, names: map[int]string{},
	}
	var err error
	f.events, err = openReports(ringPages, func(o *perf.Options) { o.Task, o.Comm = true, true })
	if err != nil {
		f.close()
		return nil, err
	}
	f.done.Go(func() {
		often := time.NewTicker(takeEvery)
		defer often.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-often.C:
				f.mu.Lock()
				f.takeAll()
				f.mu.Unlock()
			}
		}
	})
	return f, nil
}

// close stops following.
func (f *family) close() {
	f.stop()
	f.done.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		_ = e.Close()
	}
	f.events = nil
}

// over is done: what is read with it is there, or is not waited for.
var over, _ = context.WithDeadline(context.Background(), time.Unix(0, 0))

// takeAll takes the reports that the kernel has made. A fork is reported before the new
// process runs, so afterwards the parent of each process that was sampled is known. The
// caller holds mu.
func (f *family) takeAll() {
	for _, e := range f.events {
		for e.HasRecord() {
			r, err := e.ReadRecord(over)
			if err != nil {
				f.log.Warn("a report of a process that begins cannot be read", "err", err)
				break
			}
			f.take(r)
		}
	}
}

// take takes a report. The caller holds mu.
func (f *family) take(r perf.Record) {
	switch r := r.(type) {
	case *perf.ForkRecord:
		if pid, parent := int(r.Pid), int(r.Ppid); pid != parent {
			f.forked(pid, birth{parent, r.Time})
		}
	case *perf.CommRecord:
		if _, ok := f.begun[int(r.Pid)]; ok && r.Pid == r.Tid {
			f.names[int(r.Pid)] = r.NewName
		}
	case *perf.LostRecord:
		f.lost += r.Lost
	}
}

// forked notes a process that begins. Reports of several CPUs come in no order,
// so the parent may get to be a member later, and this process may be one already.
func (f *family) forked(pid int, b birth) {
	if len(f.begun) >= maxForks {
		clear(f.begun)
		clear(f.names)
	}
	if b.at > f.members[pid] {
		delete(f.members, pid) // another process that had the number
	}
	f.begun[pid] = b
	if name, ok := f.names[b.parent]; ok {
		f.names[pid] = name
	} else {
		delete(f.names, pid)
	}
	if _, ok := f.members[b.parent]; ok {
		f.members[pid] = max(f.members[pid], b.at)
	}
}

// add makes a process a member that runs now. Its descendants are members if they
// begin later.
func (f *family) add(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[pid] = monotonic()
}

// addAll makes a process and its descendants of now members.
func (f *family) addAll(pid int) {
	children := map[int][]int{}
	at := monotonic()
	if pids, err := allPIDs(); err == nil {
		for _, p := range pids {
			if s, err := stateOf(p); err == nil {
				children[s.parent] = append(children[s.parent], p)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for todo := []int{pid}; len(todo) > 0; {
		p := todo[0]
		todo = todo[1:]
		if _, ok := f.members[p]; !ok {
			f.members[p] = at
			todo = append(todo, children[p]...)
		}
	}
}

// monotonic is the time that forks are reported with.
func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // a clock that every Linux has
	return uint64(t.Nano())
}

// has reports whether a process is a member.
func (f *family) has(pid int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takeAll()
	var line []int
	for p := pid; len(line) < 1000; {
		if _, ok := f.members[p]; ok {
			for _, d := range line {
				f.members[d] = f.begun[d].at
			}
			return true
		}
		b, ok := f.begun[p]
		if !ok {
			return false
		}
		line = append(line, p)
		p = b.parent
	}
	return false
}

// name returns the name of a process that began meanwhile, "" if it is not known.
func (f *family) name(pid int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takeAll()
	return f.names[pid]
}
