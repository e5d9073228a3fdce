package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cilium/ebpf"
	perf "github.com/elastic/go-perf"
	"golang.org/x/sys/unix"
)

// Bounds of a family.
const (
	maxForks  = 1 << 18 // processes that are remembered
	ringPages = 64      // of each CPU: some 4,000 forks
)

// A family is processes and their descendants, which the kernel reports when
// they are made: a process may have ended before its samples are seen, and its
// parent before that. It is safe for concurrent use.
type family struct {
	log    *slog.Logger
	stop   context.CancelFunc
	events []*perf.Event
	done   sync.WaitGroup

	mu      sync.Mutex
	members map[int]bool   // and their descendants as far as they were asked for
	parents map[int]int    // of processes that began meanwhile
	names   map[int]string // by exec or prctl, of processes that began meanwhile
	lost    uint64         // processes whose begin was not reported
}

// newFamily begins to follow forks.
func newFamily(log *slog.Logger) (*family, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &family{
		log: log, stop: stop,
		members: map[int]bool{}, parents: map[int]int{}, names: map[int]string{},
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		f.close()
		return nil, err
	}
	for cpu := range cpus {
		attr := &perf.Attr{}
		if err := perf.Dummy.Configure(attr); err != nil {
			f.close()
			return nil, err
		}
		attr.Options.Task, attr.Options.Comm = true, true
		attr.SetWakeupWatermark(1)
		e, err := perf.Open(attr, perf.AllThreads, cpu, nil)
		if errors.Is(err, unix.ENODEV) {
			continue // offline
		}
		if err == nil {
			f.events = append(f.events, e)
			err = e.MapRingNumPages(ringPages)
		}
		if err != nil {
			f.close()
			return nil, fmt.Errorf("follow the processes that begin on CPU %d: %w", cpu, err)
		}
		f.done.Go(func() { f.read(ctx, e) })
	}
	return f, nil
}

// close stops following.
func (f *family) close() {
	f.stop()
	f.done.Wait()
	for _, e := range f.events {
		_ = e.Close()
	}
}

// read takes the reports of one CPU.
func (f *family) read(ctx context.Context, e *perf.Event) {
	for {
		r, err := e.ReadRecord(ctx)
		if err != nil {
			if ctx.Err() == nil {
				f.log.Warn("processes that begin are followed no more", "err", err)
			}
			return
		}
		f.take(r)
	}
}

func (f *family) take(r perf.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r := r.(type) {
	case *perf.ForkRecord:
		if pid, parent := int(r.Pid), int(r.Ppid); pid != parent {
			f.forked(pid, parent)
		}
	case *perf.CommRecord:
		if _, ok := f.parents[int(r.Pid)]; ok && r.Pid == r.Tid {
			f.names[int(r.Pid)] = r.NewName
		}
	case *perf.LostRecord:
		f.lost += r.Lost
	}
}

// forked notes a process that begins. Reports of several CPUs come in no order,
// so the parent may get to be a member later.
func (f *family) forked(pid, parent int) {
	if len(f.parents) >= maxForks {
		clear(f.parents)
		clear(f.names)
	}
	delete(f.members, pid) // another process that had the number
	f.parents[pid] = parent
	if name, ok := f.names[parent]; ok {
		f.names[pid] = name
	} else {
		delete(f.names, pid)
	}
	if f.members[parent] {
		f.members[pid] = true
	}
}

// add makes a process a member, and its descendants of now.
func (f *family) add(pid int) {
	children := map[int][]int{}
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
		if !f.members[p] {
			f.members[p] = true
			todo = append(todo, children[p]...)
		}
	}
}

// has reports whether a process is a member.
func (f *family) has(pid int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	var line []int
	for p, ok := pid, true; ok && len(line) < 1000; p, ok = f.parents[p] {
		if f.members[p] {
			for _, d := range line {
				f.members[d] = true
			}
			return true
		}
		line = append(line, p)
	}
	return false
}

// name returns the name of a process that began meanwhile, "" if it is not known.
func (f *family) name(pid int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names[pid]
}
