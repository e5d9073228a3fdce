//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/ebpf-profiler/host"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/lpm"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/processmanager/ebpfapi"
	"go.opentelemetry.io/ebpf-profiler/support"
	"go.opentelemetry.io/ebpf-profiler/tracer"
)

// Code of a JIT compiler that the unwinder has no support for looks to it as if
// it were in a file of jitBlock bytes, whose table says to walk by frame
// pointers everywhere. Its addresses in that file begin at jitAddress; a process
// has as many copies of the file as it needs.
const (
	jitFile    = host.FileID(0x666c616d656c6974)
	jitAddress = 1 << 31
	jitBlock   = 64 << 20
)

// Bounds of looking for such code.
const (
	maxJITProcesses = 256
	maxJITPrefixes  = 512      // in the kernel's table, of a process
	maxJITRuns      = 64       // ranges of a process that are looked at
	maxJITLookups   = 64       // parts of a range that are looked at
	maxJITSampled   = 64 << 10 // bytes of code that are looked at, of a mapping
	minJITPrefix    = 256 << 10
	firstJITWait    = 100 * time.Millisecond
	maxJITWait      = 30 * time.Second
	jitCleanup      = 5 * time.Second
)

// jitCode makes code known to the unwinder that JIT compilers write into unnamed
// memory. The unwinder learns of such memory only after samples in it were cut,
// page by page, and only for the runtimes that it supports. Here, the whole
// address range that a compiler has reserved becomes known at once: to be walked
// in the way of its first pages, or by frame pointers if the code keeps them.
type jitCode struct {
	maps     ebpfapi.EbpfHandler
	known    *ebpf.Map
	memories *remoteMemories
	log      *slog.Logger
	wanted   chan libpf.PID

	processes map[libpf.PID]*jitProcess // used by run alone
}

// A jitProcess is what is known of a process with JIT code.
type jitProcess struct {
	start    string // time of start, in ticks: tells processes with one number apart
	exe      string
	prefixes map[lpm.Prefix]bool
	next     time.Time // to look again
	wait     time.Duration
}

// newJITCode prepares a loaded unwinder. known is its table of mappings, which may be
// closed while run is at work.
func newJITCode(t *tracer.Tracer, known *ebpf.Map, memories *remoteMemories, log *slog.Logger) (*jitCode, error) {
	field, err := fieldOf[ebpfapi.EbpfHandler](t, "processManager", "ebpf")
	if err != nil {
		return nil, err
	}
	if known, err = known.Clone(); err != nil {
		return nil, fmt.Errorf("share the table of mappings: %w", err)
	}
	j := &jitCode{maps: *field, known: known, memories: memories, log: log,
		wanted: make(chan libpf.PID, 64), processes: map[libpf.PID]*jitProcess{}}
	rule := ebpfapi.StackDeltaEBPF{
		UnwindInfo: uint16(stackdeltatypes.UnwindInfoFramePointer.Param) | support.DeltaCommandFlag,
	}
	id, err := j.maps.UpdateExeIDToStackDeltas(jitFile, []ebpfapi.StackDeltaEBPF{rule})
	if err != nil {
		return nil, fmt.Errorf("add table for JIT code: %w", err)
	}
	pages := make([]uint16, jitBlock>>support.StackDeltaPageBits)
	pages[0] = 1
	if err := j.maps.UpdateStackDeltaPages(jitFile, pages, id, jitAddress); err != nil {
		return nil, fmt.Errorf("add pages for JIT code: %w", err)
	}
	return j, nil
}

// isJIT reports whether a frame of no mapping is in code that jitCode made known.
func isJIT(fr libpf.Frame) bool {
	return !fr.Mapping.Valid() && uint64(fr.AddressOrLineno) >= jitAddress-1 && uint64(fr.AddressOrLineno) < jitAddress+jitBlock
}

// look has the process of a stacktrace looked at if there is code in it that may
// be that of a JIT compiler. It does not block.
func (j *jitCode) look(t *libpf.EbpfTrace) {
	if int(t.NumKernelFrames) > len(t.FrameData) {
		return
	}
	for f := libpf.EbpfFrame(t.FrameData[t.NumKernelFrames:]); len(f) > 0; f = f[f.Length():] {
		n := f.Length()
		if n == 0 || int(n) > len(f) {
			return
		}
		cut := f.Flags().Error() && (f.Data() == codeNotKnown || f.Data() == codeUnnamed)
		if cut || f.Type() == libpf.V8Frame {
			select {
			case j.wanted <- t.PID:
			default:
			}
			return
		}
	}
}

// run looks at processes until ctx ends.
func (j *jitCode) run(ctx context.Context) {
	defer func() { _ = j.known.Close() }()
	tick := time.NewTicker(jitCleanup)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case pid := <-j.wanted:
			j.visit(pid, time.Now())
		case <-tick.C:
			j.cleanup()
		}
	}
}

// cleanup forgets processes that have ended, or run another program, and looks
// at the others again from time to time.
func (j *jitCode) cleanup() {
	now := time.Now()
	for pid, p := range j.processes {
		start, exe := identify(pid)
		if start == p.start && exe == p.exe {
			if len(p.prefixes) > 0 && now.Sub(p.next) > maxJITWait {
				j.visit(pid, now)
			}
			continue
		}
		for prefix := range p.prefixes {
			_ = j.maps.DeletePidInterpreterMapping(pid, prefix)
		}
		delete(j.processes, pid)
	}
}

// identify returns what tells a process from others of the same number.
func identify(pid libpf.PID) (start, exe string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", ""
	}
	// The name, in parentheses, may hold spaces.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const startTime = 19 // after the name
	if len(fields) <= startTime {
		return "", ""
	}
	exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return string(fields[startTime]), exe
}

// visit makes the JIT code of a process known.
func (j *jitCode) visit(pid libpf.PID, now time.Time) {
	p := j.processes[pid]
	if p == nil {
		if len(j.processes) >= maxJITProcesses {
			j.cleanup()
			if len(j.processes) >= maxJITProcesses {
				return
			}
		}
		p = &jitProcess{prefixes: map[lpm.Prefix]bool{}, wait: firstJITWait}
		if p.start, p.exe = identify(pid); p.start == "" {
			return
		}
		j.processes[pid] = p
	}
	if now.Before(p.next) {
		return
	}
	added, err := j.extend(pid, p)
	if err != nil {
		j.log.Debug("JIT code not made known", "pid", pid, "err", err)
	}
	// What could not be made known is looked at again, less and less often.
	if p.wait = min(2*p.wait, maxJITWait); added > 0 {
		p.wait = firstJITWait
		j.log.Debug("JIT code made known", "pid", pid, "prefixes", added)
	}
	p.next = now.Add(p.wait)
}

// extend adds the ranges of a process' JIT code to the unwinder's table, and
// returns how many prefixes it added.
func (j *jitCode) extend(pid libpf.PID, p *jitProcess) (added int, err error) {
	state := j.memories.of(pid)
	ms, err := ofMemory(j.memories, state, "mappings", func() ([]mapping, error) { return readMappings(pid) })
	if err != nil {
		return 0, err
	}
	marker, known := j.lookup(pid, 0)
	if !known {
		return 0, nil // the unwinder does not know the process
	}
	supported := marker.File_id&support.PIDPageMappingInfoFlagUsesAnonymousMappings != 0
	runs := unnamedRuns(ms)
	j.drop(pid, p, runs)
	for _, run := range runs {
		r := span{run[0].start, run[len(run)-1].end}
		var v8, unknown bool
		looked := 0
		for _, m := range run {
			if !m.executable || looked >= maxJITLookups {
				continue
			}
			looked++
			value, ok := j.lookup(pid, m.start)
			v8, unknown = v8 || ok && value == v8Mapping, unknown || !ok
		}
		var n int
		switch {
		case v8: // the pages that are yet to come
			n, err = j.add(pid, p, r, minJITPrefix, support.ProgUnwindV8)
		case unknown && !supported && j.keepsFramePointers(state, run):
			n, err = j.add(pid, p, r, 1, support.ProgUnwindNative)
		}
		if added += n; err != nil {
			return added, err
		}
	}
	return added, nil
}

// drop takes back what was added where there is other memory now.
func (j *jitCode) drop(pid libpf.PID, p *jitProcess, runs [][]mapping) {
	for prefix := range p.prefixes {
		if slices.ContainsFunc(runs, func(run []mapping) bool {
			return prefix.Key >= run[0].start && prefixEnd(prefix) <= run[len(run)-1].end
		}) {
			continue
		}
		_ = j.maps.DeletePidInterpreterMapping(pid, prefix)
		delete(p.prefixes, prefix)
	}
}

// prefixEnd returns the end of the addresses that a prefix is for.
func prefixEnd(p lpm.Prefix) uint64 { return p.Key + 1<<(64-p.Length) }

// v8Mapping is how the unwinder marks memory with code of V8.
var v8Mapping = support.PIDPageMappingInfo{Bias_and_unwind_program: uint64(support.ProgUnwindV8) << 56}

// lookup asks the unwinder's table for an address of a process; 0 stands for the
// process.
func (j *jitCode) lookup(pid libpf.PID, addr uint64) (v support.PIDPageMappingInfo, ok bool) {
	key := support.PIDPage{PrefixLen: 32 + 64, Pid: bits.ReverseBytes32(uint32(pid)), Page: bits.ReverseBytes64(addr)}
	err := j.known.Lookup(&key, &v)
	return v, err == nil
}

// add adds a range, in blocks of at least least bytes.
func (j *jitCode) add(pid libpf.PID, p *jitProcess, r span, least uint64, program uint8) (added int, err error) {
	r.start, r.end = (r.start+least-1)/least*least, r.end/least*least
	if r.start >= r.end {
		return 0, nil
	}
	var all []lpm.Prefix
	for at := r.start; at < r.end; {
		// No prefix is longer than a block of the file.
		end := min(at/jitBlock*jitBlock+jitBlock, r.end)
		prefixes, err := lpm.CalculatePrefixList(at, end)
		if err != nil {
			return 0, fmt.Errorf("split range 0x%x to 0x%x: %w", at, end, err)
		}
		if all = append(all, prefixes...); len(all) > maxJITPrefixes {
			return 0, fmt.Errorf("range 0x%x to 0x%x is too large", r.start, r.end)
		}
		at = end
	}
	for _, prefix := range all {
		if p.prefixes[prefix] {
			continue
		}
		if len(p.prefixes) >= maxJITPrefixes {
			return added, errors.New("too many ranges")
		}
		var file host.FileID
		var bias uint64
		if program == support.ProgUnwindNative {
			block := prefix.Key / jitBlock * jitBlock
			if block < jitAddress {
				continue // a bias cannot be negative
			}
			file, bias = jitFile, block-jitAddress
		}
		if err := j.maps.UpdatePidInterpreterMapping(pid, prefix, program, file, bias); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return added, fmt.Errorf("add prefix: %w", err)
		} else if err == nil {
			p.prefixes[prefix] = true
			added++
		}
	}
	return added, nil
}

// keepsFramePointers is the function keepsFramePointers with a bound on its time.
func (j *jitCode) keepsFramePointers(state *memoryState, run []mapping) bool {
	keeps, _ := ofMemory(j.memories, state, "code", func() (bool, error) { return keepsFramePointers(state.pid, run), nil })
	return keeps
}

// keepsFramePointers looks at code in the memory of a process.
func keepsFramePointers(pid libpf.PID, ms []mapping) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	s := scannerFor(map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH])
	buf := make([]byte, maxJITSampled)
	for budget := 16; budget > 0 && len(ms) > 0; ms = ms[1:] {
		if !ms[0].executable {
			continue
		}
		budget--
		n, _ := f.ReadAt(buf[:min(uint64(len(buf)), ms[0].end-ms[0].start)], int64(ms[0].start))
		s.scan(buf[:n], 0, n, ms[0].start, func(uint64, stackdeltatypes.UnwindInfo) {})
	}
	return keeps(s)
}
