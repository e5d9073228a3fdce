//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/reporter"
	"go.opentelemetry.io/ebpf-profiler/reporter/samples"

	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/collector/untrusted"
)

// A sink takes what the unwinder reports. ReportTraceEvent is called by one
// goroutine, which must not wait for symbols; ReportExecutable by another.
type sink struct {
	aggregate *aggregate
	labels    *labelCache
	binaries  *binaries
	threads   bool // a series for each thread

	offCPU     *offCPU      // nil if off-CPU time is not measured
	pageFaults *pageFaults  // nil if page faults are not
	allocs     *allocations // nil if allocations are not

	late *lateUnwinder // nil if this version of the unwinder does not allow it

	executables map[libpf.String]executableNote // by path
	tellGate    func(pid int, kind executableKind) error

	// reporting belongs to the stacktrace that is being reported. The goroutine that
	// calls HandleTrace sets it.
	reporting reporting
}

// reporting is what the unwinder does not tell about a stacktrace.
type reporting struct {
	ktime    uint64    // CLOCK_MONOTONIC, ns
	newcomer *newcomer // of a process that the unwinder does not know; else nil
}

var (
	_ reporter.TraceReporter      = (*sink)(nil)
	_ reporter.ExecutableReporter = (*sink)(nil)
)

// ReportTraceEvent counts a stacktrace.
func (s *sink) ReportTraceEvent(trace *libpf.Trace, meta *samples.TraceEventMeta) error {
	if meta.PID == 0 {
		return nil
	}
	e := event{
		labels: s.labels.get(meta),
		time:   int64(meta.Timestamp),
		frames: trace.Frames,
	}
	left := e.labels.IsEmpty() // the process is left out
	if s.threads && !left {
		e.labels = threadLabels(e.labels, meta)
	}
	if s.reporting.newcomer == nil && meta.ExecutablePath != libpf.NullString {
		s.noteExecutable(trace, meta)
	}
	origin := s.originOf(meta)
	switch {
	case origin == originAlloc:
		e.frames = userFrames(e.frames)
	case origin == originCPU && !left:
		e.spans = spansOf(trace, meta)
	}
	if n := s.reporting.newcomer; n != nil {
		switch {
		case n.noUser:
			e.chain = &chain{whole: true}
		case s.late.take(e, n):
			return nil
		default:
			e.chain = &chain{places: []place{n.leaf}}
		}
	}
	s.add(e, origin, meta.TID, s.reporting.ktime)
	return nil
}

// Bounds of what is known of executables.
const (
	maxExecutables = 1024
	executableTime = 10 * time.Minute // until the gate is told again
)

// An executableNote is what the gate was told of an executable.
type executableNote struct {
	kind  executableKind
	until time.Time
}

// noteExecutable tells the gate what the executable of a process runs.
func (s *sink) noteExecutable(trace *libpf.Trace, meta *samples.TraceEventMeta) {
	now := time.Now()
	note := s.executables[meta.ExecutablePath]
	known := now.Before(note.until)
	if known && note.kind == executableInterpreter {
		return
	}
	kind := executableNative
	if slices.ContainsFunc(trace.Frames, isInterpreted) {
		kind = executableInterpreter
	}
	if known && note.kind == kind {
		return
	}
	if len(s.executables) >= maxExecutables {
		clear(s.executables)
	}
	if s.tellGate(int(meta.PID), kind) == nil {
		s.executables[meta.ExecutablePath] = executableNote{kind, now.Add(executableTime)}
	}
}

// isInterpreted reports whether a frame is of a language that an interpreter runs.
func isInterpreted(f unique.Handle[libpf.Frame]) bool {
	switch t := f.Value().Type; kindOf(t) {
	case kindJVM, kindPython, kindNode, kindOther:
		return !t.IsError()
	}
	return false
}

// add passes on an event of a thread at a time by CLOCK_MONOTONIC, in ns. It is safe for
// concurrent use.
func (s *sink) add(e event, o origin, tid libpf.PID, ktime uint64) {
	// Others than CPU samples are left out once they have their values.
	switch {
	case o == originOffCPU:
		s.offCPU.ledger.stacks.add(uint32(tid), ktime, e)
	case o == originPageFaults:
		s.pageFaults.stacks.add(uint32(tid), ktime, e)
	case o == originAlloc:
		s.allocs.stacks.add(uint32(tid), ktime, e)
	case !e.labels.IsEmpty():
		s.aggregate.add(e)
	}
}

// spansOf returns the span and the trace of a stacktrace: by the labels that a goroutine
// has in Go's own profiles, or as tracing agents tell the unwinder.
func spansOf(trace *libpf.Trace, meta *samples.TraceEventMeta) (ids spanIDs) {
	for name, value := range trace.CustomLabels {
		switch name.String() {
		case labelSpan:
			ids.span = cmp.Or(idOf(value.String(), 16), ids.span)
		case labelProfile:
			ids.span = cmp.Or(ids.span, idOf(value.String(), 16))
		case labelTrace:
			ids.trace = idOf(value.String(), 32)
		}
	}
	if ids == (spanIDs{}) && meta.SpanID != libpf.InvalidAPMSpanID {
		ids.span = idOf(hex.EncodeToString(meta.SpanID[:]), 16)
		ids.trace = idOf(hex.EncodeToString(meta.TraceID[:]), 32)
	}
	return ids
}

// userFrames returns the frames of a stacktrace less the kernel's, which are those of the
// probe.
func userFrames(fs libpf.Frames) libpf.Frames {
	for i, f := range fs {
		if f.Value().Type != libpf.KernelFrame {
			return fs[i:]
		}
	}
	return nil
}

// threadLabels adds those of a stacktrace's thread to the labels of its process.
func threadLabels(ls labels.Labels, meta *samples.TraceEventMeta) labels.Labels {
	b := labels.NewBuilder(ls)
	b.Set(LabelThreadID, strconv.Itoa(int(meta.TID)))
	b.Set(LabelThreadName, meta.Comm.String())
	return b.Labels()
}

// originOf returns what a stacktrace is a sample of.
func (s *sink) originOf(meta *samples.TraceEventMeta) origin {
	switch {
	case s.reporting.newcomer != nil:
		return s.reporting.newcomer.origin
	case s.offCPU != nil && meta.ProfileType == &s.offCPU.entry.kind:
		return originOffCPU
	case s.pageFaults != nil && meta.ProfileType == &s.pageFaults.entry.kind:
		return originPageFaults
	case s.allocs != nil && meta.ProfileType == &s.allocs.entry.kind:
		return originAlloc
	}
	return originCPU
}

// ReportExecutable makes a binary known to the symbolizer while a process that
// maps it is there.
func (s *sink) ReportExecutable(args *reporter.ExecutableMetadata) {
	s.binaries.add(args)
}

// labelAge is how long the labels of a process are used before they are asked
// for again: its number may belong to another process by then.
const labelAge = 10 * time.Second

// firstLabelAge is how long the first labels of a program are used: it may have been in
// the middle of exec, when its arguments and its environment are not there yet.
const firstLabelAge = time.Second

// maxLabeled bounds the processes in a labelCache.
const maxLabeled = 8192

// A labelCache remembers the labels of the processes seen lately. It is used
// by one goroutine.
type labelCache struct {
	targets Labeler
	metrics *metrics
	byPID   map[libpf.PID]labeled
}

// labeled are the labels of a process while it runs one executable.
type labeled struct {
	exe    libpf.String
	comm   libpf.Comm // of the main thread; zero if not seen
	until  time.Time
	labels labels.Labels
}

// get returns the labels of a stacktrace's process. Threads may have names of
// their own; only the main thread's name is that of the process.
func (c *labelCache) get(meta *samples.TraceEventMeta) labels.Labels {
	var comm libpf.Comm
	if meta.PID == meta.TID {
		comm = meta.Comm
	}
	now := time.Now()
	l, ok := c.byPID[meta.PID]
	if ok && now.Before(l.until) && l.exe == meta.ExecutablePath &&
		(comm == libpf.Comm{} || comm == l.comm) {
		return l.labels
	}
	age := firstLabelAge
	if ok && l.exe == meta.ExecutablePath {
		age = labelAge
	}
	hint := target.Hint{
		Comm:        comm.String(),
		Exe:         meta.ExecutablePath.String(),
		ContainerID: meta.ContainerID.String(),
		Env:         make(map[string]string, len(meta.EnvVars)),
	}
	for k, v := range meta.EnvVars {
		hint.Env[k.String()] = v.String()
	}
	l = labeled{
		exe:    meta.ExecutablePath,
		comm:   comm,
		until:  now.Add(age),
		labels: c.targets.Labels(int(meta.PID), hint),
	}
	c.metrics.labelSeconds.Add(time.Since(now).Seconds())
	if len(c.byPID) >= maxLabeled {
		clear(c.byPID)
	}
	c.byPID[meta.PID] = l
	return l.labels
}

// maxBinaries bounds a table of binaries.
const maxBinaries = 4096

// binaries are those that the unwinder has seen: by build ID and by file for the
// leaves of processes that it does not know, and the tables of Go programs.
type binaries struct {
	symbolizer Symbolizer
	unreadable *unreadables
	goTables   *goTables
	probes     *allocProbes // nil if allocations are not measured
	guard      untrusted.Guard

	mu        sync.Mutex
	byBuildID map[string]executable
	byFile    map[fileKey]executable
	vdso      executable // with no segments if it is not known
}

func newBinaries(s Symbolizer, m *metrics, l *slog.Logger) *binaries {
	u := newUnreadables(m, l)
	return &binaries{
		symbolizer: s,
		unreadable: u,
		goTables:   newGoTables(u),
		guard:      untrusted.Guard{Limit: fileTimeout, Stuck: maxStuck, Shorten: true},
		byBuildID:  map[string]executable{},
		byFile:     map[fileKey]executable{},
	}
}

// A fileKey identifies a file on this machine while it exists.
type fileKey struct{ device, inode uint64 }

// An executable is where a file's code is.
type executable struct {
	id       libpf.FileID
	module   module
	segments []segment
}

// A segment is a loaded part of a binary.
type segment struct{ offset, size, address uint64 }

// address returns the ELF virtual address of an offset in the file.
func (e executable) address(offset uint64) (uint64, bool) {
	for _, s := range e.segments {
		if offset >= s.offset && offset-s.offset < s.size {
			return s.address + offset - s.offset, true
		}
	}
	return 0, false
}

// add makes a binary known.
func (b *binaries) add(args *reporter.ExecutableMetadata) {
	file, m := args.MappingFile.Value(), args.Mapping
	if b.symbolizer != nil {
		bin := symbolize.Binary{
			Name:    file.FileName.String(),
			Path:    m.Path,
			PID:     int(args.Process.PID()),
			Start:   m.Vaddr,
			End:     m.Vaddr + m.Length,
			BuildID: file.GnuBuildID,
		}
		if m.IsVDSO() {
			bin.Open = readMemory(args.Process, m)
		}
		b.symbolizer.Add(symbolize.FileID(file.FileID.Bytes()), bin)
	}
	if m.IsVDSO() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.vdso = executable{
			id:       file.FileID,
			module:   module{name: file.FileName.String(), buildID: file.GnuBuildID},
			segments: []segment{{size: m.Length}},
		}
		b.byBuildID[file.GnuBuildID] = b.vdso
		return
	}
	if b.unreadable.has(file.FileID) {
		return
	}
	entry := executable{
		id:     file.FileID,
		module: module{name: file.FileName.String(), buildID: file.GnuBuildID},
	}
	mapping := *m
	mapping.Path = strings.Clone(m.Path) // the unwinder writes over it
	found, err := untrusted.Do(&b.guard, func() (program, error) {
		r, err := args.Process.OpenMappingFile(&mapping)
		if err != nil {
			return program{}, err // the process has ended
		}
		if c, ok := r.(*checkedFile); ok {
			r = c.file // which is read here with budgets of its own
		}
		return readProgram(r, file.GoBuildID != "", b.probes != nil)
	})
	if err != nil {
		b.unreadable.add(entry.id, entry.module, "segments", err)
		return
	}
	entry.segments = found.segments
	if found.sitesError != nil {
		b.unreadable.add(entry.id, entry.module, "probes", found.sitesError)
	}
	b.probes.found(fileKey{m.Device, m.Inode}, entry.module.name, found.sites, int(args.Process.PID()), func() (*os.File, error) {
		return openMappingFile(args.Process, &mapping)
	})
	if found.goError != nil {
		b.unreadable.add(entry.id, entry.module, "go_table", found.goError)
	}
	if found.table != nil && !b.goTables.add(entry.id, entry.module, found.table, found.file) {
		found.file.Close()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.byFile) >= maxBinaries {
		clear(b.byFile)
		clear(b.byBuildID)
	}
	b.byFile[fileKey{m.Device, m.Inode}] = entry
	if file.GnuBuildID != "" {
		b.byBuildID[file.GnuBuildID] = entry
	}
}

// A program is what is read of a binary when it is first seen.
type program struct {
	segments []segment
	table    *goTable  // nil if it is no Go program
	file     io.Closer // of table
	goError  error     // why there is no table, if the file is at fault
	// sites are the probes of sampled allocations, if they were asked for.
	sites      []allocSite
	sitesError error // why there are none, if the file is at fault
}

// readProgram reads a binary. It takes the file: unless the result has a table,
// which reads the file later, the file is closed.
func readProgram(r process.ReadAtCloser, isGo, withProbes bool) (p program, err error) {
	keep := false
	defer func() {
		if !keep {
			r.Close()
		}
	}()
	f, err := openSegments(r)
	if err != nil {
		return p, err
	}
	p.segments = segments(f)
	if withProbes && ownMachine(f.Machine) {
		if p.sites, err = allocSites(f); err != nil && !errors.Is(err, errNoAllocProbes) {
			p.sitesError = err
		}
	}
	if !isGo {
		return p, nil
	}
	p.table, p.goError = openGoTable(r)
	if p.goError != nil {
		p.table = nil
		return p, nil
	}
	keep, p.file = true, r
	return p, nil
}

// goLines returns the functions at each of some addresses of a Go program, nil
// where they are not known.
func (b *binaries) goLines(id libpf.FileID, addrs ...uint64) [][]line {
	return b.goTables.lines(id, addrs...)
}

// close closes the files that are held open.
func (b *binaries) close() { b.goTables.close() }

// find returns the binary of a leaf and the leaf's address in it.
func (b *binaries) find(l place) (executable, uint64, bool) {
	b.mu.Lock()
	e, ok := b.byBuildID[l.buildID]
	if !ok {
		e, ok = b.byFile[l.file]
	}
	if !ok && l.name == process.VdsoPathName {
		e, ok = b.vdso, true
	}
	b.mu.Unlock()
	if !ok {
		return executable{}, 0, false
	}
	addr, ok := e.address(l.offset)
	return e, addr, ok
}

// has reports whether a file is known.
func (b *binaries) has(k fileKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k == (fileKey{}) {
		return len(b.vdso.segments) > 0
	}
	_, ok := b.byFile[k]
	return ok
}

// openSegments reads the headers of a binary.
func openSegments(r io.ReaderAt) (*elf.File, error) {
	size, err := untrusted.SizeOf(r)
	if err != nil {
		return nil, err
	}
	return untrusted.NewELF(untrusted.NewReader(r, size, goOpening))
}

// segments returns where the code of a binary is loaded.
func segments(f *elf.File) (ss []segment) {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			ss = append(ss, segment{offset: p.Off, size: p.Filesz, address: p.Vaddr})
		}
	}
	return ss
}

// openMappingFile opens the file that a mapping of a process is of.
func openMappingFile(p process.Process, m *process.RawMapping) (*os.File, error) {
	r, err := p.OpenMappingFile(m)
	if err != nil {
		return nil, err
	}
	switch f := r.(type) {
	case *checkedFile:
		return f.file, nil
	case *os.File:
		return f, nil
	}
	r.Close()
	return nil, fmt.Errorf("open %s: it is no file", m.Path)
}

// maxVDSO bounds the kernel's shared object, which has two pages.
const maxVDSO = 1 << 20

// readMemory copies a binary that has no file, the vDSO, from the memory of a
// process.
func readMemory(pr process.Process, m *process.RawMapping) func() (symbolize.Reader, int64, error) {
	data := make([]byte, min(m.Length, maxVDSO))
	_, err := pr.GetRemoteMemory().ReadAt(data, int64(m.Vaddr))
	return func() (symbolize.Reader, int64, error) {
		if err != nil {
			return nil, 0, fmt.Errorf("read %s from memory: %w", m.Path, err)
		}
		return memoryReader{bytes.NewReader(data)}, int64(len(data)), nil
	}
}

// A memoryReader reads a copy of a binary; there is nothing to close.
type memoryReader struct{ *bytes.Reader }

func (memoryReader) Close() error { return nil }
