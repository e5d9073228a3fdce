//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"debug/elf"
	"slices"

	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
)

// A span is a range of ELF virtual addresses.
type span struct{ start, end uint64 }

// A codeSection is a range of code with the name of its section, which is empty
// if the file has no sections.
type codeSection struct {
	span
	name string
}

// codeSections lists where a file's code is, by address, without overlaps.
func codeSections(ef *pfelf.File) []codeSection {
	var all []codeSection
	// add adds what segments have of a section in the file.
	add := func(name string, addr, size uint64) {
		for _, p := range ef.Progs {
			if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 || size >= maxAddress || addr >= maxAddress {
				continue
			}
			if start, end := max(addr, p.Vaddr), min(addr+size, p.Vaddr+p.Filesz); start < end {
				all = append(all, codeSection{span{start, end}, name})
			}
		}
	}
	if ef.LoadSections() == nil {
		for _, s := range ef.Sections {
			if s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_EXECINSTR != 0 {
				add(s.Name, s.Addr, s.Size)
			}
		}
	}
	if len(all) == 0 {
		add("", 0, maxAddress-1)
	}
	slices.SortFunc(all, func(a, b codeSection) int { return cmp.Compare(a.start, b.start) })
	end := uint64(0)
	kept := all[:0]
	for _, c := range all {
		if c.start = max(c.start, end); c.start < c.end {
			kept, end = append(kept, c), c.end
		}
	}
	return kept
}

// gaps returns the parts of code that no block covers, blocks being sorted by
// address. Shorter ones than minGap are left out: they are padding, and the
// library lets the rule before them go on.
func gaps(code []codeSection, blocks []*stackdeltatypes.BasicBlock) []codeSection {
	var found []codeSection
	add := func(c codeSection, start, end uint64) {
		if end > start && end-start >= minGap {
			found = append(found, codeSection{span{start, end}, c.name})
		}
	}
	i, covered := 0, uint64(0) // all before covered is in a block that was passed
	for _, c := range code {
		at := max(c.start, covered)
		for ; i < len(blocks) && blocks[i].Start < c.end; i++ {
			add(c, at, blocks[i].Start)
			covered = max(covered, blocks[i].End)
			at = max(at, covered)
		}
		add(c, at, c.end)
	}
	return found
}
