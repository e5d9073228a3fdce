package symbolize

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"sort"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on the units of a file. Chromium, with gigabytes of DWARF, has 40,000
// units and 1.2 million functions.
const (
	maxUnits      = 256 << 10
	maxUnitRanges = 2 << 20
	maxKeptUnits  = 64 // whose headers and abbreviations are kept while a file is read
)

// langGo is DW_LANG_Go. The unwinder has the lines of Go code.
const langGo = 0x16

// A unitIndex says which unit of a file has the code at an address. It does not
// change once it is made.
type unitIndex struct {
	offsets []uint64 // of all units in .debug_info, sorted
	starts  []uint64 // of code, sorted; up to the next one it is of one unit
	units   []uint32 // by start: an index into offsets
}

// bytes is the memory that it holds.
func (x *unitIndex) bytes() int64 {
	return int64(len(x.offsets)+len(x.starts))*8 + int64(len(x.units))*4
}

// find returns the offset of the unit that may have the code at an address.
func (x *unitIndex) find(addr uint64) (offset uint64, ok bool) {
	i := sort.Search(len(x.starts), func(i int) bool { return x.starts[i] > addr }) - 1
	if i < 0 {
		return 0, false
	}
	return x.offsets[x.units[i]], true
}

// unitAt returns the offset of the unit that an offset of .debug_info is in.
func (x *unitIndex) unitAt(offset uint64) (uint64, bool) {
	i := sort.Search(len(x.offsets), func(i int) bool { return x.offsets[i] > offset }) - 1
	if i < 0 {
		return 0, false
	}
	return x.offsets[i], true
}

// readIndex reads the header and the first entry of every unit, and nothing
// else of them. Code outside of text is left out. A unit that is malformed has no
// code; the second error says what is wrong with the first of those.
func (d *dwarfFile) readIndex(text codeRange) (x *unitIndex, damage, err error) {
	x = &unitIndex{}
	d.index = x
	var (
		spans []span
		list  []codeRange
		info  = d.sections["info"]
	)
	for at := uint64(0); info != nil && at < info.size; {
		if len(x.offsets) >= maxUnits {
			return nil, nil, fmt.Errorf("units: %w of %d", untrusted.ErrTooLarge, maxUnits)
		}
		number := uint32(len(x.offsets))
		u, err := d.readUnit(at)
		if u == nil {
			return nil, nil, err
		}
		x.offsets = append(x.offsets, at)
		at = u.end
		if err == nil && u.root.hasLines() {
			list, err = u.codeRanges(&u.root, list[:0])
		} else {
			list = list[:0]
		}
		if err != nil {
			if untrusted.Reason(err) != "malformed" {
				return nil, nil, err
			}
			damage = cmp.Or(damage, err)
			continue
		}
		for _, r := range list {
			if r.start < text.start || r.end > text.end {
				continue
			}
			// Of ranges over one another, the smallest counts.
			spans = append(spans, span{start: r.start, end: r.end, name: number, priority: ^uint32(min(r.end-r.start, 1<<32-1))})
		}
		if len(spans) > maxUnitRanges {
			return nil, nil, fmt.Errorf("ranges of units: %w of %d", untrusted.ErrTooLarge, maxUnitRanges)
		}
	}
	x.offsets = slices.Clip(x.offsets)
	x.addSpans(spans)
	return x, damage, nil
}

// addSpans packs the ranges of units.
func (x *unitIndex) addSpans(spans []span) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	for i := range spans[:max(len(spans)-1, 0)] {
		if spans[i].end > spans[i+1].start {
			spans = flatten(spans)
			break
		}
	}
	for _, s := range spans {
		if n := len(x.units); n == 0 || x.units[n-1] != s.name {
			x.starts, x.units = append(x.starts, s.start), append(x.units, s.name)
		}
	}
	x.starts, x.units = slices.Clip(x.starts), slices.Clip(x.units)
}

// hasLines reports whether a unit, of which this is the first entry, has lines of
// interest. One whose inlined calls are in another file (split DWARF) has not:
// its lines are those of the inlined functions.
func (e *dwarfEntry) hasLines() bool {
	return e.tag == tagCompileUnit && e.language.number != langGo && (e.dwo.form == 0 || e.children)
}

// textOf returns where a file's code is.
func textOf(f *elf.File) codeRange {
	text := codeRange{start: ^uint64(0)}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 && s.Size > 0 {
			text.start, text.end = min(text.start, s.Addr), max(text.end, s.Addr+s.Size)
		}
	}
	return text
}
