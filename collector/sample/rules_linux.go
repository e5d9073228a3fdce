//go:build linux && (amd64 || arm64)

package sample

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path"
	"slices"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/reporter"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds of the unwind tables that are kept here.
const (
	maxRuleBytes     = 8 << 20 // of all files
	maxRuleFileBytes = 4 << 20 // of one
	maxRuleCode      = 96 << 20
	noRulesTime      = time.Minute // until a file that has none is asked again
)

// rules are the unwind table of a file in little memory: six bytes for each address from
// which another rule holds.
type rules struct {
	segments []segment
	base     uint64   // of starts
	starts   []uint32 // addresses less base, rising
	which    []uint16 // of infos
	infos    []stackdeltatypes.UnwindInfo
}

// errRulesTooLarge is the error of a table that would take too much memory.
var errRulesTooLarge = errors.New("unwind table is too large to be kept")

// compact returns a library's table in less memory.
func compact(table *stackdeltatypes.IntervalData, ss []segment) (*rules, error) {
	r := &rules{segments: ss}
	if len(table.Blocks) == 0 {
		return r, nil
	}
	r.base = table.Blocks[0].Start
	if n := int(table.NumDeltas) + len(table.Blocks); n*6 > maxRuleFileBytes {
		return nil, fmt.Errorf("%w: %d rules", errRulesTooLarge, n)
	}
	number := map[stackdeltatypes.UnwindInfo]uint16{}
	add := func(addr uint64, info stackdeltatypes.UnwindInfo) error {
		i, ok := number[info]
		if !ok {
			if len(r.infos) > math.MaxUint16 {
				return fmt.Errorf("%w: %d different rules", errRulesTooLarge, len(r.infos))
			}
			i = uint16(len(r.infos))
			number[info], r.infos = i, append(r.infos, info)
		}
		last := len(r.starts) - 1
		if addr < r.base || addr-r.base > math.MaxUint32 || last >= 0 && addr < r.base+uint64(r.starts[last]) {
			return fmt.Errorf("unwind table is not in order at 0x%x", addr)
		}
		if start := uint32(addr - r.base); last >= 0 && r.starts[last] == start {
			r.which[last] = i
		} else {
			r.starts, r.which = append(r.starts, start), append(r.which, i)
		}
		return nil
	}
	for _, b := range table.Blocks {
		for _, d := range b.Deltas {
			if err := add(b.Start+uint64(d.Offset), d.Info); err != nil {
				return nil, err
			}
		}
		if err := add(b.End, stackdeltatypes.UnwindInfoInvalid); err != nil {
			return nil, err
		}
	}
	r.starts, r.which, r.infos = slices.Clip(r.starts), slices.Clip(r.which), slices.Clip(r.infos)
	return r, nil
}

// bytes returns about what memory the rules take.
func (r *rules) bytes() int { return 256 + 4*len(r.starts) + 2*len(r.which) + 12*len(r.infos) }

// at returns the rule at an offset in the file, false if there is none.
func (r *rules) at(offset uint64) (stackdeltatypes.UnwindInfo, bool) {
	addr, ok := executable{segments: r.segments}.address(offset)
	if !ok || addr < r.base || addr-r.base > math.MaxUint32 {
		return stackdeltatypes.UnwindInfo{}, false
	}
	i, ok := slices.BinarySearch(r.starts, uint32(addr-r.base))
	if !ok {
		i--
	}
	if i < 0 {
		return stackdeltatypes.UnwindInfo{}, false
	}
	return r.infos[r.which[i]], true
}

// ruleCache keeps the rules of files that were needed lately.
type ruleCache struct {
	byFile map[fileKey]*keptRules
	bytes  int
}

// keptRules are those of a file, nil if it has none.
type keptRules struct {
	rules *rules
	used  time.Time
	until time.Time // for nil
}

// get returns the rules of a file; false if they are not known.
func (c *ruleCache) get(k fileKey, now time.Time) (*rules, bool) {
	kept := c.byFile[k]
	if kept == nil || kept.rules == nil && now.After(kept.until) {
		return nil, false
	}
	kept.used = now
	return kept.rules, true
}

// put keeps the rules of a file, and drops those that were not used for longest.
func (c *ruleCache) put(k fileKey, r *rules, now time.Time) {
	if c.byFile == nil {
		c.byFile = map[fileKey]*keptRules{}
	}
	c.drop(k)
	kept := &keptRules{rules: r, used: now, until: now.Add(noRulesTime)}
	c.byFile[k] = kept
	c.bytes += kept.bytes()
	for c.bytes > maxRuleBytes {
		oldest := k
		for k, kept := range c.byFile {
			if kept.used.Before(c.byFile[oldest].used) {
				oldest = k
			}
		}
		c.drop(oldest)
	}
}

// drop forgets a file.
func (c *ruleCache) drop(k fileKey) {
	if kept := c.byFile[k]; kept != nil {
		c.bytes -= kept.bytes()
		delete(c.byFile, k)
	}
}

func (k *keptRules) bytes() int {
	if k.rules == nil {
		return 256
	}
	return k.rules.bytes()
}

// A ruleReader reads the rules of files, within the bounds that a processReader has. It is
// used by one goroutine.
type ruleReader struct {
	processReader // that reads no processes
	tables        nativeunwind.StackDeltaProvider
	binaries      *binaries
}

func newRuleReader(tables nativeunwind.StackDeltaProvider, b *binaries, memories *remoteMemories, m *metrics, l *slog.Logger) *ruleReader {
	return &ruleReader{tables: tables, binaries: b, processReader: processReader{
		guard:    untrusted.Guard{Limit: fileTimeout, Stuck: maxStuck, Shorten: true},
		maps:     untrusted.Guard{Limit: listTimeout, Stuck: maxStuckMemory, Shorten: true},
		memories: memories, files: newFileChecks(m, l), metrics: m, log: l,
	}}
}

// rules reads the rules of a file that a process maps. It makes the file known to the
// symbolizer, if no process that lived longer did.
func (r *ruleReader) rules(pid libpf.PID, m codeMapping) (found *rules, err error) {
	if m.end-m.start > maxRuleCode {
		return nil, fmt.Errorf("%w: 0x%x bytes of code", errRulesTooLarge, m.end-m.start)
	}
	var errs []error
	for _, o := range r.openings(pid, m) {
		err := errPanicked
		r.guarded(func() { found, err = r.open(o) })
		if err == nil {
			return found, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// errPanicked is the error of a file that made its reader panic.
var errPanicked = errors.New("reading the file panicked")

// An opening is a way to open a file: as a process has it mapped.
type opening struct {
	process process.Process
	mapping process.RawMapping
}

// openings returns the ways to open a mapped file: as its process has it, and if that has
// ended, by its path, where it is the same file.
func (r *ruleReader) openings(pid libpf.PID, m codeMapping) []opening {
	own := os.Getpid()
	if m.path == process.VdsoPathName {
		// It is the same in all processes.
		ms, _ := readCodeMappings(own)
		i := slices.IndexFunc(ms, func(m codeMapping) bool { return m.path == process.VdsoPathName })
		if i < 0 {
			return nil
		}
		return []opening{{r.checked(process.New(libpf.PID(own), libpf.PID(own))), ms[i].raw()}}
	}
	all := []opening{{r.checked(process.New(pid, pid)), m.raw()}}
	byPath := m.raw()
	byPath.Vaddr, byPath.Length = 0, 0
	for _, root := range []libpf.PID{1, libpf.PID(own)} {
		all = append(all, opening{pathProcess{r.checked(process.New(root, root))}, byPath})
	}
	return all
}

// A pathProcess is a process in whose root files of others are opened by their paths.
type pathProcess struct{ *checkedProcess }

// OpenMappingFile opens a file if it is the one that was mapped.
func (p pathProcess) OpenMappingFile(m *process.RawMapping) (process.ReadAtCloser, error) {
	name := m.Path
	f, err := p.open(name, unknownDevice, func() (*os.File, error) {
		return openRegularIn(fmt.Sprintf("/proc/%d/root", p.PID()), name)
	})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.file.Fd()), &st); err == nil && keyOf(&st) != (fileKey{m.Device, m.Inode}) {
		err = fmt.Errorf("%s is another file for process %d: %w", name, p.PID(), os.ErrNotExist)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// keyOf returns the key of a file as it is in /proc/PID/maps.
func keyOf(st *unix.Stat_t) fileKey {
	return fileKey{device: uint64(unix.Major(st.Dev))<<8 + uint64(unix.Minor(st.Dev)), inode: st.Ino}
}

// open makes rules of a file.
func (r *ruleReader) open(o opening) (*rules, error) {
	ref := pfelf.NewReferenceWithOpenFunc(o.mapping.Path, o.process, func() (*pfelf.File, error) {
		return process.OpenELFMapping(o.process, &o.mapping)
	})
	defer ref.Close()
	f, err := ref.GetELF()
	if err != nil {
		return nil, err
	}
	table, err := r.tables.GetIntervalDataForFile(ref)
	if err != nil {
		return nil, err
	}
	if err := r.report(o, f); err != nil {
		r.log.Debug("binary of a process that ended is not named", "file", o.mapping.Path, "err", err)
	}
	var ss []segment
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			ss = append(ss, segment{offset: p.Off, size: p.Filesz, address: p.Vaddr})
		}
	}
	return compact(table, ss)
}

// report makes a file known as the library does once it knows a process.
func (r *ruleReader) report(o opening, f *pfelf.File) error {
	if r.binaries.has(fileKey{o.mapping.Device, o.mapping.Inode}) {
		return nil
	}
	id, err := fileID(o)
	if err != nil {
		return err
	}
	data := libpf.FrameMappingFileData{FileID: id, FileName: libpf.Intern(path.Base(o.mapping.Path))}
	data.GnuBuildID, _ = f.GetBuildID()
	if f.IsGolang() {
		data.GoBuildID, _ = f.GetGoBuildID()
	}
	r.binaries.add(&reporter.ExecutableMetadata{
		MappingFile: libpf.NewFrameMappingFile(data), Process: o.process, Mapping: &o.mapping,
	})
	return nil
}

// fileID returns what identifies the content of a file.
func fileID(o opening) (libpf.FileID, error) {
	if o.mapping.IsVDSO() {
		return o.process.CalculateMappingFileID(&o.mapping)
	}
	file, err := o.process.OpenMappingFile(&o.mapping)
	if err != nil {
		return libpf.FileID{}, err
	}
	defer file.Close()
	size, err := untrusted.SizeOf(file)
	if err != nil {
		return libpf.FileID{}, err
	}
	return libpf.FileIDFromExecutableReader(io.NewSectionReader(file, 0, size))
}
