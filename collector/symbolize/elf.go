package symbolize

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on what one binary may cost while its table is built. They are beyond
// any real binary (Chromium has some 1.2 million functions).
const (
	maxSymbols    = 4 << 20 // entries of a symbol table
	maxFunctions  = 2 << 20 // of those, functions
	maxNameBytes  = 256 << 20
	maxSymbolName = 64 << 10
	windowBytes   = 1 << 20
	entryBytes    = 128 << 10 // of a symbol table that are read at a time
)

var errNoSymbols = errors.New("no symbols")

// buildBudget is what reading one file for a table may cost.
var buildBudget = untrusted.Budget{Bytes: 2 << 30, Time: 15 * time.Second}

// A symbol is a function in a symbol table.
type symbol struct {
	addr uint64
	size uint32 // 0: unknown
	room uint32 // bytes to the end of the section
	name uint32 // offset in symbols.blob
	rank rank
}

// A rank orders aliases by what the symbol table says about them.
type rank uint8

const (
	rankGlobal   rank = 1 << iota // or weak, against local
	rankFunction                  // typed as a function, against untyped
	rankSymbol                    // from a symbol table, against a stub found by its code
)

// symbols collects functions from one or several symbol tables of a binary.
type symbols struct {
	list  []symbol
	blob  []byte
	debug *debugPlace // nil without debug information
}

// section returns the first section of a type that holds bytes in a file.
func section(f *elf.File, typ elf.SectionType) *elf.Section {
	i := slices.IndexFunc(f.Sections, func(s *elf.Section) bool { return s.Type == typ && s.FileSize > 0 })
	if i < 0 {
		return nil
	}
	return f.Sections[i]
}

// readAt reads bytes of a section, whose size is no larger than the file.
// Compressed sections, which hold nothing that we read, have none.
func readAt(sec *elf.Section, b []byte, off int64) (int, error) {
	if sec.ReaderAt == nil {
		return 0, fmt.Errorf("read %s: compressed", sec.Name)
	}
	return sec.ReaderAt.ReadAt(b, off)
}

// add reads the functions of a symbol table (SHT_SYMTAB or SHT_DYNSYM). A
// file without one adds none.
func (ss *symbols) add(f *elf.File, typ elf.SectionType) error {
	sec := section(f, typ)
	if sec == nil {
		return nil
	}
	if sec.Link == 0 || int(sec.Link) >= len(f.Sections) {
		return fmt.Errorf("read %s: no string table %d", sec.Name, sec.Link)
	}
	first := len(ss.list)
	err := ss.readEntries(f, sec)
	if err == nil {
		err = ss.readNames(newWindow(f.Sections[sec.Link]), first)
	}
	if err != nil {
		ss.list = ss.list[:first]
		return fmt.Errorf("read %s: %w", sec.Name, err)
	}
	return nil
}

// readEntries appends the functions of a symbol table, with the offset in the
// string table as name.
func (ss *symbols) readEntries(f *elf.File, sec *elf.Section) error {
	return eachFunction(f, sec, func(s symbol) error {
		if len(ss.list) >= maxFunctions {
			return fmt.Errorf("functions: %w of %d", untrusted.ErrTooLarge, maxFunctions)
		}
		ss.list = append(ss.list, s)
		return nil
	})
}

// eachFunction calls a function with every function of a symbol table, which has the
// offset in the string table as name, until it returns an error.
func eachFunction(f *elf.File, sec *elf.Section, found func(symbol) error) error {
	entry := elf.Sym64Size
	if f.Class == elf.ELFCLASS32 {
		entry = elf.Sym32Size
	}
	if sec.FileSize/uint64(entry) > maxSymbols {
		return fmt.Errorf("%d symbols: %w of %d", sec.FileSize/uint64(entry), untrusted.ErrTooLarge, maxSymbols)
	}
	executable := make([]bool, len(f.Sections))
	for i, s := range f.Sections {
		executable[i] = s.Flags&elf.SHF_EXECINSTR != 0
	}
	buf := make([]byte, min(entryBytes/entry*entry, int(sec.FileSize)))
	for off := int64(0); off < int64(sec.FileSize); off += int64(len(buf)) {
		n, err := readAt(sec, buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for b := buf[:n]; len(b) >= entry; b = b[entry:] {
			sym := decodeSymbol(f, b)
			typ, bind := elf.ST_TYPE(sym.Info), elf.ST_BIND(sym.Info)
			isFunction := typ == elf.STT_FUNC || typ == elf.STT_GNU_IFUNC
			if sym.Name == 0 || !isFunction && typ != elf.STT_NOTYPE {
				continue
			}
			// SHN_UNDEF and the reserved indexes have no code.
			if sym.Shndx == 0 || int(sym.Shndx) >= len(f.Sections) || !executable[sym.Shndx] {
				continue
			}
			in := f.Sections[sym.Shndx]
			if sym.Value < in.Addr || sym.Value-in.Addr >= in.Size {
				continue
			}
			room := min(in.Size-(sym.Value-in.Addr), 1<<32-1)
			s := symbol{
				addr: sym.Value,
				size: uint32(min(sym.Size, room)),
				room: uint32(room),
				name: sym.Name,
				rank: rankSymbol,
			}
			if isFunction {
				s.rank |= rankFunction
			}
			if bind != elf.STB_LOCAL {
				s.rank |= rankGlobal
			}
			if err := found(s); err != nil {
				return err
			}
		}
		if n < len(buf) {
			break
		}
	}
	return nil
}

func decodeSymbol(f *elf.File, b []byte) elf.Sym64 {
	if le := binary.LittleEndian; f.Class == elf.ELFCLASS64 && f.Data == elf.ELFDATA2LSB { // without calls of an interface
		return elf.Sym64{
			Name: le.Uint32(b), Info: b[4], Other: b[5], Shndx: le.Uint16(b[6:]),
			Value: le.Uint64(b[8:]), Size: le.Uint64(b[16:]),
		}
	}
	bo := f.ByteOrder
	if f.Class == elf.ELFCLASS32 {
		return elf.Sym64{
			Name: bo.Uint32(b), Value: uint64(bo.Uint32(b[4:])), Size: uint64(bo.Uint32(b[8:])),
			Info: b[12], Other: b[13], Shndx: bo.Uint16(b[14:]),
		}
	}
	return elf.Sym64{
		Name: bo.Uint32(b), Info: b[4], Other: b[5], Shndx: bo.Uint16(b[6:]),
		Value: bo.Uint64(b[8:]), Size: bo.Uint64(b[16:]),
	}
}

// readNames replaces string table offsets from list[first] on by offsets in
// the blob, and drops symbols that name no function. The string table is read
// once from front to back through a window; a name that is the tail of another
// shares its bytes, so the blob is never larger than the string table.
func (ss *symbols) readNames(names *window, first int) error {
	list := ss.list[first:]
	slices.SortFunc(list, func(a, b symbol) int { return cmp.Compare(a.name, b.name) })
	var (
		last, lastEnd  uint64 // bytes of the string table copied last
		lastPos        uint64 // where they are in the blob
		kept           = list[:0]
		haveLast       = false
		mappingOrLabel = func(name []byte) bool {
			return len(name) == 0 || bytes.HasPrefix(name, []byte(".L")) || bytes.HasPrefix(name, []byte(".annobin")) ||
				len(name) >= 2 && name[0] == '$' && (len(name) == 2 || name[2] == '.')
		}
	)
	ss.blob = slices.Grow(ss.blob, int(min(64*uint64(len(list)), names.sec.FileSize)))
	for _, s := range list {
		off := uint64(s.name)
		if !haveLast || off >= lastEnd {
			name, err := names.cstring(off)
			if err != nil {
				return err
			}
			if len(ss.blob)+len(name)+1 > maxNameBytes {
				return fmt.Errorf("names: %w of %d bytes", untrusted.ErrTooLarge, maxNameBytes)
			}
			haveLast, last, lastEnd, lastPos = true, off, off+uint64(len(name))+1, uint64(len(ss.blob))
			ss.blob = append(append(ss.blob, name...), 0)
		}
		pos := lastPos + off - last
		name := ss.blob[pos : lastPos+lastEnd-last-1]
		if mappingOrLabel(name) {
			continue
		}
		s.name = uint32(pos)
		kept = append(kept, s)
	}
	ss.list = ss.list[:first+len(kept)]
	return nil
}

// A window reads zero-terminated strings of a section at rising offsets.
type window struct {
	sec   *elf.Section
	step  uint64 // bytes that are read first; 0: windowBytes
	buf   []byte
	start uint64
}

func newWindow(sec *elf.Section) *window {
	return &window{sec: sec}
}

// cstring returns the string at an offset, cut at maxSymbolName. It is valid
// until the next call.
func (w *window) cstring(off uint64) ([]byte, error) {
	if off >= w.sec.FileSize {
		return nil, fmt.Errorf("offset %d beyond its %d bytes", off, w.sec.FileSize)
	}
	for _, size := range []uint64{cmp.Or(w.step, windowBytes), windowBytes, windowBytes} {
		if off >= w.start && off < w.start+uint64(len(w.buf)) {
			b := w.buf[off-w.start:]
			end := bytes.IndexByte(b, 0)
			if end >= 0 && end <= maxSymbolName {
				return b[:end], nil
			}
			if len(b) >= maxSymbolName {
				return b[:maxSymbolName], nil
			}
			if w.start+uint64(len(w.buf)) >= w.sec.FileSize {
				return b, nil
			}
		}
		if err := w.fill(off, size); err != nil {
			return nil, err
		}
	}
	return nil, io.ErrUnexpectedEOF
}

func (w *window) fill(off, size uint64) error {
	size = min(size, w.sec.FileSize-off)
	if uint64(cap(w.buf)) < size {
		w.buf = make([]byte, size)
	}
	n, err := readAt(w.sec, w.buf[:size], int64(off))
	w.buf, w.start = w.buf[:n], off
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return err
}

// table chooses among aliases and overlapping symbols and packs the result. ss
// must not be used afterwards.
func (ss *symbols) table() (*table, error) {
	if len(ss.list) == 0 {
		return nil, errNoSymbols
	}
	// Worst alias first: the index becomes the priority.
	slices.SortFunc(ss.list, func(a, b symbol) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		return ss.compareAliases(a, b)
	})
	sized := make([]span, 0, len(ss.list))
	for i, s := range ss.list {
		if s.size > 0 {
			sized = append(sized, span{start: s.addr, end: s.addr + uint64(s.size), name: s.name, priority: uint32(i)})
		}
	}
	spans := flatten(sized)
	spans = ss.fillGaps(spans)
	t := newTable(spans, ss.blob)
	t.debug = ss.debug
	return t, nil
}

// fillGaps adds the symbols of unknown size where no sized symbol is. Such a
// symbol reaches to the next symbol or to the end of its section. Markers end
// others, but name nothing.
func (ss *symbols) fillGaps(spans []span) []span {
	out := make([]span, 0, len(spans))
	next := 0 // first span that starts behind the symbol
	for i := 0; i < len(ss.list); {
		// The best alias at an address is the last.
		j := i
		for j+1 < len(ss.list) && ss.list[j+1].addr == ss.list[i].addr {
			j++
		}
		s, after := ss.list[j], j+1
		i = after
		for next < len(spans) && spans[next].start <= s.addr {
			out = append(out, spans[next])
			next++
		}
		if n := len(out); s.size > 0 || isMarker(ss.name(s)) || n > 0 && s.addr < out[n-1].end {
			continue
		}
		end := s.addr + uint64(s.room)
		if after < len(ss.list) {
			end = min(end, ss.list[after].addr)
		}
		if next < len(spans) {
			end = min(end, spans[next].start)
		}
		if end > s.addr {
			out = append(out, span{start: s.addr, end: end, name: s.name})
		}
	}
	return append(out, spans[next:]...)
}
