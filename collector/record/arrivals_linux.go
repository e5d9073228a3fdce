package record

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	perf "github.com/elastic/go-perf"
	"golang.org/x/sys/unix"
)

// Bounds of arrivals.
const (
	arrivalPages = 16   // of the ring of each CPU: some 500 reports
	maxArrivals  = 4096 // processes that wait to be read
	// freeReads is how often a process is read at once when it maps a file; later on it
	// is read once in readGap, as one that maps files all the time would keep the
	// unwinder busy.
	freeReads = 64
	readGap   = 20 * time.Millisecond
)

// Arrivals have the unwinder read processes as soon as they begin, and again as soon as
// they map code of a file. By itself the unwinder reads a process once it was sampled,
// and stacktraces until then are cut.
//
// Code that a process makes in memory, as just-in-time compilers do, is left to the
// sampler.
type arrivals struct {
	stop   context.CancelFunc
	events []*perf.Event
	done   sync.WaitGroup
	wake   chan struct{} // has room for one

	mu      sync.Mutex
	waiting map[int]uint64 // to be read, with the number of the report
	reports uint64
}

// followArrivals begins. chosen says whether a process is to be read, read reads it and
// returns when the unwinder knows it. One goroutine calls both.
func followArrivals(log *slog.Logger, chosen func(pid int) bool, read func(ctx context.Context, pid int)) (*arrivals, error) {
	ctx, stop := context.WithCancel(context.Background())
	a := &arrivals{stop: stop, wake: make(chan struct{}, 1), waiting: map[int]uint64{}}
	var err error
	a.events, err = openReports(arrivalPages, func(o *perf.Options) { o.Task, o.Mmap = true, true })
	if err != nil {
		a.close()
		return nil, err
	}
	for _, e := range a.events {
		a.done.Go(func() { readReports(ctx, e, log, a.take) })
	}
	a.done.Go(func() { a.run(ctx, chosen, read) })
	return a, nil
}

// close stops.
func (a *arrivals) close() {
	a.stop()
	a.done.Wait()
	for _, e := range a.events {
		_ = e.Close()
	}
}

// take takes a report of the kernel.
func (a *arrivals) take(r perf.Record) {
	switch r := r.(type) {
	case *perf.ForkRecord:
		if r.Pid != r.Ppid {
			a.put(int(r.Pid))
		}
	case *perf.MmapRecord:
		// Memory that is no file is called //anon or [heap].
		if strings.HasPrefix(r.Filename, "/") && !strings.HasPrefix(r.Filename, "//") {
			a.put(int(r.Pid))
		}
	}
}

// put notes a process that is to be read. Of too many, the sampler asks for those that
// it finds running.
func (a *arrivals) put(pid int) {
	a.mu.Lock()
	a.reports++
	if _, ok := a.waiting[pid]; ok || len(a.waiting) < maxArrivals {
		a.waiting[pid] = a.reports
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// A pace is how often a process was read.
type pace struct {
	reads int
	last  time.Time
}

// next takes the process of the latest report: others may have ended since theirs.
func (a *arrivals) next() (pid int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	latest := uint64(0)
	for p, report := range a.waiting {
		if report > latest {
			pid, latest = p, report
		}
	}
	delete(a.waiting, pid)
	return pid, latest > 0
}

// run reads processes, one after the other.
func (a *arrivals) run(ctx context.Context, chosen func(pid int) bool, read func(ctx context.Context, pid int)) {
	paces := map[int]pace{}
	later := map[int]struct{}{} // were read a moment ago
	again := time.NewTimer(readGap)
	defer again.Stop()
	for ctx.Err() == nil {
		pid, ok := a.next()
		if !ok {
			select {
			case <-ctx.Done():
			case <-a.wake:
			case <-again.C:
				for pid := range later {
					a.put(pid)
				}
				clear(later)
			}
			continue
		}
		if !chosen(pid) || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		if len(paces) > maxArrivals {
			clear(paces)
		}
		p := paces[pid]
		if p.reads >= freeReads && time.Since(p.last) < readGap {
			if later[pid] = struct{}{}; len(later) == 1 {
				again.Reset(readGap)
			}
			continue
		}
		read(ctx, pid)
		paces[pid] = pace{p.reads + 1, time.Now()}
	}
}
