//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"

	"github.com/flameline/flameline/collector/untrusted"
)

// goCode says how much of the stack each instruction of a Go program uses. It
// reads the runtime's function table (.gopclntab; Go 1.16 and later), in place:
// what it allocates does not depend on what the file says.
type goCode struct {
	file  *pfelf.File
	size  uint64 // of the file
	segs  []codeSegment
	count int    // functions
	text  uint64 // address that the entries of functions are relative to
	funcs []byte // where each function begins, and their records
	pcsp  []byte // the tables of stack use
	names []byte
	wide  bool // entries are addresses of 64 bits: before Go 1.18
	flags int  // offset of the flags in a function's record; 0: none
	unit  byte // bytes of the smallest instruction, in which the tables count
}

// A codeSegment is a part of the file that is loaded for execution.
type codeSegment struct{ addr, size uint64 }

// Facts about the function table.
const (
	// goMaxCode bounds what is copied of a file that could not be mapped.
	goMaxCode = 128 << 20 // bytes

	// A function may use this much of the stack, and assembly may pop as much
	// of what its caller has pushed.
	goMaxUsed   = 1<<31 - 16
	goMaxPopped = 1 << 10

	goMaxFunctionRuns = 1 << 16

	goFlagSPWrite = 2 // the function sets the stack pointer itself
	goRecordSize  = 44
)

var errNoGoCode = errors.New("no Go function table")

// openGoCode finds the table in a file, and returns errNoGoCode if there is
// none. It must not be used after the file was closed.
func openGoCode(ef *pfelf.File) (*goCode, error) {
	if ef.InsideCore || !ef.IsGolang() {
		return nil, errNoGoCode
	}
	size, err := untrusted.SizeOf(ef.Underlying())
	if err != nil {
		return nil, fmt.Errorf("read Go program: %w", err)
	}
	c := &goCode{file: ef, size: uint64(size), unit: 1}
	if ef.Machine == elf.EM_AARCH64 {
		c.unit = 4
	}
	for i := range ef.Progs {
		p := &ef.Progs[i]
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && c.holds(p.Off, p.Filesz) == nil {
			c.segs = append(c.segs, codeSegment{addr: p.Vaddr, size: p.Filesz})
		}
	}
	table, err := c.find()
	if err != nil {
		return nil, err
	}
	return c, c.readHeader(table)
}

// find returns the bytes from the table's begin on.
func (c *goCode) find() ([]byte, error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := c.file.Section(name); s != nil {
			return c.section(s)
		}
	}
	// Linkers put the table of position independent programs into another
	// section. It begins with its magic number, two zeros, the size of the
	// smallest instruction and that of a pointer.
	for i := range c.file.Progs {
		p := &c.file.Progs[i]
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X != 0 || p.Filesz == 0 {
			continue
		}
		if err := c.holds(p.Off, p.Filesz); err != nil {
			return nil, err
		}
		data, err := p.Data(goMaxCode)
		if err != nil {
			return nil, fmt.Errorf("read Go program: %w", err)
		}
		for from := 0; ; {
			i := bytes.Index(data[from:], []byte{0xff, 0xff, 0xff, 0, 0, c.unit, 8})
			if i < 0 {
				break
			}
			if i += from; i > 0 && (data[i-1] == goMagic116&0xff || data[i-1] == goMagic118&0xff || data[i-1] == goMagic&0xff) {
				return data[i-1:], nil
			}
			from = i + 1
		}
	}
	return nil, errNoGoCode
}

// section returns the bytes of a section.
func (c *goCode) section(s *pfelf.Section) ([]byte, error) {
	if s.Type == elf.SHT_NOBITS {
		return nil, fmt.Errorf("read Go program: section %s is not in the file", s.Name)
	}
	if err := c.holds(s.Offset, s.FileSize); err != nil || s.FileSize == 0 {
		return nil, err
	}
	if s.FileSize >= largeSection {
		// The library has read the section just before, into memory that it no longer
		// uses.
		debug.FreeOSMemory()
	}
	data, err := s.Data(goMaxCode)
	if err != nil {
		return nil, fmt.Errorf("read Go program: %w", err)
	}
	return data, nil
}

// largeSection is the size, in bytes, from which garbage is collected before a
// section is read: it costs less than making the table, and keeps the peak of memory
// low.
const largeSection = 4 << 20

// holds checks that bytes are within the file. The library does not.
func (c *goCode) holds(offset, size uint64) error {
	if offset > c.size || size > c.size-offset {
		return fmt.Errorf("read Go program: %#x bytes at %#x are outside of a file of %#x bytes", size, offset, c.size)
	}
	return nil
}

// readHeader finds the parts of the table.
func (c *goCode) readHeader(table []byte) error {
	if len(table) < goHeaderSize {
		return fmt.Errorf("read Go program: function table of %d bytes is too short", len(table))
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(table[8*i:]) }
	parts := 4 // where the offsets of the parts begin, in words
	switch magic := binary.LittleEndian.Uint32(table); magic {
	case goMagic116:
		c.wide, parts = true, 3
	case goMagic118:
		c.text, c.flags = word(3), 37
	case goMagic:
		c.text, c.flags = word(3), 41
	default:
		return fmt.Errorf("read Go program: function table %#x is not supported", magic)
	}
	if table[6] != c.unit {
		return fmt.Errorf("read Go program: function table: it is for instructions of %d bytes, the program has %d", table[6], c.unit)
	}
	names, units, pcsp, funcs := word(parts), word(parts+1), word(parts+3), word(parts+4)
	if names > units || units > pcsp || pcsp > funcs || funcs > uint64(len(table)) {
		return fmt.Errorf("read Go program: function table: parts at %#x, %#x, %#x, %#x of %#x bytes", names, units, pcsp, funcs, len(table))
	}
	c.names, c.pcsp, c.funcs = table[names:units], table[pcsp:funcs], table[funcs:]
	if n := word(1); n == 0 || n >= uint64(len(c.funcs))/uint64(c.entrySize()) {
		return fmt.Errorf("read Go program: function table: %d functions in %d bytes", n, len(c.funcs))
	}
	c.count = int(word(1))
	if c.text == 0 && !c.wide {
		// Since Go 1.26 the address is in the module data only.
		s := c.file.Section(".go.module")
		if s == nil {
			return errors.New("read Go program: function table: no address of the code")
		}
		data, err := c.section(s)
		if err != nil {
			return err
		}
		if len(data) < goTextField+8 {
			return fmt.Errorf("read Go program: module data of %d bytes is too short", len(data))
		}
		c.text = binary.LittleEndian.Uint64(data[goTextField:])
	}
	return nil
}

// loads reports whether the code between two addresses is in the file.
func (c *goCode) loads(from, to uint64) bool {
	return slices.ContainsFunc(c.segs, func(s codeSegment) bool {
		return from >= s.addr && from-s.addr < s.size && to >= from && to-s.addr <= s.size
	})
}

// code returns the machine code between two addresses; nil if it is not in the
// file.
func (c *goCode) code(from, to uint64) []byte {
	if !c.loads(from, to) {
		return nil
	}
	data, _ := c.file.VirtualMemory(int64(from), int(to-from), goMaxCode)
	return data
}

func (c *goCode) entrySize() int {
	if c.wide {
		return 16
	}
	return 8
}

// entry returns the address of function i, which is the end of the one before;
// that of c.count is the end of the last.
func (c *goCode) entry(i int) uint64 {
	p := c.funcs[i*c.entrySize():]
	if c.wide {
		return binary.LittleEndian.Uint64(p)
	}
	return c.text + uint64(binary.LittleEndian.Uint32(p))
}

// A goFunction is what the table says about one function.
type goFunction struct {
	start, end uint64
	name       []byte // begins with its name, which ends with a zero byte
	spWrite    bool   // it sets the stack pointer itself, as when it changes stacks
	pcsp       []byte // its table of stack use; nil if it has none
	unit       byte   // see goCode
}

// function returns function i.
func (c *goCode) function(i int) (f goFunction, err error) {
	f.start, f.end, f.unit = c.entry(i), c.entry(i+1), c.unit
	if f.end < f.start || f.end-f.start > 1<<31 {
		return f, fmt.Errorf("read Go program: function %d at %#x ends at %#x", i, f.start, f.end)
	}
	at, first := uint64(binary.LittleEndian.Uint32(c.funcs[i*c.entrySize()+4:])), 4
	if c.wide {
		at, first = binary.LittleEndian.Uint64(c.funcs[i*c.entrySize()+8:]), 8
	}
	if n := uint64(len(c.funcs)); n < goRecordSize || at > n-goRecordSize {
		return f, fmt.Errorf("read Go program: function %d at %#x has its record at %#x of %#x", i, f.start, at, n)
	}
	record := c.funcs[at:]
	field := func(i int) uint32 { return binary.LittleEndian.Uint32(record[first+4*i:]) }
	if name := field(0); uint64(name) < uint64(len(c.names)) {
		f.name = c.names[name:]
	}
	f.spWrite = c.flags != 0 && record[c.flags]&goFlagSPWrite != 0
	if pcsp := field(3); pcsp != 0 {
		if uint64(pcsp) >= uint64(len(c.pcsp)) {
			return f, fmt.Errorf("read Go program: function %d at %#x has its stack use at %#x of %#x", i, f.start, pcsp, len(c.pcsp))
		}
		f.pcsp = c.pcsp[pcsp:]
	}
	return f, nil
}

// is reports whether the function has a name.
func (f *goFunction) is(name string) bool {
	return len(f.name) > len(name) && f.name[len(name)] == 0 && string(f.name[:len(name)]) == name
}

// A stackRun is a range of addresses in which a function uses the same amount of
// stack.
type stackRun struct {
	start, end uint64
	used       int32 // bytes between the return address and the stack pointer
}

// runs appends the runs of a function, which may end before the function does,
// where padding follows.
func (f *goFunction) runs(rs []stackRun) ([]stackRun, error) {
	used, at := int32(-1), f.start
	for p := f.pcsp; len(p) > 0 && at < f.end; {
		change, n := binary.Uvarint(p)
		if n <= 0 {
			return nil, fmt.Errorf("read Go program: function at %#x: malformed stack use", f.start)
		}
		if change == 0 && at > f.start {
			break // the end
		}
		p = p[n:]
		length, n := binary.Uvarint(p)
		if n <= 0 || length == 0 || length > (f.end-at)/uint64(f.unit) {
			return nil, fmt.Errorf("read Go program: function at %#x: malformed stack use", f.start)
		}
		p = p[n:]
		length *= uint64(f.unit)
		used += int32(-(uint32(change) & 1) ^ (uint32(change) >> 1))
		if used < -goMaxPopped || used > goMaxUsed {
			return nil, fmt.Errorf("read Go program: function at %#x uses %d bytes of stack", f.start, used)
		}
		if len(rs) == goMaxFunctionRuns {
			return nil, fmt.Errorf("read Go program: function at %#x changes the stack more than %d times", f.start, goMaxFunctionRuns)
		}
		rs = append(rs, stackRun{start: at, end: at + length, used: used})
		at += length
	}
	return rs, nil
}
