package symbolize

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on what is read of DWARF at once. Sections are read rather than mapped
// into memory: a page fault in a file whose file system does not answer would
// keep the whole collector from collecting garbage.
const (
	pageBytes   = 4 << 10 // of a section, read at once and kept
	keptPages   = 256     // of a section
	maxUnit     = 64 << 20
	maxLines    = 64 << 20 // of a line table
	maxAbbrevs  = 1 << 20  // bytes of one table of abbreviations
	maxList     = 1 << 20  // bytes of one list of ranges
	maxUnitHead = 64 << 10 // bytes of a unit's header and its first entry
	maxOneEntry = 64 << 10 // bytes of another entry that is read on its own
)

// usedSections are the names of sections that lines and inlined calls are read
// from, without ".debug_".
var usedSections = []string{"info", "abbrev", "line", "ranges", "str", "addr", "line_str", "str_offsets", "rnglists"}

// A dwarfSection is a section of DWARF, uncompressed, that is read in pieces. A
// nil section has no bytes. It is not safe for concurrent use.
type dwarfSection struct {
	name  string
	order binary.ByteOrder
	r     io.ReaderAt
	size  uint64
	pages []dwarfPage // by the number of the page modulo keptPages
	piece []byte      // bytes of several pages
	whole []byte      // what bytes returned
}

// A dwarfPage is a part of a section that begins at a multiple of pageBytes.
type dwarfPage struct {
	number uint64 // plus 1; 0: none
	data   []byte
}

// bytes reads n bytes at an offset, of which there must be most at most. They are
// valid until the next call.
func (s *dwarfSection) bytes(off, n, most uint64) ([]byte, error) {
	switch {
	case s == nil:
		return nil, fmt.Errorf("a section of DWARF is missing: %w", untrusted.ErrMalformed)
	case off > s.size || n > s.size-off:
		return nil, fmt.Errorf("%s: %d bytes at offset %d of %d: %w", s.name, n, off, s.size, untrusted.ErrMalformed)
	case n > most:
		return nil, fmt.Errorf("%s: %d bytes at offset %d: %w of %d", s.name, n, off, untrusted.ErrTooLarge, most)
	}
	s.whole = slices.Grow(s.whole[:0], int(n))[:n]
	if got, err := s.r.ReadAt(s.whole, int64(off)); got < len(s.whole) {
		return nil, s.failed(err)
	}
	return s.whole, nil
}

// failed returns the error of reading bytes that are there.
func (s *dwarfSection) failed(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = malformed(io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read %s: %w", s.name, err)
}

// at calls read with the bytes from an offset on: with few at first and, as long
// as it leaves its cursor bad, with more, up to most. The bytes are valid until
// the next call.
func (s *dwarfSection) at(off, most uint64, read func(c *dwarfCursor) error) error {
	if s == nil || off > s.size {
		return fmt.Errorf("DWARF: offset %d is beyond its section: %w", off, untrusted.ErrMalformed)
	}
	for n := uint64(512); ; n *= 8 {
		n = min(n, most, s.size-off)
		data, err := s.cached(off, n)
		if err != nil {
			return err
		}
		c := dwarfCursor{data: data, order: s.order}
		if err := read(&c); err != nil && !c.bad {
			return err
		}
		switch {
		case !c.bad:
			return nil
		case n == s.size-off:
			return fmt.Errorf("%s: what begins at offset %d of %d ends early: %w", s.name, off, s.size, untrusted.ErrMalformed)
		case n == most:
			return fmt.Errorf("%s: what begins at offset %d: %w of %d bytes", s.name, off, untrusted.ErrTooLarge, most)
		}
	}
}

// cached returns n bytes at an offset, which are there. They are valid until the
// next call.
func (s *dwarfSection) cached(off, n uint64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	first, last := off/pageBytes, (off+n-1)/pageBytes
	if first == last {
		page, err := s.page(first)
		if err != nil {
			return nil, err
		}
		return page[off%pageBytes:][:n], nil
	}
	if last-first >= 4 {
		s.piece = slices.Grow(s.piece[:0], int(n))[:n]
		if got, err := s.r.ReadAt(s.piece, int64(off)); got < len(s.piece) {
			return nil, s.failed(err)
		}
		return s.piece, nil
	}
	s.piece = s.piece[:0]
	for number := first; number <= last; number++ {
		page, err := s.page(number)
		if err != nil {
			return nil, err
		}
		if number == first {
			page = page[off%pageBytes:]
		}
		s.piece = append(s.piece, page...)
	}
	return s.piece[:n], nil
}

// page returns a page, which is shorter at the end of the section.
func (s *dwarfSection) page(number uint64) ([]byte, error) {
	if s.pages == nil {
		s.pages = make([]dwarfPage, keptPages)
	}
	p := &s.pages[number%keptPages]
	if p.number == number+1 {
		return p.data, nil
	}
	if p.data == nil {
		p.data = make([]byte, pageBytes)
	}
	start := number * pageBytes
	p.number, p.data = 0, p.data[:min(pageBytes, s.size-start)]
	if n, err := s.r.ReadAt(p.data, int64(start)); n < len(p.data) {
		return nil, s.failed(err)
	}
	p.number = number + 1
	return p.data, nil
}

// cstring returns the string at an offset, cut at most bytes. It is valid until the
// next call.
func (s *dwarfSection) cstring(off, most uint64) ([]byte, error) {
	var text []byte
	err := s.at(off, most+1, func(c *dwarfCursor) error {
		rest := c.data
		if text = c.cstring(); c.bad && uint64(len(rest)) > most {
			text, c.bad = rest[:most], false
		}
		return nil
	})
	return text, err
}

// number returns a number of some bytes at an offset.
func (s *dwarfSection) number(off, size uint64) (n uint64, err error) {
	err = s.at(off, size, func(c *dwarfCursor) error {
		n = c.unsigned(size)
		return nil
	})
	return n, err
}

// dwarfSuffix returns the name of a section of DWARF that has bytes in the file,
// without its prefix; "" for other sections.
func dwarfSuffix(s *elf.Section) string {
	if s.Type == elf.SHT_NOBITS || s.FileSize == 0 {
		return ""
	}
	if name, ok := strings.CutPrefix(s.Name, ".debug_"); ok {
		return name
	}
	name, _ := strings.CutPrefix(s.Name, ".zdebug_")
	if name == s.Name {
		return ""
	}
	return name
}

// hasDWARF reports whether a program or library has debug information. Object
// files, whose debug information is to be relocated, count as files without.
func hasDWARF(f *elf.File) bool {
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return false
	}
	for _, s := range f.Sections {
		if dwarfSuffix(s) == "info" {
			return true
		}
	}
	return false
}

// A dwarfFile is the DWARF of an open file. It is not safe for concurrent use.
type dwarfFile struct {
	order    binary.ByteOrder
	sections map[string]*dwarfSection
	steps    *stepCounter
	index    *unitIndex
	abbrevs  map[uint64]*abbrevTable // by offset; those of some units
	units    map[uint64]*dwarfUnit   // by offset; some
	alt      *dwarfFile              // that dwz moved entries to; nil without one
	isAlt    bool
	buffers  unitBuffers
}

// newDWARF describes the DWARF of a file, whose compressed sections are in
// inflated.
func newDWARF(f *elf.File, inflated *inflated, steps *stepCounter) (*dwarfFile, error) {
	d := &dwarfFile{
		order: f.ByteOrder, steps: steps, sections: map[string]*dwarfSection{},
		abbrevs: map[uint64]*abbrevTable{}, units: map[uint64]*dwarfUnit{},
	}
	for _, s := range f.Sections {
		name := dwarfSuffix(s)
		if name == "" || d.sections[name] != nil {
			continue
		}
		if err := untrusted.SectionError(s); err != nil {
			return nil, err
		}
		section := &dwarfSection{name: s.Name, order: f.ByteOrder, r: s, size: s.FileSize}
		if compression(s) != uncompressed {
			part, ok := inflated.part(name)
			if !ok {
				continue // one that is not used
			}
			section.r, section.size = part, uint64(part.Size())
		}
		d.sections[name] = section
	}
	return d, nil
}

// A stepCounter bounds what reading DWARF costs: a few bytes can ask for the same
// work again and again.
type stepCounter struct {
	n     int64
	check func() error // whether there is time left
}

// add counts steps, and returns an error if they are too many or take too long.
func (s *stepCounter) add(n int64) error {
	before := s.n
	if s.n += n; s.n > maxSteps {
		return fmt.Errorf("read DWARF: %w of %d", errSteps, maxSteps)
	}
	if s.n/checkEvery != before/checkEvery {
		return s.check()
	}
	return nil
}

// errSteps says that maxSteps are taken. Unlike other bounds, it is not of one unit.
var errSteps = fmt.Errorf("number of steps %w", untrusted.ErrTooLarge)

// malformed marks an error of a decoder, which has no reason of its own, as the
// fault of the file.
func malformed(err error) error {
	if err != nil && untrusted.Reason(err) != "" {
		return err
	}
	return fmt.Errorf("%w: %w", untrusted.ErrMalformed, err)
}
