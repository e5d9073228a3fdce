package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on a Go program, well beyond real ones: the largest have some hundred
// thousand functions.
const (
	goMaxFuncs  = 4 << 20
	goMaxTable  = 2 << 30  // bytes
	goMaxSearch = 64 << 20 // bytes that are searched for the module data
	goWindow    = 1 << 20
)

// A goLayout is what differs between versions of the function table.
type goLayout struct {
	magic uint32
	// wide says that the list of functions has addresses and offsets of 64 bits,
	// and that records point to their funcdata. Else it has 32 bits, from the
	// start of the code and of the funcdata on.
	wide   bool
	record int64 // bytes of the fixed part of a function's record, less 4 if wide
	gofunc int   // offset of the address of funcdata in the module data; 0: wide

	inlineSize int64 // bytes of the record of an inlined call
	inlineName int64 // offset of its name there; the caller's place follows
}

// Magic numbers of the function table, by the version that has it first.
const (
	goMagic116 = 0xfffffffa
	goMagic118 = 0xfffffff0
	goMagic    = 0xfffffff1 // Go 1.20
)

// goLayouts are the known versions: _func, inlinedCall and moduledata in Go's
// runtime/runtime2.go and symtab.go.
var goLayouts = []goLayout{
	{magic: goMagic116, wide: true, record: 40, inlineSize: 20, inlineName: 12},
	{magic: goMagic118, record: 40, gofunc: 304, inlineSize: 20, inlineName: 12},
	{magic: goMagic, record: 44, gofunc: 320, inlineSize: 16, inlineName: 4},
}

// entrySize is the size of an entry of the list of functions, in bytes.
func (l goLayout) entrySize() int64 {
	if l.wide {
		return 16
	}
	return 8
}

// moduleSize is the size of what is read of the module data, in bytes.
func (l goLayout) moduleSize() int64 { return int64(l.gofunc) + 8 }

// goOpening bounds what finding the tables of a Go program may cost.
var goOpening = untrusted.Budget{Bytes: 128 << 20, Time: 5 * time.Second}

// errNoGoTable says that a file is no Go program, or one of another version of Go
// than those that are known.
var errNoGoTable = errors.New("no known Go function table")

// openGoTable finds the tables of a Go program. It keeps the reader, which must
// be a regular file or memory. What it reads and allocates is bounded by
// goOpening and by the size of the file, whatever the file's headers say.
func openGoTable(r io.ReaderAt) (*goTable, error) {
	size, err := untrusted.SizeOf(r)
	if err != nil {
		return nil, fmt.Errorf("read Go program: %w", err)
	}
	in := untrusted.NewReader(r, size, goOpening)
	f, err := untrusted.NewELF(in)
	if err != nil {
		return nil, fmt.Errorf("read Go program: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("read Go program: %v %v: %w", f.Class, f.Data, errNoGoTable)
	}
	section := f.Section(".gopclntab")
	if section == nil {
		section = f.Section(".data.rel.ro.gopclntab")
	}
	if section == nil || section.Type == elf.SHT_NOBITS {
		return nil, fmt.Errorf("read Go program: no .gopclntab: %w", errNoGoTable)
	}
	if err := untrusted.SectionError(section); err != nil {
		return nil, fmt.Errorf("read Go program: %w", err)
	}
	if section.Addr == 0 {
		return nil, fmt.Errorf("read Go program: .gopclntab is at no address: %w", errGoTable)
	}
	if section.FileSize > goMaxTable {
		return nil, fmt.Errorf("read Go program: .gopclntab of %d bytes: %w of %d", section.FileSize, untrusted.ErrTooLarge, goMaxTable)
	}
	t := &goTable{file: in, header: int64(section.Offset), size: int64(section.FileSize)}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			t.loads = append(t.loads, p.ProgHeader)
		}
	}
	if err := t.readHeader(); err != nil {
		return nil, fmt.Errorf("read Go program: %w", err)
	}
	if t.layout.wide {
		if err := t.findText(); err != nil {
			return nil, fmt.Errorf("read Go program: %w", err)
		}
	} else if err := t.findModule(f, section.Addr); err != nil {
		return nil, err
	}
	// Looking up addresses has a budget of its own.
	t.file = untrusted.NewReader(r, size, untrusted.Budget{})
	return t, nil
}

// readHeader reads the header of the function table.
func (t *goTable) readHeader() error {
	h := make([]byte, goHeaderSize)
	if err := t.read(h, 0); err != nil {
		return err
	}
	word := func(i int) int64 { return int64(binary.LittleEndian.Uint64(h[8+8*i:])) }
	magic := binary.LittleEndian.Uint32(h)
	at := slices.IndexFunc(goLayouts, func(l goLayout) bool { return l.magic == magic })
	if at < 0 || h[7] != 8 {
		return fmt.Errorf("function table %#x: %w", magic, errNoGoTable)
	}
	t.layout = goLayouts[at]
	t.quantum = uint64(h[6])
	if t.quantum != 1 && t.quantum != 2 && t.quantum != 4 {
		return fmt.Errorf("instructions of %d bytes: %w", t.quantum, errGoTable)
	}
	first := 3 // behind the numbers of functions and files, and the address of the code
	if t.layout.wide {
		first = 2 // no such address
	}
	t.names, t.units, t.files, t.values, t.funcs = word(first), word(first+1), word(first+2), word(first+3), word(first+4)
	for _, offset := range []int64{t.names, t.units, t.files, t.values, t.funcs} {
		if offset < 8+8*int64(first+5) || offset >= t.size {
			return fmt.Errorf("part at offset %d of %d bytes: %w", offset, t.size, errGoTable)
		}
	}
	if n := word(0); n < 0 || n > (t.size-t.funcs)/t.layout.entrySize() || n > goMaxFuncs {
		return fmt.Errorf("%d functions in %d bytes: %w", n, t.size-t.funcs, errGoTable)
	}
	t.count = int(word(0))
	return nil
}

// findText takes the address of the code from the first function, where the list
// of functions has addresses. In a position independent program the linker may
// have left them to the loader.
func (t *goTable) findText() error {
	var p [8]byte
	if err := t.read(p[:], t.funcs); err != nil {
		return err
	}
	t.text = binary.LittleEndian.Uint64(p[:])
	if _, isCode := t.offset(t.text); t.text == 0 || !isCode {
		return fmt.Errorf("first function at address %#x: %w", t.text, errNoGoTable)
	}
	return nil
}

// findModule finds the program's module data, which begins with a pointer to
// the function table, and takes the addresses of the code and of funcdata from
// it. It reads the writable sections through a window, the one that is made for
// the module data first.
func (t *goTable) findModule(f *elf.File, table uint64) error {
	sections := slices.Clone(f.Sections)
	slices.SortStableFunc(sections, func(a, b *elf.Section) int {
		return compareBool(b.Name == ".go.module", a.Name == ".go.module")
	})
	left := int64(goMaxSearch)
	for _, s := range sections {
		if s.Type != elf.SHT_PROGBITS || s.Flags&(elf.SHF_WRITE|elf.SHF_COMPRESSED) != elf.SHF_WRITE || int64(s.FileSize) < t.layout.moduleSize() || left <= 0 {
			continue
		}
		size := min(int64(s.FileSize), left)
		left -= size
		found, err := t.searchModule(io.NewSectionReader(s.ReaderAt, 0, size), size, table)
		if found || err != nil {
			return err
		}
	}
	return fmt.Errorf("read Go program: no module data in %d bytes: %w", int64(goMaxSearch)-left, errNoGoTable)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// searchModule looks for the module data in a section.
func (t *goTable) searchModule(section io.ReaderAt, size int64, table uint64) (found bool, err error) {
	pointer := binary.LittleEndian.AppendUint64(nil, table)
	window := make([]byte, min(size, goWindow))
	module := t.layout.moduleSize()
	for at := int64(0); size-at >= module; {
		data := window[:min(int64(len(window)), size-at)]
		if n, err := section.ReadAt(data, at); n < len(data) {
			return false, fmt.Errorf("read Go program: module data: %w", err)
		}
		for from := 0; ; {
			i := bytes.Index(data[from:], pointer)
			if i < 0 || int64(len(data)-from-i) < module {
				break
			}
			i += from
			from = i + 1
			if (at+int64(i))%8 != 0 {
				continue
			}
			t.text = binary.LittleEndian.Uint64(data[i+goTextField:])
			t.gofunc = binary.LittleEndian.Uint64(data[i+t.layout.gofunc:])
			_, isCode := t.offset(t.text)
			_, isData := t.offset(t.gofunc)
			if isCode && isData {
				return true, nil
			}
		}
		if at+int64(len(data)) >= size {
			break
		}
		// What begins near the end of this window is whole in the next one.
		at += (int64(len(data)) - module) &^ 7
	}
	return false, nil
}
