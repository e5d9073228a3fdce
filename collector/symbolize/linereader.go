package symbolize

import (
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/flameline/flameline/collector/untrusted"
)

// readLines packs the DWARF of a file. It returns nil if there is none, or
// more than limit bytes of it. It ends with the error of check, which it calls
// often: few bytes of DWARF can ask for the same work again and again. Units
// that are malformed are left out; the error says what is wrong with the first.
func readLines(f *elf.File, check func() error, limit int64) (*lineInfo, error) {
	sections, err := readSections(f, limit)
	if err != nil || sections == nil {
		return nil, err
	}
	data, units, err := sections.open(f.ByteOrder)
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	r := lineReader{
		sections: sections,
		line:     dwarfCursor{data: sections["line"], order: f.ByteOrder},
		data:     data,
		check:    check,
		info:     &lineInfo{},
		files:    pool{list: []string{""}, index: map[string]uint32{"": 0}},
		plain:    pool{index: map[string]uint32{}},
		names:    map[dwarf.Offset]int32{},
	}
	var first error
	for i, unit := range units {
		r.end = math.MaxUint32
		if i+1 < len(units) {
			r.end = units[i+1]
		}
		if err := r.unit(unit); err != nil {
			if !errors.Is(err, untrusted.ErrMalformed) {
				return nil, fmt.Errorf("read DWARF: %w", err)
			}
			first = cmp.Or(first, fmt.Errorf("read DWARF: %w", err))
		}
	}
	return r.finish(), first
}

// A lineReader collects what a lineInfo holds.
type lineReader struct {
	sections dwarfSections
	line     dwarfCursor // all of .debug_line
	data     *dwarf.Data
	check    func() error // whether there is time left
	asked    int          // entries since check was called
	end      dwarf.Offset // beyond which entries are of another unit
	info     *lineInfo
	spans    []span
	ranges   int // of inlined calls, those that are left out included
	files    pool
	plain    pool                   // names of functions
	names    map[dwarf.Offset]int32 // of abstract functions, in plain; -1 without one
}

// unit reads a compilation unit, whose first entry is at an offset. Those of Go
// and units that hold only types are passed over.
func (r *lineReader) unit(at dwarf.Offset) error {
	if err := r.check(); err != nil {
		return err
	}
	entries := r.data.Reader()
	entries.Seek(at)
	unit, err := entries.Next()
	if err != nil {
		return malformed(err)
	}
	if unit == nil || unit.Tag != dwarf.TagCompileUnit {
		return nil
	}
	if language, _ := unit.Val(dwarf.AttrLanguage).(int64); language == langGo {
		return nil
	}
	table, err := r.lines(unit)
	if err != nil {
		return err
	}
	if !unit.Children {
		return nil
	}
	return r.children(entries, table, -1, 0)
}

// lines reads the line table of a unit; nil if it has none.
func (r *lineReader) lines(unit *dwarf.Entry) (*lineTable, error) {
	offset, ok := unit.Val(dwarf.AttrStmtList).(int64)
	if !ok || r.sections["line"] == nil {
		return nil, nil
	}
	compDir, _ := unit.Val(dwarf.AttrCompDir).(string)
	table, err := r.sections.openLineTable(r.line, uint64(offset), compDir)
	if err != nil {
		return nil, err
	}
	var sequence []lineRow
	err = table.run(r.check, func(s lineState) error {
		row := lineRow{addr: s.addr}
		if s.file != endOfSequence {
			file, err := table.file(s.file, &r.files)
			if err != nil {
				return err
			}
			if file != 0 {
				row.file, row.line = file, uint32(max(min(s.line, math.MaxUint32), 0))
			}
		}
		switch n := len(sequence); {
		case n > 0 && sequence[n-1].addr == row.addr:
			sequence[n-1] = row // the last row of an address counts
		case n > 0 && s.file != endOfSequence && sequence[n-1].file == row.file && sequence[n-1].line == row.line:
		default:
			sequence = append(sequence, row)
		}
		if s.file == endOfSequence {
			// Code that the linker dropped is left at address 0.
			if len(sequence) > 1 && sequence[0].addr != 0 {
				r.info.rows = append(r.info.rows, sequence...)
			}
			sequence = sequence[:0]
		}
		if len(r.info.rows)+len(sequence) > maxLineRows {
			return fmt.Errorf("rows of lines: %w of %d", untrusted.ErrTooLarge, maxLineRows)
		}
		return r.files.check()
	})
	return table, err
}

// next reads an entry of a unit, nil at its end. It looks at the time now and
// then.
func (r *lineReader) next(entries *dwarf.Reader) (*dwarf.Entry, error) {
	if r.asked++; r.asked%checkEvery == 0 {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	e, err := entries.Next()
	if err != nil {
		return nil, malformed(err)
	}
	if e != nil && e.Offset >= r.end {
		return nil, nil
	}
	return e, nil
}

// skip passes over what is below an entry that was read just now. In debug/dwarf
// that is a recursion as deep as the file says, and a stack of a gigabyte ends
// the process.
func (r *lineReader) skip(entries *dwarf.Reader, e *dwarf.Entry) error {
	for depth := 0; ; {
		if e.Children {
			if sibling, ok := e.Val(dwarf.AttrSibling).(dwarf.Offset); ok && sibling > e.Offset {
				entries.Seek(sibling)
			} else {
				depth++
			}
		}
		if depth == 0 {
			return nil
		}
		var err error
		if e, err = r.next(entries); err != nil {
			return err
		}
		if e == nil {
			return nil
		}
		if e.Tag == 0 {
			if depth--; depth == 0 {
				return nil
			}
			e = &dwarf.Entry{}
		}
	}
}

// children reads the inlined calls below an entry, up to its end.
func (r *lineReader) children(entries *dwarf.Reader, table *lineTable, parent int32, depth int) error {
	for {
		e, err := r.next(entries)
		if err != nil {
			return err
		}
		if e == nil || e.Tag == 0 {
			return nil
		}
		below, skip := parent, depth > maxInlineDepth
		switch e.Tag {
		case dwarf.TagInlinedSubroutine:
			if below, err = r.inlined(e, table, parent, depth); err != nil {
				return err
			}
		case dwarf.TagSubprogram:
			below = -1
		case dwarf.TagLexDwarfBlock, dwarf.TagNamespace, dwarf.TagClassType, dwarf.TagStructType, dwarf.TagModule, dwarf.TagEnumerationType, dwarf.TagUnionType:
		default:
			skip = true
		}
		switch {
		case !e.Children:
		case skip:
			err = r.skip(entries, e)
		default:
			err = r.children(entries, table, below, depth+1)
		}
		if err != nil {
			return err
		}
	}
}

// inlined adds an inlined call and returns its index.
func (r *lineReader) inlined(e *dwarf.Entry, table *lineTable, parent int32, depth int) (int32, error) {
	if err := r.check(); err != nil {
		return parent, err
	}
	ranges, err := r.data.Ranges(e)
	if err != nil {
		return parent, malformed(err)
	}
	if r.ranges += len(ranges); r.ranges > maxInlineSpans {
		return parent, fmt.Errorf("ranges of inlined calls: %w of %d", untrusted.ErrTooLarge, maxInlineSpans)
	}
	if len(ranges) == 0 {
		return parent, nil
	}
	name := r.name(e, 0)
	if err := r.plain.check(); err != nil || name < 0 {
		return parent, err
	}
	if len(r.names) > maxInlineSpans {
		return parent, fmt.Errorf("inlined functions: %w of %d", untrusted.ErrTooLarge, maxInlineSpans)
	}
	call := inlineCall{name: uint32(name), parent: parent}
	if i, ok := e.Val(dwarf.AttrCallFile).(int64); ok && i >= 0 {
		if call.file, err = table.file(uint64(i), &r.files); err == nil {
			err = r.files.check()
		}
		if err != nil {
			return parent, err
		}
	}
	if line, ok := e.Val(dwarf.AttrCallLine).(int64); ok {
		call.line = uint32(max(min(line, math.MaxUint32), 0))
	}
	index := int32(len(r.info.calls))
	r.info.calls = append(r.info.calls, call)
	for _, bounds := range ranges {
		if bounds[0] != 0 {
			r.spans = append(r.spans, span{start: bounds[0], end: bounds[1], name: uint32(index), priority: uint32(depth)})
		}
	}
	return index, nil
}

// name returns the index of a function's name, its own or that of the entry
// it refers to; -1 if there is none.
func (r *lineReader) name(e *dwarf.Entry, hops int) int32 {
	for _, attr := range []dwarf.Attr{dwarf.AttrLinkageName, attrMIPSLinkageName, dwarf.AttrName} {
		if text, ok := e.Val(attr).(string); ok && text != "" {
			return int32(r.plain.add(text[:min(len(text), maxSymbolName)]))
		}
		if attr != attrMIPSLinkageName || hops > 4 {
			continue
		}
		// A linkage name farther away goes before a plain one here.
		for _, ref := range []dwarf.Attr{dwarf.AttrAbstractOrigin, dwarf.AttrSpecification} {
			offset, ok := e.Val(ref).(dwarf.Offset)
			if !ok {
				continue
			}
			index, known := r.names[offset]
			if !known {
				entries := r.data.Reader()
				entries.Seek(offset)
				index = -1
				if origin, err := entries.Next(); err == nil && origin != nil {
					index = r.name(origin, hops+1)
				}
				r.names[offset] = index
			}
			if index >= 0 {
				return index
			}
		}
	}
	return -1
}

// attrMIPSLinkageName is what old compilers use for the linkage name.
const attrMIPSLinkageName = dwarf.Attr(0x2007)

// finish sorts and packs what was collected; nil if that is nothing.
func (r *lineReader) finish() *lineInfo {
	l := r.info
	if len(l.rows) == 0 {
		return nil
	}
	// Where one stretch of code ends and another begins, the beginning counts.
	slices.SortStableFunc(l.rows, func(a, b lineRow) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), compareBool(a.file != 0, b.file != 0))
	})
	kept := l.rows[:0]
	for i, row := range l.rows {
		if i+1 == len(l.rows) || l.rows[i+1].addr != row.addr {
			kept = append(kept, row)
		}
	}
	l.rows = slices.Clip(slices.Clone(kept))
	l.inlined = flatten(r.spans)
	l.files, l.names = r.files.list, r.plain.list
	return l
}
