//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
	"github.com/flameline/flameline/collector/usdt"
)

// The probes of sampled allocations, as OpenTelemetry specifies them: alloc(pointer, size,
// weight), free(pointer).
const (
	allocProvider = "otel_memory"
	allocName     = "alloc"
	freeName      = "free"
)

// Bounds of what is attached to.
const (
	maxProbedFiles    = 1024 // that are known, attached or not
	maxAttachedFiles  = 256
	maxAttachedSites  = 1024 // MAX_SITES in bpf/alloc.c
	maxProbeProcesses = 8192 // of one file, that are known
	// probeAge is how often is looked whether the processes of a file have ended.
	probeAge = 10 * time.Second
)

// A probeArgument is where an argument is: struct argument in bpf/alloc.c.
type probeArgument struct {
	Offset      int64
	Base, Index uint16
	Kind        usdt.Place
	Shift, Size uint8
	Signed      bool
}

// A probeSite is struct site.
type probeSite struct{ Arguments [3]probeArgument }

// An allocSite is one of the probes in a file, as it is attached to.
type allocSite struct {
	free              bool
	offset, semaphore uint64 // in the file
	site              probeSite
}

// errNoAllocProbes says that a program or library has none of the probes.
var errNoAllocProbes = errors.New("no probe otel_memory:alloc")

// allocSites returns the places of the probes of sampled allocations in a file. It
// returns errNoAllocProbes if there are none.
func allocSites(f *elf.File) ([]allocSite, error) {
	probes, err := usdt.Find(f, allocProvider)
	if err != nil {
		return nil, err
	}
	var sites []allocSite
	allocs := false
	for _, p := range probes {
		want := 3
		switch p.Name {
		case allocName:
			allocs = true
		case freeName:
			want = 1
		default:
			continue // of a later version of the contract
		}
		arguments, err := usdt.ParseArguments(f.Machine, p.Arguments)
		if err != nil {
			return nil, fmt.Errorf("probe %s:%s at offset %#x: %w: %w", allocProvider, p.Name, p.Offset, err, untrusted.ErrMalformed)
		}
		if len(arguments) < want {
			return nil, fmt.Errorf("probe %s:%s at offset %#x has %d arguments, not %d: %w", allocProvider, p.Name, p.Offset, len(arguments), want, untrusted.ErrMalformed)
		}
		if p.Semaphore > math.MaxUint32 { // which perf events have no room for
			return nil, fmt.Errorf("probe %s:%s: semaphore at offset %#x of the file: %w of 4 GiB", allocProvider, p.Name, p.Semaphore, untrusted.ErrTooLarge)
		}
		s := allocSite{free: p.Name == freeName, offset: p.Offset, semaphore: p.Semaphore}
		for i, a := range arguments[:want] {
			s.site.Arguments[i] = probeArgument{
				Offset: a.Offset, Base: a.Base, Index: a.Index, Kind: a.Place, Shift: a.Shift, Size: uint8(a.Size), Signed: a.Signed,
			}
		}
		sites = append(sites, s)
	}
	if !allocs {
		return nil, errNoAllocProbes
	}
	return sites, nil
}

// allocProbes are the files with probes of sampled allocations, and what is attached to
// them. A file is attached to as a whole: the kernel puts the probes into processes that
// begin later by itself, before their first instruction. It is safe for concurrent use.
type allocProbes struct {
	log     *slog.Logger
	metrics *metrics
	alloc   *ebpf.Program
	free    *ebpf.Program
	sites   *ebpf.Map
	// together says that programs are attached as uprobesTogether says.
	together bool
	// measured reports whether a process is measured.
	measured func(pid int) bool
	// begin is called before the first file is attached to, and again after an error.
	begin func() error

	mu     sync.Mutex
	closed bool
	begun  bool
	some   bool // a file was attached to
	logged time.Time
	files  map[fileKey]*probedFile
	used   [maxAttachedSites]bool
	wanted []wantedFile

	detaching sync.WaitGroup
}

// A wantedFile is a file that is to be attached to.
type wantedFile struct {
	file *probedFile
	pid  int
	open func() (*os.File, error)
}

// A probedFile is a file with probes.
type probedFile struct {
	name  string
	sites []allocSite
	// pids are the measured processes that map the file and are known.
	pids map[int]bool
	// more says that there are more than pids has room for; the file stays attached to.
	more    bool
	failed  bool // attaching did not work
	full    bool // there was no room, which was reported
	gone    bool // another file has its number
	cookies []uint32
	links   []link.Link
	// freeLinks is how many of links, from the first on, are of frees.
	freeLinks int
	// detaching says that programs are being taken off. What was attached counts until then.
	detaching bool
}

func newAllocProbes(o *allocObjects, measured func(int) bool, begin func() error, m *metrics, l *slog.Logger) *allocProbes {
	return &allocProbes{
		log: l, metrics: m, alloc: o.Allocated, free: o.Freed, sites: o.Sites, measured: measured, begin: begin,
		files: map[fileKey]*probedFile{},
	}
}

// found makes a file known that a process maps, for settle. open opens the file.
func (a *allocProbes) found(key fileKey, name string, sites []allocSite, pid int, open func() (*os.File, error)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if old := a.files[key]; old != nil {
		a.detach(old) // the number is another file's by now
		old.gone = true
		delete(a.files, key)
	}
	if len(sites) == 0 {
		return
	}
	if len(a.files) >= maxProbedFiles {
		a.drop()
	}
	f := &probedFile{name: name, sites: sites, pids: map[int]bool{}}
	a.files[key] = f
	a.use(f, pid, open)
}

// drop forgets files that are not attached to.
func (a *allocProbes) drop() {
	for key, f := range a.files {
		if len(f.links) == 0 {
			f.gone = true
			delete(a.files, key)
		}
	}
}

// seen notes what a process maps: a file that had no process any more gets its probes
// back.
func (a *allocProbes) seen(pid int, mappings []process.RawMapping, open func(*process.RawMapping) (*os.File, error)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.files) == 0 {
		return
	}
	for i := range mappings {
		m := &mappings[i]
		if f := a.files[fileKey{m.Device, m.Inode}]; f != nil && m.IsExecutable() {
			a.use(f, pid, func() (*os.File, error) { return open(m) })
		}
	}
}

// use notes that a measured process maps a file, which settle attaches to.
func (a *allocProbes) use(f *probedFile, pid int, open func() (*os.File, error)) {
	if f.pids[pid] || !a.measured(pid) {
		return
	}
	if len(f.pids) < maxProbeProcesses {
		f.pids[pid] = true
	} else {
		f.more = true
	}
	if len(f.links) > 0 || f.failed || len(a.wanted) >= maxProbedFiles {
		return
	}
	a.wanted = append(a.wanted, wantedFile{f, pid, open})
}

// settle attaches to the files that were found. It is called once the unwinder knows the
// process that they were found in: a program that waits for a listener may allocate at
// once, and its stacktraces would be cut.
func (a *allocProbes) settle() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.wanted) == 0 {
		return
	}
	var later []wantedFile
	for _, w := range a.wanted {
		f := w.file
		if f.detaching { // which settles again
			later = append(later, w)
			continue
		}
		if len(f.links) > 0 || f.failed || f.gone {
			continue
		}
		err := a.attach(f, w.open)
		full := errors.Is(err, errFull)
		if full { // until other files are detached from
			later = append(later, w)
		}
		if err != nil && (!full || !f.full) {
			f.full = full
			f.failed = !full && !errors.Is(err, os.ErrNotExist)
			a.detach(f)
			a.metrics.allocAttachFailures.Inc()
			level := slog.LevelDebug
			if now := time.Now(); now.Sub(a.logged) >= unreadableQuiet {
				a.logged, level = now, slog.LevelWarn
			}
			a.log.Log(context.Background(), level, "allocations are not measured", "file", f.name, "pid", w.pid, "err", err)
		}
	}
	a.wanted = later
	a.count()
}

func (a *allocProbes) count() {
	n := 0
	for _, f := range a.files {
		if len(f.links) > 0 {
			n++
		}
	}
	a.metrics.allocFiles.Set(float64(n))
}

// errFull says that probes are attached to as many files or places as may be.
var errFull = errors.New("the most files or probes are attached to")

// attach attaches to the probes of a file.
func (a *allocProbes) attach(f *probedFile, open func() (*os.File, error)) error {
	attached := 0
	for _, other := range a.files {
		if len(other.links) > 0 {
			attached++
		}
	}
	used := 0
	for _, u := range a.used {
		if u {
			used++
		}
	}
	if attached >= maxAttachedFiles || used+len(f.sites) > maxAttachedSites {
		return fmt.Errorf("attach to %d probes: %d files with %d have them: %w", len(f.sites), attached, used, errFull)
	}
	if !a.begun {
		if err := a.begin(); err != nil {
			return err
		}
		a.begun = true
	}
	file, err := openProbed(f.sites, open)
	if err != nil {
		return err
	}
	defer file.Close()
	// Whatever the path is called by now, or in which container it is.
	executable, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return fmt.Errorf("attach to probes: %w", err)
	}
	// Frees first: none of an allocation that is reported is missed.
	for _, frees := range []bool{true, false} {
		if err := a.attachProgram(f, executable, frees); err != nil {
			return err
		}
	}
	a.some = true
	a.log.Info("allocations are measured", "file", f.name, "probes", len(f.sites))
	return nil
}

// attachProgram attaches the program of frees or that of allocations to its places in a file.
func (a *allocProbes) attachProgram(f *probedFile, executable *link.Executable, frees bool) error {
	program := a.alloc
	if frees {
		program = a.free
	}
	var at link.UprobeMultiOptions
	for _, s := range f.sites {
		if s.free != frees {
			continue
		}
		cookie := slices.Index(a.used[:], false) // there is room, see attach
		if err := a.sites.Put(uint32(cookie), &s.site); err != nil {
			return fmt.Errorf("describe probe: %w", err)
		}
		a.used[cookie] = true
		f.cookies = append(f.cookies, uint32(cookie))
		at.Addresses = append(at.Addresses, s.offset)
		at.RefCtrOffsets = append(at.RefCtrOffsets, s.semaphore)
		at.Cookies = append(at.Cookies, uint64(cookie))
	}
	defer func() {
		if frees {
			f.freeLinks = len(f.links)
		}
	}()
	if a.together && len(at.Addresses) > 0 {
		l, err := executable.UprobeMulti(nil, program, &at)
		if err != nil {
			return fmt.Errorf("attach to %d probes, the first at offset %#x: %w", len(at.Addresses), at.Addresses[0], err)
		}
		f.links = append(f.links, l)
		return nil
	}
	for i, offset := range at.Addresses {
		l, err := executable.Uprobe("", program, &link.UprobeOptions{Address: offset, RefCtrOffset: at.RefCtrOffsets[i], Cookie: at.Cookies[i]})
		if err != nil {
			return fmt.Errorf("attach to the probe at offset %#x: %w", offset, err)
		}
		f.links = append(f.links, l)
	}
	return nil
}

// uprobesTogether reports whether the kernel attaches a program to many probes by one link,
// as Linux 6.6 does. That is for detaching: the kernel waits some 100 ms for each link, one
// after the other, also when a process ends.
func uprobesTogether() bool { return features.HaveBPFLinkUprobeMulti() == nil }

// errOtherFile says that a process maps another file by now than that with the probes.
var errOtherFile = errors.New("the file has changed, or another one has its place in the process")

// openProbed opens a file that is to be attached to, and returns it only if it has itself
// the probes that are known. A process can map another file, such as the C library, in the
// place of its own at any time: a breakpoint in the middle of an instruction of a file that
// others use would end them.
func openProbed(sites []allocSite, open func() (*os.File, error)) (*os.File, error) {
	return untrusted.Do(probeGuard, func() (*os.File, error) {
		file, err := open()
		if err != nil {
			return nil, err
		}
		found, err := readAllocSites(file)
		if err == nil && slices.Equal(found, sites) {
			return file, nil
		}
		if err == nil || errors.Is(err, errNoAllocProbes) {
			err = errOtherFile
		}
		return nil, errors.Join(err, file.Close())
	})
}

// attachedLinks are what is attached to files, apart by the order of detaching.
type attachedLinks struct{ allocs, frees []link.Link }

// take takes what is attached from a file, for detaching. Frees were attached to first.
func (ls *attachedLinks) take(f *probedFile) {
	ls.frees = append(ls.frees, f.links[:f.freeLinks]...)
	ls.allocs = append(ls.allocs, f.links[f.freeLinks:]...)
	f.links, f.freeLinks = nil, 0
}

// close takes the programs off, of allocations first.
func (ls *attachedLinks) close() {
	for _, links := range [][]link.Link{ls.allocs, ls.frees} {
		for _, l := range links {
			_ = l.Close() // there is nothing left to do about it
		}
	}
}

// detach takes the programs off a file, in the background: processes are read meanwhile. The
// caller holds the lock.
func (a *allocProbes) detach(f *probedFile) {
	if len(f.links) == 0 {
		for _, c := range f.cookies {
			a.used[c] = false
		}
		f.cookies = nil
		return
	}
	var links attachedLinks
	links.take(f)
	f.detaching = true
	a.detaching.Go(func() {
		links.close()
		a.mu.Lock()
		for _, c := range f.cookies {
			a.used[c] = false
		}
		f.cookies, f.detaching = nil, false
		a.mu.Unlock()
		a.settle()
	})
}

// age detaches from files whose processes have all ended.
func (a *allocProbes) age() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.files {
		for pid := range f.pids {
			if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				delete(f.pids, pid)
			}
		}
		if len(f.pids) == 0 && !f.more && len(f.links) > 0 {
			a.detach(f)
			a.log.Debug("allocations are not measured any more: no process has the file", "file", f.name)
		}
		if len(f.pids) == 0 {
			f.failed = false
		}
	}
	a.count()
}

// close detaches from all files.
func (a *allocProbes) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.closed = true
	a.wanted = nil
	var links attachedLinks
	for _, f := range a.files {
		links.take(f)
	}
	clear(a.files)
	a.count()
	a.mu.Unlock()
	links.close()
	a.detaching.Wait()
}

// attached reports whether a file was attached to at any time.
func (a *allocProbes) attached() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.some
}

// AllocationsFound reports whether a measured process was found, at any time, whose
// allocator reports sampled allocations.
func (s *Source) AllocationsFound() bool { return s.sink.binaries.probes.attached() }

// uprobesSupported returns an error if the kernel cannot attach as is needed.
func uprobesSupported() error {
	const pmu = "/sys/bus/event_source/devices/uprobe/"
	if _, err := os.Stat(pmu + "type"); err != nil {
		return fmt.Errorf("%w: allocations: the kernel has no uprobes (CONFIG_UPROBE_EVENTS): %w", ErrUnsupported, err)
	}
	if _, err := os.Stat(pmu + "format/ref_ctr_offset"); err != nil {
		return fmt.Errorf("%w: allocations: the kernel does not count the listeners of probes: %w", ErrUnsupported, err)
	}
	return nil
}

// probeGuard bounds the time that AllocProbes takes.
var probeGuard = &untrusted.Guard{Limit: 10 * time.Second}

// AllocProbes returns the files with probes of sampled allocations that a process maps,
// none if it has no such probes. It needs the rights to read the process' mappings.
func AllocProbes(pid int) ([]ProbedFile, error) {
	return untrusted.Do(probeGuard, func() (found []ProbedFile, err error) {
		p := process.New(libpf.PID(pid), libpf.PID(pid))
		seen := map[fileKey]bool{}
		var mappings []process.RawMapping
		if _, err := p.IterateMappings(func(m process.RawMapping) bool {
			key := fileKey{m.Device, m.Inode}
			if m.IsExecutable() && m.Inode != 0 && !seen[key] {
				seen[key] = true
				m.Path = string(append([]byte(nil), m.Path...)) // it is overwritten
				mappings = append(mappings, m)
			}
			return len(mappings) < maxProbedFiles
		}); err != nil && !errors.Is(err, process.ErrCallbackStopped) {
			return nil, fmt.Errorf("read mappings of process %d: %w", pid, err)
		}
		for i := range mappings {
			name := mappings[i].Path
			r, err := p.OpenMappingFile(&mappings[i])
			if err != nil {
				continue
			}
			sites, err := readAllocSites(r)
			r.Close()
			if errors.Is(err, errNoAllocProbes) || err != nil && untrusted.Reason(err) == "" {
				continue
			}
			f := ProbedFile{Path: name, NotReadable: err}
			for _, s := range sites {
				if s.free {
					f.Frees++
				} else {
					f.Allocs++
				}
				f.HasSemaphore = f.HasSemaphore || s.semaphore != 0
			}
			if f.Allocs > 0 {
				found = append(found, f)
			}
		}
		return found, nil
	})
}

// readAllocSites reads the probes of a file.
func readAllocSites(r io.ReaderAt) ([]allocSite, error) {
	f, err := openSegments(r)
	if err != nil {
		return nil, err
	}
	if !ownMachine(f.Machine) {
		return nil, errNoAllocProbes
	}
	return allocSites(f)
}

// ownMachine reports whether a file's code runs on this machine as 64-bit code.
func ownMachine(m elf.Machine) bool {
	return runtime.GOARCH == "amd64" && m == elf.EM_X86_64 || runtime.GOARCH == "arm64" && m == elf.EM_AARCH64
}
