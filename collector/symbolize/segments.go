package symbolize

import (
	"debug/elf"

	"github.com/flameline/flameline/collector/untrusted"
)

// A Segment is a part of a binary's file that is loaded into memory.
type Segment struct {
	Offset, Size uint64 // in the file
	Address      uint64 // ELF virtual address of its first byte
}

// Segments reads the loaded segments of a binary, with the bounds of a Symbolizer. With
// them an address of a process becomes one for Lookup: its offset in the file follows
// from the mapping in /proc/PID/maps.
func Segments(procRoot string, b Binary) ([]Segment, error) {
	return untrusted.Do(inspectGuard, func() (out []Segment, err error) {
		s := newSource(procRoot, b)
		s.offer(b)
		err = s.read(func(in *file) error {
			f, err := untrusted.NewELF(untrusted.NewReader(in, in.size, inspectBudget))
			if err != nil {
				return err
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD {
					out = append(out, Segment{p.Off, p.Filesz, p.Vaddr})
				}
			}
			return nil
		})
		return out, err
	})
}
