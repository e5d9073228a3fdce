package usdt

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on what is read of one file.
const (
	maxNoteBytes = 4 << 20 // of all notes; those of a browser have some 100 KB
	maxProbes    = 64      // of the provider that is asked for
	maxArguments = 512     // bytes of a probe's description of its arguments
)

// Names in ELF files.
const (
	noteSection = ".note.stapsdt"
	baseSection = ".stapsdt.base"
	noteOwner   = "stapsdt"
	noteType    = 3
)

// A Probe is a place in a file's code. A probe that was inlined, or is in several
// functions, is there several times under the same name.
type Probe struct {
	Provider, Name string
	// Offset is that of the probe's instruction in the file, in bytes.
	Offset uint64
	// Semaphore is the offset in the file of a counter of 16 bits that the program asks
	// whether anyone listens; 0 if there is none.
	Semaphore uint64
	// Arguments describes where the arguments are; ParseArguments reads it.
	Arguments string
}

// Find returns the probes of a provider, in the order of their notes. The file comes from
// untrusted.NewELF. A file without notes has no probes. Errors wrap those of package
// untrusted and name the note by its offset in the section.
func Find(f *elf.File, provider string) ([]Probe, error) {
	var probes []Probe
	left := uint64(maxNoteBytes)
	for _, s := range f.Sections {
		if s.Name != noteSection || s.Type != elf.SHT_NOTE {
			continue
		}
		if err := untrusted.SectionError(s); err != nil {
			return nil, err
		}
		if s.Flags&elf.SHF_COMPRESSED != 0 {
			return nil, fmt.Errorf("section %s is compressed: %w", noteSection, untrusted.ErrMalformed)
		}
		if s.FileSize > left {
			return nil, fmt.Errorf("section %s: %d bytes: %w of %d", noteSection, s.FileSize, untrusted.ErrTooLarge, maxNoteBytes)
		}
		left -= s.FileSize
		data := make([]byte, s.FileSize)
		if n, err := s.ReadAt(data, 0); n < len(data) {
			return nil, fmt.Errorf("read section %s: %w", noteSection, err)
		}
		found, err := parseNotes(f, data, provider)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", noteSection, err)
		}
		if probes = append(probes, found...); len(probes) > maxProbes {
			return nil, fmt.Errorf("section %s: more than %d probes of %s: %w", noteSection, maxProbes, provider, untrusted.ErrTooLarge)
		}
	}
	return probes, nil
}

// parseNotes reads notes: the sizes of owner and description and a type, with 32 bits
// each, then owner and description, each filled up to a multiple of four bytes.
func parseNotes(f *elf.File, data []byte, provider string) (probes []Probe, err error) {
	align := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for at := uint64(0); uint64(len(data))-at >= 12; {
		start := at
		owner, description := f.ByteOrder.Uint32(data[at:]), f.ByteOrder.Uint32(data[at+4:])
		kind := f.ByteOrder.Uint32(data[at+8:])
		at += 12
		if align(owner)+uint64(description) > uint64(len(data))-at {
			return nil, fmt.Errorf("note at offset %d: %d bytes of owner and %d of description, %d are left: %w", start, owner, description, uint64(len(data))-at, untrusted.ErrMalformed)
		}
		name := string(bytes.TrimSuffix(data[at:at+uint64(owner)], []byte{0}))
		at += align(owner)
		body := data[at : at+uint64(description)]
		at += min(align(description), uint64(len(data))-at)
		if kind != noteType || name != noteOwner {
			continue
		}
		p, err := parseNote(f, body, provider)
		if err != nil {
			return nil, fmt.Errorf("note at offset %d: %w", start, err)
		}
		if p == nil {
			continue
		}
		if probes = append(probes, *p); len(probes) > maxProbes {
			return nil, fmt.Errorf("more than %d probes of %s: %w", maxProbes, provider, untrusted.ErrTooLarge)
		}
	}
	return probes, nil
}

// parseNote reads the description of a note: the addresses of the probe, of the section
// .stapsdt.base when the file was linked, and of the semaphore, then provider, name and
// arguments as strings that end in a zero. It returns nil for other providers.
func parseNote(f *elf.File, body []byte, provider string) (*Probe, error) {
	word := 8
	if f.Class == elf.ELFCLASS32 {
		word = 4
	}
	if len(body) < 3*word {
		return nil, fmt.Errorf("description of %d bytes: %w", len(body), untrusted.ErrMalformed)
	}
	texts := bytes.SplitN(body[3*word:], []byte{0}, 4)
	if len(texts) < 4 {
		return nil, fmt.Errorf("provider, name and arguments do not end: %w", untrusted.ErrMalformed)
	}
	if string(texts[0]) != provider {
		return nil, nil //nolint:nilnil // see above
	}
	if len(texts[2]) > maxArguments {
		return nil, fmt.Errorf("arguments of %d bytes: %w of %d", len(texts[2]), untrusted.ErrTooLarge, maxArguments)
	}
	p := &Probe{Provider: provider, Name: string(texts[1]), Arguments: string(texts[2])}
	location, base, semaphore := address(f.ByteOrder, body, word), address(f.ByteOrder, body[word:], word), address(f.ByteOrder, body[2*word:], word)
	// prelink moves the sections of a library and leaves the notes as they were.
	moved := uint64(0)
	if s := f.Section(baseSection); s != nil && base != 0 {
		moved = s.Addr - base
	}
	var ok bool
	if p.Offset, ok = offsetOf(f, location+moved, elf.PF_X); !ok {
		return nil, fmt.Errorf("probe %s at address %#x, which is not in the file's code: %w", quote(texts[1]), location+moved, untrusted.ErrMalformed)
	}
	if semaphore == 0 {
		return p, nil
	}
	if p.Semaphore, ok = offsetOf(f, semaphore+moved, elf.PF_W); !ok {
		return nil, fmt.Errorf("probe %s: semaphore at address %#x, which is not in the file's data: %w", quote(texts[1]), semaphore+moved, untrusted.ErrMalformed)
	}
	return p, nil
}

// quote returns a name of a stranger's for an error.
func quote(name []byte) string { return fmt.Sprintf("%.64q", name) }

// address reads an address of 4 or 8 bytes.
func address(order binary.ByteOrder, b []byte, word int) uint64 {
	if word == 4 {
		return uint64(order.Uint32(b))
	}
	return order.Uint64(b)
}

// offsetOf returns the offset in the file of an address in a loaded segment with a flag. It
// is neither 0, where the file's header is and which stands for no offset in most
// interfaces, nor beyond what the kernel counts as an offset.
func offsetOf(f *elf.File, addr uint64, flag elf.ProgFlag) (uint64, bool) {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&flag != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			offset := p.Off + (addr - p.Vaddr)
			return offset, offset > 0 && offset >= p.Off && offset <= math.MaxInt64
		}
	}
	return 0, false
}
