//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	perf "github.com/elastic/go-perf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"golang.org/x/sys/unix"
)

// Bounds of a codeHistory.
const (
	historyPages = 16 // of the ring of each CPU: some 500 reports
	// historyInterval is how often the rings are emptied, which is sooner if one is half
	// full.
	historyInterval = 500 * time.Millisecond
	// historyKept is how long the code of a process is known after its end.
	historyKept    = uint64(5 * time.Second)
	maxImages      = 1 << 13
	maxImageParts  = 512
	maxReportsRead = 1 << 14 // of one CPU at once
)

// A codeHistory knows what code processes have mapped, also of those that have ended
// meanwhile, from what the kernel reports about fork, exec and mmap as it does to perf.
// It knows a process from its next exec on, and what such a process forks. It is safe for
// concurrent use.
type codeHistory struct {
	mu     sync.Mutex
	events map[int]*perf.Event // by CPU; nil once closed
	later  []report            // that may have to wait for reports of other CPUs
	images map[uint32]*image   // by PID
	pruned uint64
	stop   context.CancelFunc
	done   chan struct{}
}

// An image is what a process has mapped since fork or exec.
type image struct {
	since  uint64        // CLOCK_MONOTONIC, ns
	exec   bool          // since exec
	code   []codeMapping // by rising addresses; a change makes a new list
	before *image        // what it had before exec; nil if that is not known
	ended  uint64        // CLOCK_MONOTONIC, ns; 0 while it runs
}

// A report is what the kernel reports, and when by CLOCK_MONOTONIC in ns.
type report struct {
	time   uint64
	record perf.Record
}

// openCodeHistory begins to follow processes.
func openCodeHistory() (*codeHistory, error) {
	ctx, stop := context.WithCancel(context.Background())
	h := &codeHistory{events: map[int]*perf.Event{}, images: map[uint32]*image{}, stop: stop, done: make(chan struct{})}
	if err := h.start(); err != nil {
		close(h.done)
		h.close()
		return nil, err
	}
	go func() {
		defer close(h.done)
		for ctx.Err() == nil {
			h.wait()
			h.mu.Lock()
			h.read()
			h.mu.Unlock()
		}
	}()
	return h, nil
}

// wait returns once a ring is half full, or after historyInterval.
func (h *codeHistory) wait() {
	var fds []unix.PollFd
	h.mu.Lock()
	for _, e := range h.events {
		if fd, err := e.FD(); err == nil {
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	h.mu.Unlock()
	if _, err := unix.Poll(fds, int(historyInterval.Milliseconds())); err != nil {
		time.Sleep(time.Millisecond) // a signal, or there is no memory
	}
}

// start follows the CPUs that are online and that it does not follow yet.
func (h *codeHistory) start() error {
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cpu := range cpus {
		if h.events == nil || h.events[cpu] != nil {
			continue
		}
		attr := &perf.Attr{}
		if err := perf.Dummy.Configure(attr); err != nil {
			return err
		}
		attr.Options = perf.Options{
			Task: true, Comm: true, CommExec: true, Mmap: true, Mmap2: true,
			SampleIDAll: true, UseClockID: true,
		}
		attr.ClockID, attr.SampleFormat.Time = unix.CLOCK_MONOTONIC, true
		attr.SetWakeupWatermark(uint32(historyPages * os.Getpagesize() / 2))
		e, err := perf.Open(attr, perf.AllThreads, cpu, nil)
		if err == nil {
			h.events[cpu] = e
			err = e.MapRingNumPages(historyPages)
		}
		if err != nil {
			return fmt.Errorf("follow the code that processes map on CPU %d: %w", cpu, err)
		}
	}
	return nil
}

// close ends following; what is known stays so.
func (h *codeHistory) close() {
	if h == nil {
		return
	}
	h.stop()
	<-h.done
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		_ = e.Close()
	}
	h.events = nil
}

// execTime is how long after exec has begun to replace a process' memory its registers may
// still be those from before.
const execTime = uint64(10 * time.Millisecond)

// A pastCode is what code a process had mapped at a time.
type pastCode struct {
	code   []codeMapping
	before []codeMapping // before exec; nil if that is not known
	inExec bool          // it may have been in exec
}

// left reports whether an address is of code that the process has given up in exec.
func (c pastCode) left(addr uint64) bool {
	if _, ok := find(c.code, addr); ok {
		return false
	}
	_, ok := find(c.before, addr)
	return ok || c.inExec
}

// at returns what code a process had mapped at a time by CLOCK_MONOTONIC in ns, false if
// that is not known.
func (h *codeHistory) at(pid uint32, t uint64) (c pastCode, ok bool) {
	if h == nil {
		return c, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read()
	im := h.images[pid]
	if im != nil && t < im.since {
		im = im.before
	}
	if im == nil || t < im.since {
		return c, false
	}
	c.code, c.inExec = im.code, im.exec && t-im.since < execTime
	if im.before != nil {
		c.before = im.before.code
	}
	return c, true
}

// read applies what the kernel has reported.
func (h *codeHistory) read() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	until := uint64(now.Nano())
	// Reports that come while the rings are read may be older than ones of a ring that
	// was read before.
	for _, e := range h.events {
		h.later = append(h.later, readRing(e)...)
	}
	slices.SortStableFunc(h.later, func(a, b report) int { return cmp.Compare(a.time, b.time) })
	n := 0
	for n < len(h.later) && h.later[n].time <= until {
		h.apply(h.later[n])
		n++
	}
	h.later = slices.Delete(h.later, 0, n)
	if until-h.pruned > uint64(time.Second) || len(h.images) > maxImages {
		h.prune(until)
	}
}

// canceled is done: readRing does not wait.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// readRing reads the reports of one CPU.
func readRing(e *perf.Event) (rs []report) {
	var raw perf.RawRecord
	for len(rs) < maxReportsRead && e.HasRecord() {
		if e.ReadRawRecord(canceled, &raw) != nil {
			break
		}
		var r perf.Record
		switch raw.Header.Type {
		case perf.RecordTypeFork:
			r = new(perf.ForkRecord)
		case perf.RecordTypeExit:
			r = new(perf.ExitRecord)
		case perf.RecordTypeComm:
			r = new(perf.CommRecord)
		case perf.RecordTypeMmap2:
			r = new(perf.Mmap2Record)
		case perf.RecordTypeLost:
			r = new(perf.LostRecord)
		default:
			continue
		}
		// The time comes last. perf looks for it after a name, which is padded.
		last := len(raw.Data) - 8
		if last < 0 || r.DecodeFrom(&raw, e) != nil {
			continue
		}
		rs = append(rs, report{binary.LittleEndian.Uint64(raw.Data[last:]), r})
	}
	return rs
}

// apply follows a report.
func (h *codeHistory) apply(r report) {
	switch x := r.record.(type) {
	case *perf.ForkRecord:
		if x.Pid == x.Ppid {
			return // a thread
		}
		delete(h.images, x.Pid)
		if parent := h.images[x.Ppid]; parent != nil {
			h.images[x.Pid] = &image{since: r.time, code: parent.code}
		}
	case *perf.ExitRecord:
		if im := h.images[x.Pid]; im != nil && x.Pid == x.Tid {
			im.ended = r.time
		}
	case *perf.CommRecord:
		if !x.WasExec() {
			return
		}
		im := &image{since: r.time, exec: true}
		if im.before = h.images[x.Pid]; im.before != nil {
			im.before.before = nil
		}
		h.images[x.Pid] = im
	case *perf.Mmap2Record:
		if im := h.images[x.Pid]; im != nil {
			if im.code = overlay(im.code, mappingOf(x)); len(im.code) > maxImageParts {
				delete(h.images, x.Pid)
			}
		}
	case *perf.LostRecord:
		clear(h.images) // from the next exec on
	}
}

// mappingOf returns the mapping of a report.
func mappingOf(r *perf.Mmap2Record) codeMapping {
	m := codeMapping{
		span: span{r.Addr, r.Addr + r.Len}, offset: r.PageOffset, path: r.Filename,
		file: fileKey{device: uint64(r.MajorID)<<8 + uint64(r.MinorID), inode: r.Inode},
	}
	if m.path == "[vdso]" {
		m.path, m.file = process.VdsoPathName, fileKey{}
	}
	return m
}

// overlay returns the mappings after one that takes the place of what was there. One of no
// file only takes it away.
func overlay(ms []codeMapping, m codeMapping) []codeMapping {
	if m.end <= m.start {
		return ms
	}
	after := make([]codeMapping, 0, len(ms)+2)
	for _, o := range ms {
		if o.end <= m.start || o.start >= m.end {
			after = append(after, o)
			continue
		}
		if o.start < m.start {
			head := o
			head.end = m.start
			after = append(after, head)
		}
		if o.end > m.end {
			tail := o
			tail.offset += m.end - o.start
			tail.start = m.end
			after = append(after, tail)
		}
	}
	if m.file.inode != 0 || m.path == process.VdsoPathName {
		after = append(after, m)
	}
	slices.SortFunc(after, func(a, b codeMapping) int { return cmp.Compare(a.start, b.start) })
	return after
}

// prune forgets processes that have ended, and what was before the last exec of others.
func (h *codeHistory) prune(now uint64) {
	h.pruned = now
	for pid, im := range h.images {
		if im.ended != 0 && now-im.ended > historyKept {
			delete(h.images, pid)
		} else if now-im.since > historyKept {
			im.before = nil
		}
	}
	if len(h.images) > maxImages {
		clear(h.images)
	}
}
