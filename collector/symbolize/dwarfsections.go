package symbolize

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/flameline/flameline/collector/untrusted"
)

// dwarfSections are the sections of DWARF that lines and inlined calls are read
// from, by their names without ".debug_", uncompressed.
type dwarfSections map[string][]byte

// usedSections are the names of sections that are read.
var usedSections = []string{"abbrev", "info", "line", "ranges", "str", "addr", "line_str", "str_offsets", "rnglists"}

// dwarfSuffix returns the name of a section of DWARF that has bytes in the file,
// without its prefix; "" for other sections.
func dwarfSuffix(s *elf.Section) string {
	if s.Type == elf.SHT_NOBITS {
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

// plainSize returns the bytes that a section has when it is not compressed,
// according to its headers.
func plainSize(s *elf.Section) uint64 {
	if strings.HasPrefix(s.Name, ".zdebug_") && s.ReaderAt != nil {
		// GNU's older form: "ZLIB" and the size, in big endian, before the data.
		var b [12]byte
		if n, _ := s.ReaderAt.ReadAt(b[:], 0); n == len(b) && string(b[:4]) == "ZLIB" {
			return binary.BigEndian.Uint64(b[4:])
		}
	}
	return s.Size
}

// readSections reads the sections of DWARF of a program or library. It returns
// nil if there is no debug information, or more than limit bytes of it,
// uncompressed. Object files, whose debug information is to be relocated, count
// as files without.
func readSections(f *elf.File, limit int64) (dwarfSections, error) {
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, nil
	}
	var total uint64
	sections := map[string]*elf.Section{}
	for _, s := range f.Sections {
		name := dwarfSuffix(s)
		if name == "" {
			continue
		}
		total += min(plainSize(s), 1<<40)
		if sections[name] == nil {
			sections[name] = s
		}
	}
	if sections["info"] == nil || plainSize(sections["info"]) == 0 || total > uint64(max(limit, 0)) {
		return nil, nil
	}
	out := dwarfSections{}
	for _, name := range usedSections {
		s := sections[name]
		if s == nil {
			continue
		}
		if err := untrusted.SectionError(s); err != nil {
			return nil, err
		}
		// The size is within limit, but still only what the headers say.
		size := plainSize(s)
		data, err := io.ReadAll(io.LimitReader(s.Open(), int64(size)))
		if err == nil && uint64(len(data)) < size {
			err = fmt.Errorf("%d bytes of %d: %w", len(data), size, untrusted.ErrMalformed)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Name, malformed(err))
		}
		out[name] = data
	}
	// debug/dwarf copies strings, each as often as it is referred to.
	cutStrings(out["str"])
	cutStrings(out["line_str"])
	return out, nil
}

// cutStrings ends every string of a section of strings after maxSymbolName
// bytes at the latest.
func cutStrings(data []byte) {
	run := 0
	for i, b := range data {
		switch {
		case b == 0:
			run = 0
		case run == maxSymbolName:
			data[i], run = 0, 0
		default:
			run++
		}
	}
}

// malformed marks an error of a decoder, which has no reason of its own, as the
// fault of the file.
func malformed(err error) error {
	if untrusted.Reason(err) != "" || errors.Is(err, errUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", untrusted.ErrMalformed, err)
}

// open hands the sections to debug/dwarf, once their units are checked. It
// returns the offset of each unit's first entry.
func (d dwarfSections) open(order binary.ByteOrder) (*dwarf.Data, []dwarf.Offset, error) {
	units, err := checkUnits(d["info"], d["abbrev"], order)
	if err != nil {
		return nil, nil, err
	}
	data, err := dwarf.New(d["abbrev"], nil, nil, d["info"], d["line"], nil, d["ranges"], d["str"])
	if err != nil {
		return nil, nil, malformed(err)
	}
	for _, name := range []string{"addr", "line_str", "str_offsets", "rnglists"} {
		if d[name] == nil {
			continue
		}
		if err := data.AddSection(".debug_"+name, d[name]); err != nil {
			return nil, nil, malformed(err)
		}
	}
	return data, units, nil
}
