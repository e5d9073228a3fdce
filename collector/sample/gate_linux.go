//go:build linux && (amd64 || arm64)

package sample

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -no-global-types -cflags "-O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" gate bpf/gate.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -no-global-types -cflags "-O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" offCPU bpf/offcpu.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -no-global-types -cflags "-O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" only bpf/only.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -no-global-types -cflags "-O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" pageFault bpf/pagefault.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -no-global-types -cflags "-O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" alloc bpf/alloc.c

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// ticksPerSample bounds: a round of ticks is one sample. The rates of ticks
// that follow for 19 and 99 Hz (247 and 693 Hz) have no divisor in common with
// the usual rates of timers.
const (
	maxTicksPerSample = 13
	maxTickRate       = 700 // Hz
)

// ticksPerSample returns how many timer ticks a round has at a frequency in Hz.
// It is odd and no multiple of five.
func ticksPerSample(frequency int) int {
	for n := maxTicksPerSample; n > 1; n -= 2 {
		if n%5 != 0 && n*frequency <= maxTickRate {
			return n
		}
	}
	return 1
}

// Names under which the kernel knows the unwinder's parts. It keeps 15 bytes of
// them; only with BTF the whole name can be read.
const (
	entryProgram = "native_tracer_entry"
	kernelName   = 15
)

// sharedMaps are the gate's maps that are the unwinder's, by name, with the
// unwinder's name.
var sharedMaps = map[string]string{
	"known":          "pid_page_to_mapping_info",
	"pid_events":     "pid_events",
	"inhibit_events": "inhibit_events",
	"report_events":  "report_events",
}

// A gate is the eBPF program in front of the unwinder, and the timers that
// call it.
type gate struct {
	objects gateObjects
	known   *ebpf.Map // the unwinder's table of mappings
	events  []int     // file descriptors, one for each CPU
	reader  *ringbuf.Reader
	rate    int // ticks per second

	mu     sync.Mutex
	closed bool
	cpus   map[int]bool // with a timer
	counts counts
}

// openGate loads the gate in front of the unwinder that this process loaded
// last. It passes samples of the processes of a set, of all if that is nil. Processes of
// native code are not read before they are so old. The timers do not run yet.
func openGate(frequency int, set *processSet, unread time.Duration) (g *gate, err error) {
	entry, err := ownProgram(entryProgram)
	if err != nil {
		return nil, err
	}
	defer entry.Close()
	shared := map[string]*ebpf.Map{}
	defer func() {
		for _, m := range shared {
			m.Close()
		}
	}()
	for name, theirs := range sharedMaps {
		if shared[name], err = ownMap(theirs); err != nil {
			delete(shared, name)
			return nil, err
		}
	}

	spec, err := loadGate()
	if err != nil {
		return nil, fmt.Errorf("read gate program: %w", err)
	}
	n := ticksPerSample(frequency)
	if err := spec.Variables["ticks_per_sample"].Set(uint32(n)); err != nil {
		return nil, fmt.Errorf("set ticks per sample: %w", err)
	}
	if err := spec.Variables["unread"].Set(uint64(unread)); err != nil {
		return nil, fmt.Errorf("set age of processes to be read: %w", err)
	}
	if err := fit(spec); err != nil {
		return nil, err
	}
	for name, m := range shared {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	replaced := maps.Clone(shared)
	if err := set.join(spec, replaced); err != nil {
		return nil, err
	}
	g = &gate{rate: n * frequency, cpus: map[int]bool{}}
	options := &ebpf.CollectionOptions{MapReplacements: replaced}
	if !hasTypes() {
		// What reads fields of the kernel's structs is left out then; it must be loaded
		// all the same.
		options.Programs.KernelTypes = spec.Types
	}
	if err := spec.LoadAndAssign(&g.objects, options); err != nil {
		return nil, fmt.Errorf("load gate program: %w", err)
	}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if err := g.objects.Unwinder.Put(uint32(0), entry); err != nil {
		return nil, fmt.Errorf("join gate and unwinder: %w", err)
	}
	if g.known, err = shared["known"].Clone(); err != nil {
		return nil, fmt.Errorf("share the unwinder's map: %w", err)
	}
	if g.reader, err = ringbuf.NewReader(g.objects.Unknown); err != nil {
		return nil, fmt.Errorf("read samples of unknown processes: %w", err)
	}
	return g, nil
}

// fit fits programs in front of the unwinder to this machine.
func fit(spec *ebpf.CollectionSpec) error {
	if spec.Maps["drafts"] == nil {
		return nil // it reports no stacktraces
	}
	possible, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	online, err := onlineCPUs()
	if err != nil {
		return err
	}
	// A virtual machine may have hundreds of CPUs that are possible, and some that come
	// online later.
	spec.Maps["drafts"].MaxEntries = uint32(min(possible, 2*(slices.Max(online)+1)))
	types := hasTypes()
	for name, value := range map[string]bool{
		"arm64":        runtime.GOARCH == "arm64",
		"kernel_types": types,
		"keeps_stacks": types && tellsRegisters(),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// hasTypes reports whether the kernel describes its types.
func hasTypes() bool {
	_, err := btf.LoadKernelSpec()
	return err == nil
}

// tellsRegisters reports whether the kernel tells eBPF programs what registers a thread
// has in user space, from 5.15 on.
func tellsRegisters() bool {
	for _, f := range []asm.BuiltinFunc{asm.FnTaskPtRegs, asm.FnGetCurrentTaskBtf} {
		if features.HaveProgramHelper(ebpf.PerfEvent, f) != nil {
			return false
		}
	}
	return true
}

// Close stops the timers and frees what the gate holds.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, fd := range g.events {
		_ = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_DISABLE, 0)
		_ = unix.Close(fd)
	}
	g.events = nil
	if g.reader != nil {
		_ = g.reader.Close()
	}
	if g.known != nil {
		_ = g.known.Close()
	}
	return g.objects.Close()
}

// start starts the timers of the CPUs that are online and have none yet. It is
// called again to find CPUs that came later.
func (g *gate) start() error {
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	for _, cpu := range cpus {
		if g.cpus[cpu] {
			continue
		}
		fd, err := openTimer(cpu, g.rate)
		if err != nil {
			return fmt.Errorf("open timer of CPU %d: %w", cpu, err)
		}
		g.events = append(g.events, fd)
		if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, g.objects.Gate.FD()); err != nil {
			return fmt.Errorf("attach gate to CPU %d: %w", cpu, err)
		}
		if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
			return fmt.Errorf("start timer of CPU %d: %w", cpu, err)
		}
		g.cpus[cpu] = true
	}
	return nil
}

// openTimer opens a perf event that fires on a CPU whatever runs there; it is
// stopped.
func openTimer(cpu, rate int) (int, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Sample: uint64(rate),
		Bits:   unix.PerfBitDisabled | unix.PerfBitFreq,
	}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER0)
	return unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
}

// share prepares programs that use the unwinder as the gate does: the same table of
// processes and buffer of new ones. They measure the processes of a set, all if it is
// nil. They are loaded with what is returned.
func (g *gate) share(spec *ebpf.CollectionSpec, set *processSet) (*ebpf.CollectionOptions, error) {
	if err := fit(spec); err != nil {
		return nil, err
	}
	shared := map[string]*ebpf.Map{"known": g.known, "unknown": g.objects.Unknown}
	if err := set.join(spec, shared); err != nil {
		return nil, err
	}
	for name, m := range shared {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	return &ebpf.CollectionOptions{MapReplacements: shared}, nil
}

// An executableKey is struct file_key in bpf/gate.c.
type executableKey struct{ Inode, Device uint64 }

// An executableKind is what an executable runs, enum executable in bpf/gate.c.
type executableKind uint32

const (
	executableNative executableKind = iota + 1
	executableInterpreter
)

// noteExecutable notes what the executable of a process runs.
func (g *gate) noteExecutable(pid int, kind executableKind) error {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &st); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	device := uint64(unix.Major(st.Dev))<<20 | uint64(unix.Minor(st.Dev))
	return g.objects.Executables.Put(executableKey{st.Ino, device}, uint32(kind))
}

// news returns what was counted since the last call.
func (g *gate) news() (n counts) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		n, _ = g.counts.news(g.objects.Counts) // fails if it is closed
	}
	return n
}

// kernelFrames is the most that an unknownSample holds.
const kernelFrames = 127

// An origin says what an unknownSample is a sample of, in the order of enum origin in
// bpf/unwind.h.
type origin uint32

const (
	originCPU origin = iota
	originOffCPU
	originPageFaults
	originAlloc
)

// What is known of a leaf: nothing, as the thread was past its end in user space; its
// build ID and offset; or its address, which is in offset then.
const (
	leafNone     = 0
	buildIDValid = 1
)

// An unknownSample is a sample of a process that the unwinder did not know; the
// layout is struct unknown_sample in bpf/unwind.h, which the stack follows.
type unknownSample struct {
	Time          int64 // CLOCK_MONOTONIC, ns
	PID, TID, CPU uint32
	KernelFrames  uint32
	Origin        origin
	StackBytes    uint32
	Comm          [16]byte
	Leaf          leaf
	Kernel        [kernelFrames]uint64 // leaf first
	Registers     registers            // of user space
}

// A leaf is where the thread was in user space: struct bpf_stack_build_id.
type leaf struct {
	Status  int32
	BuildID [20]byte
	Offset  uint64 // in the file
}

// read returns the next sample of an unknown process, and the part of its stack that
// was kept, in buf. It blocks, and returns os.ErrClosed after Close.
func (g *gate) read(s *unknownSample, buf *ringbuf.Record) (stack []byte, err error) {
	if err := g.reader.ReadInto(buf); err != nil {
		if errors.Is(err, ringbuf.ErrClosed) {
			return nil, os.ErrClosed
		}
		return nil, fmt.Errorf("read samples of unknown processes: %w", err)
	}
	n, err := binary.Decode(buf.RawSample, binary.LittleEndian, s)
	if err != nil {
		return nil, fmt.Errorf("parse sample of an unknown process: %w", err)
	}
	s.KernelFrames = min(s.KernelFrames, kernelFrames)
	stack = buf.RawSample[n:]
	return stack[:min(len(stack), int(s.StackBytes))], nil
}

// ownProgram returns the newest eBPF program of that name that this process
// holds.
func ownProgram(name string) (*ebpf.Program, error) {
	return newestOwn("prog_id:", name, func(fd int) (*ebpf.Program, string, error) {
		p, err := ebpf.NewProgramFromFD(fd)
		if err != nil {
			return nil, "", err
		}
		info, err := p.Info()
		if err != nil {
			p.Close()
			return nil, "", err
		}
		return p, info.Name, nil
	})
}

// ownMap returns the newest eBPF map of that name that this process holds.
func ownMap(name string) (*ebpf.Map, error) {
	return newestOwn("map_id:", name, func(fd int) (*ebpf.Map, string, error) {
		m, err := ebpf.NewMapFromFD(fd)
		if err != nil {
			return nil, "", err
		}
		info, err := m.Info()
		if err != nil {
			m.Close()
			return nil, "", err
		}
		return m, info.Name, nil
	})
}

// newestOwn looks through this process' file descriptors for the eBPF object
// with the highest ID that has a name. The unwinder does not hand out its
// program and its maps, but what it holds are descriptors of this process.
// open is given a duplicate, which it owns.
func newestOwn[T interface{ Close() error }](field, name string, open func(fd int) (T, string, error)) (T, error) {
	var best T
	bestID := -1
	entries, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		return best, fmt.Errorf("list descriptors: %w", err)
	}
	for _, e := range entries {
		id := descriptorField("/proc/self/fdinfo/"+e.Name(), field)
		fd, err := strconv.Atoi(e.Name())
		if err != nil || id <= bestID {
			continue
		}
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue // closed meanwhile
		}
		object, objectName, err := open(dup)
		if err != nil {
			continue // another kind of object meanwhile
		}
		if objectName != name && objectName != name[:min(len(name), kernelName)] {
			object.Close()
			continue
		}
		if bestID >= 0 {
			best.Close()
		}
		best, bestID = object, id
	}
	if bestID < 0 {
		return best, fmt.Errorf("the unwinder holds no eBPF object named %s", name)
	}
	return best, nil
}

// descriptorField returns a number from a file in /proc/self/fdinfo, -1 if it
// is not there.
func descriptorField(path, field string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return -1
	}
	for ln := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(ln, field); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(rest)); err == nil {
				return n
			}
		}
	}
	return -1
}

// ownMapBytes is the kernel memory of the eBPF maps that this process holds.
func ownMapBytes() (sum int64) {
	entries, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		return 0
	}
	seen := map[int]bool{}
	for _, e := range entries {
		path := "/proc/self/fdinfo/" + e.Name()
		id := descriptorField(path, "map_id:")
		if id < 0 || seen[id] {
			continue
		}
		seen[id] = true
		sum += int64(max(0, descriptorField(path, "memlock:")))
	}
	return sum
}

// onlineCPUs lists the CPUs that run.
func onlineCPUs() ([]int, error) {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, fmt.Errorf("list CPUs: %w", err)
	}
	return parseCPUs(strings.TrimSpace(string(text)))
}

// parseCPUs reads a list such as 0-3,8.
func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		lo, err1 := strconv.Atoi(from)
		hi, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || lo < 0 || hi < lo || hi > 1<<16 {
			return nil, fmt.Errorf("parse list of CPUs %q", list)
		}
		for cpu := lo; cpu <= hi; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// pollInterval is how often the unwinder looks for stacktraces.
const pollInterval = 200 * time.Millisecond
