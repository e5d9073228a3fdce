package untrusted

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds on an ELF file's tables, well beyond those of real programs. (Object
// files may have more sections; they do not run.)
const (
	maxSections     = 1 << 16
	maxLoads        = 512
	maxSectionNames = 4 << 20 // bytes of all names
	maxSectionName  = 4096    // bytes
)

// NewELF reads the headers of an ELF file, after it has compared what they claim
// with the size of the file: debug/elf allocates by the header. A section that
// claims bytes beyond the end of the file, or that has no place in memory, stays
// in the list without any bytes, and its ReaderAt says what is wrong: the other
// ones may be as good as ever.
func NewELF(r *Reader) (*elf.File, error) {
	h, err := readELFHeader(r)
	if err != nil {
		return nil, err
	}
	if err := h.check(r); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(r)
	if err != nil {
		// Our own errors say more than "malformed".
		if format := (*elf.FormatError)(nil); errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return nil, fmt.Errorf("read ELF headers: %w", err)
	}
	loads := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			loads++
		}
	}
	if loads > maxLoads {
		return nil, fmt.Errorf("read ELF headers: %d loaded segments: %w of %d", loads, ErrTooLarge, maxLoads)
	}
	for _, s := range f.Sections {
		switch {
		case s.Type == elf.SHT_NOBITS:
			// Nothing of it is in the file.
		case s.FileSize > uint64(r.size) || s.Offset > uint64(r.size)-s.FileSize:
			blank(s, fmt.Errorf("section %.64q claims %d bytes at offset %d of a file of %d: %w", s.Name, s.FileSize, s.Offset, r.size, ErrMalformed))
		case s.Addr+s.Size < s.Addr:
			blank(s, fmt.Errorf("section %.64q claims %d bytes at address %#x: %w", s.Name, s.Size, s.Addr, ErrMalformed))
		}
	}
	return f, nil
}

// blank leaves a section with no bytes but an error.
func blank(s *elf.Section, err error) {
	s.Size, s.FileSize, s.ReaderAt = 0, 0, noBytes{err}
}

// noBytes stands for the content of a section that lies.
type noBytes struct{ err error }

func (n noBytes) ReadAt([]byte, int64) (int, error) { return 0, n.err }

// SectionError returns what is wrong with a section that NewELF left without
// bytes, nil if nothing is.
func SectionError(s *elf.Section) error {
	if n, ok := s.ReaderAt.(noBytes); ok {
		return n.err
	}
	return nil
}

// A headerTable is where a file header says that a table of headers is.
type headerTable struct{ offset, entry, count uint64 }

// within returns an error if a table is not in a file of some size.
func (t headerTable) within(size int64, what string) error {
	if bytes := t.entry * t.count; t.count > 0 && (bytes > uint64(size) || t.offset > uint64(size)-bytes) {
		return fmt.Errorf("read ELF headers: %d %s headers at offset %d of a file of %d bytes: %w", t.count, what, t.offset, size, ErrMalformed)
	}
	return nil
}

// An elfHeader is what the file header of an ELF file says about its tables.
type elfHeader struct {
	order              binary.ByteOrder
	wide               bool // 64 bit
	programs, sections headerTable
	names              uint64 // index of the section with the names of sections
}

func readELFHeader(r io.ReaderAt) (*elfHeader, error) {
	var b [64]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n < 52 || string(b[:4]) != elf.ELFMAG {
		return nil, fmt.Errorf("read ELF headers: no ELF file: %w", ErrMalformed)
	}
	h := &elfHeader{wide: elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64, order: binary.LittleEndian}
	if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
		h.order = binary.BigEndian
	}
	short := func(i int) uint64 { return uint64(h.order.Uint16(b[i:])) }
	if h.wide {
		h.programs = headerTable{h.order.Uint64(b[32:]), short(54), short(56)}
		h.sections = headerTable{h.order.Uint64(b[40:]), short(58), short(60)}
		h.names = short(62)
	} else {
		h.programs = headerTable{uint64(h.order.Uint32(b[28:])), short(42), short(44)}
		h.sections = headerTable{uint64(h.order.Uint32(b[32:])), short(46), short(48)}
		h.names = short(50)
	}
	return h, nil
}

// check compares the tables with the size of the file.
func (h *elfHeader) check(r *Reader) error {
	programEntry, sectionEntry := uint64(56), uint64(64)
	if !h.wide {
		programEntry, sectionEntry = 32, 40
	}
	if h.programs.count > 0 && h.programs.entry != programEntry || h.sections.offset > 0 && h.sections.entry != sectionEntry {
		return fmt.Errorf("read ELF headers: program headers of %d and section headers of %d bytes: %w", h.programs.entry, h.sections.entry, ErrMalformed)
	}
	if err := h.programs.within(r.size, "program"); err != nil {
		return err
	}
	if h.sections.offset == 0 {
		return nil
	}
	if h.sections.count == 0 {
		// More sections than 16 bits can count: their number is in the first one.
		first, err := h.section(r, 0)
		if err != nil {
			return err
		}
		h.sections.count = first.size
		if h.names == uint64(elf.SHN_XINDEX) {
			h.names = uint64(first.link)
		}
	}
	if h.sections.count > maxSections {
		return fmt.Errorf("read ELF headers: %d sections: %w of %d", h.sections.count, ErrTooLarge, maxSections)
	}
	if err := h.sections.within(r.size, "section"); err != nil {
		return err
	}
	if h.names >= h.sections.count {
		return nil // which debug/elf names
	}
	names, err := h.section(r, h.names)
	switch {
	case err != nil:
		return err
	case elf.SectionFlag(names.flags)&elf.SHF_COMPRESSED != 0:
		return fmt.Errorf("read ELF headers: the names of sections are compressed: %w", ErrMalformed)
	case names.size > uint64(r.size) || names.offset > uint64(r.size)-names.size:
		return fmt.Errorf("read ELF headers: names of sections: %d bytes at offset %d of a file of %d: %w", names.size, names.offset, r.size, ErrMalformed)
	case names.size > maxSectionNames:
		return fmt.Errorf("read ELF headers: names of sections: %d bytes: %w of %d", names.size, ErrTooLarge, maxSectionNames)
	}
	return h.checkNames(r, names)
}

// checkNames makes sure that no section has a long name. debug/elf copies every
// name: all sections may claim the same megabytes.
func (h *elfHeader) checkNames(r *Reader, names sectionHeader) error {
	text := make([]byte, names.size)
	if n, err := r.ReadAt(text, int64(names.offset)); n < len(text) {
		return fmt.Errorf("read ELF headers: names of sections: %w", err)
	}
	headers := make([]byte, h.sections.count*h.sections.entry)
	if n, err := r.ReadAt(headers, int64(h.sections.offset)); n < len(headers) {
		return fmt.Errorf("read ELF headers: section headers: %w", err)
	}
	for i := range h.sections.count {
		at := uint64(h.order.Uint32(headers[i*h.sections.entry:]))
		if at >= uint64(len(text)) {
			continue // which debug/elf names
		}
		name := text[at:]
		if end := bytes.IndexByte(name[:min(len(name), maxSectionName)], 0); end < 0 {
			return fmt.Errorf("read ELF headers: section %d has a name of %d bytes or more: %w", i, min(len(name), maxSectionName), ErrMalformed)
		}
	}
	return nil
}

// A sectionHeader is a part of the header of a section.
type sectionHeader struct {
	flags, offset, size uint64
	link                uint32
}

// section reads the header of a section.
func (h *elfHeader) section(r *Reader, i uint64) (sectionHeader, error) {
	at := h.sections.offset + i*h.sections.entry
	if at > uint64(r.size) {
		return sectionHeader{}, fmt.Errorf("read ELF headers: section headers at offset %d of a file of %d bytes: %w", at, r.size, ErrMalformed)
	}
	var b [64]byte
	n := 64
	if !h.wide {
		n = 40
	}
	if _, err := r.ReadAt(b[:n], int64(at)); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("section headers at offset %d of a file of %d bytes: %w", at, r.size, ErrMalformed)
		}
		return sectionHeader{}, fmt.Errorf("read ELF headers: %w", err)
	}
	if h.wide {
		return sectionHeader{h.order.Uint64(b[8:]), h.order.Uint64(b[24:]), h.order.Uint64(b[32:]), h.order.Uint32(b[40:])}, nil
	}
	short := func(i int) uint64 { return uint64(h.order.Uint32(b[i:])) }
	return sectionHeader{short(8), short(16), short(20), h.order.Uint32(b[24:])}, nil
}
