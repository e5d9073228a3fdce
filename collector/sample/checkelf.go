package sample

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on the parts of an ELF file that the unwinder reads whole, or allocates
// for by what they claim. Those of real programs have some KB.
const (
	maxNoteBytes    = 1 << 20
	maxNoteParts    = 64
	maxDynamicBytes = 1 << 20
	maxDebugLink    = 4096
)

// checkELF returns an error if an ELF file contradicts itself or its size in a
// way that has the unwinder's library panic, allocate by what the file claims or
// read for minutes. The library would do so on its own goroutine.
func checkELF(r *untrusted.Reader) error {
	f, err := untrusted.NewELF(r)
	if err != nil {
		return err
	}
	parts := 0
	notes := func(what string, offset, size uint64) error {
		if parts++; parts > maxNoteParts {
			return fmt.Errorf("notes in more than %d parts: %w", maxNoteParts, untrusted.ErrTooLarge)
		}
		if err := checkNotes(r, f.ByteOrder, offset, size); err != nil {
			return fmt.Errorf("notes in %s: %w", what, err)
		}
		return nil
	}
	for _, p := range f.Progs {
		if p.Vaddr+p.Memsz < p.Vaddr || p.Type == elf.PT_LOAD && p.Filesz > p.Memsz {
			return fmt.Errorf("a segment of %d bytes at address %#x, %d of them in the file: %w", p.Memsz, p.Vaddr, p.Filesz, untrusted.ErrMalformed)
		}
		switch p.Type {
		case elf.PT_NOTE:
			if err := notes("a segment", p.Off, p.Filesz); err != nil {
				return err
			}
		case elf.PT_DYNAMIC:
			if p.Filesz > maxDynamicBytes {
				return fmt.Errorf("dynamic section of %d bytes: %w of %d", p.Filesz, untrusted.ErrTooLarge, maxDynamicBytes)
			}
		}
	}
	for _, s := range f.Sections {
		if err := untrusted.SectionError(s); err != nil {
			return err
		}
		switch {
		case s.Type == elf.SHT_NOTE:
			if err := notes("section "+s.Name, s.Offset, s.FileSize); err != nil {
				return err
			}
		case s.Name == ".gnu_debuglink" && s.Type != elf.SHT_NOBITS && s.FileSize > maxDebugLink:
			return fmt.Errorf("debug link of %d bytes: %w of %d", s.FileSize, untrusted.ErrTooLarge, maxDebugLink)
		}
	}
	return nil
}

// checkNotes makes sure that every note is as large as it says. What is beyond
// the end of the file, as in files that hold debug information only, counts as
// absent.
func checkNotes(r *untrusted.Reader, order binary.ByteOrder, offset, size uint64) error {
	if offset >= uint64(r.Size()) {
		return nil
	}
	size = min(size, uint64(r.Size())-offset)
	if size > maxNoteBytes {
		return fmt.Errorf("%d bytes: %w of %d", size, untrusted.ErrTooLarge, maxNoteBytes)
	}
	data := make([]byte, size)
	if n, err := r.ReadAt(data, int64(offset)); n < len(data) {
		return err
	}
	align := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(data) >= 12 {
		name, description := align(order.Uint32(data)), align(order.Uint32(data[4:]))
		data = data[12:]
		if name+description > uint64(len(data)) {
			return fmt.Errorf("a note of %d bytes in %d: %w", name+description, len(data), untrusted.ErrMalformed)
		}
		data = data[name+description:]
	}
	return nil
}
