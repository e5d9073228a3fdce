package symbolize

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/flameline/flameline/collector/untrusted"
)

// maxEntryDepth bounds the levels of entries that inlined calls are looked for in.
const maxEntryDepth = 256

// A unitReader collects the lines and inlined calls of a unit.
type unitReader struct {
	*unitBuffers
	unit    *dwarfUnit
	data    []byte // of its entries
	abbrevs *abbrevTable
	// ranges counts those of inlined calls, those that are left out included.
	ranges int
	files  pool
	plain  pool               // names of functions
	texts  int                // bytes of names, the same again and again or not
	names  map[dwarfRef]int32 // of abstract functions, in plain; -1 without one
}

// unitBuffers are what units are collected in, one after the other.
type unitBuffers struct {
	rows, sequence []lineRow
	calls          []inlineCall
	spans          []span
	scratch        []codeRange
}

// readLines packs the lines and inlined calls of the unit at an offset.
func (d *dwarfFile) readLines(offset uint64) (*lineInfo, error) {
	u, err := d.readUnit(offset)
	if err != nil {
		return nil, err
	}
	b := &d.buffers
	b.rows, b.calls, b.spans = b.rows[:0], b.calls[:0], b.spans[:0]
	r := unitReader{
		unitBuffers: b,

		unit:  u,
		files: pool{list: []string{""}, index: map[string]uint32{"": 0}},
		plain: pool{index: map[string]uint32{}},
		names: map[dwarfRef]int32{},
	}
	table, err := r.lines()
	if err != nil {
		return nil, err
	}
	if u.root.children {
		if err := r.entries(table); err != nil {
			return nil, err
		}
	}
	return r.finish(), nil
}

// lines reads the line table of the unit; nil if it has none.
func (r *unitReader) lines() (*lineTable, error) {
	root := &r.unit.root
	d := r.unit.file
	if root.lines.form == 0 || d.sections["line"] == nil {
		return nil, nil
	}
	table, err := d.openLineTable(root.lines.number, r.unit.text(root.compDir))
	if err != nil {
		return nil, err
	}
	sequence := r.sequence[:0]
	defer func() { r.sequence = sequence }()
	err = table.run(d.steps.add, func(s lineState) error {
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
				r.rows = append(r.rows, sequence...)
			}
			sequence = sequence[:0]
		}
		if len(r.rows)+len(sequence) > maxLineRows {
			return fmt.Errorf("rows of lines: %w of %d", untrusted.ErrTooLarge, maxLineRows)
		}
		return r.files.check()
	})
	return table, err
}

// entries reads the inlined calls of the unit. It keeps the calls around an entry
// in a list rather than calling itself: entries may be as deep as a file says.
func (r *unitReader) entries(table *lineTable) error {
	u := r.unit
	d := u.file
	var err error
	if r.data, err = d.sections["info"].bytes(u.first, u.end-u.first, maxUnit); err != nil {
		return err
	}
	if r.abbrevs, err = d.abbrevTable(u.abbrevs); err != nil {
		return err
	}
	var (
		c       = dwarfCursor{data: r.data, order: d.order}
		parents []int32 // the call around each open entry; -1: none
		skipped int     // open entries below one that has no inlined calls
		e       dwarfEntry
	)
	for len(c.data) > 0 {
		if err := d.steps.add(1); err != nil {
			return err
		}
		offset := u.end - uint64(len(c.data))
		code := c.uleb()
		if code == 0 {
			switch {
			case skipped > 0:
				skipped--
			case len(parents) > 0:
				parents = parents[:len(parents)-1]
			}
			if len(parents) == 0 {
				return nil
			}
			continue
		}
		a := r.abbrevs.find(code)
		if a == nil {
			return u.malformed("no abbreviation %d for the entry at offset %d", code, offset)
		}
		if skipped > 0 || !a.tag.mayHaveCalls() || len(parents) >= maxEntryDepth {
			if !u.skip(&c, a) {
				skipped++
			}
		} else {
			parent := int32(-1)
			if n := len(parents); n > 0 && a.tag != tagSubprogram {
				parent = parents[n-1]
			}
			if a.tag != tagInlinedSubroutine {
				u.skipFields(&c, a)
			} else if e.read(u, &c, u.end, a); !c.bad {
				if parent, err = r.inlined(&e, table, parent, len(parents)); err != nil {
					return err
				}
			}
			if a.children {
				parents = append(parents, parent)
			}
		}
		if c.bad {
			return u.malformed("the entry at offset %d ends early", offset)
		}
	}
	return nil
}

// skip passes over an entry, behind its code, and what is below it if the entry
// says where that ends. It reports whether nothing is left below.
func (u *dwarfUnit) skip(c *dwarfCursor, a *abbreviation) bool {
	sibling := u.skipFields(c, a)
	if !a.children {
		return true
	}
	here := u.end - uint64(len(c.data))
	next, ok := u.reference(sibling)
	if !ok || next.offset <= here || next.offset > u.end {
		return false
	}
	c.bytes(next.offset - here)
	return true
}

// skipFields passes over the attributes of an entry, and returns where the next one
// beside it is.
func (u *dwarfUnit) skipFields(c *dwarfCursor, a *abbreviation) (sibling dwarfValue) {
	if !a.variable && !a.sibling {
		c.bytes(a.size(u))
		return sibling
	}
	for _, f := range a.fields {
		if v := u.value(c, u.end, f); f.attribute == attrSibling {
			sibling = v
		}
	}
	return sibling
}

// mayHaveCalls reports whether inlined calls may be below an entry, or it is one.
func (t tag) mayHaveCalls() bool {
	switch t {
	case tagCompileUnit, tagSubprogram, tagInlinedSubroutine, tagLexicalBlock, tagNamespace, tagModule,
		tagClassType, tagStructureType, tagUnionType, tagEnumerationType:
		return true
	}
	return false
}

// inlined adds an inlined call and returns its index, or its parent's if it has
// no code.
func (r *unitReader) inlined(e *dwarfEntry, table *lineTable, parent int32, depth int) (int32, error) {
	var err error
	if r.scratch, err = r.unit.codeRanges(e, r.scratch[:0]); err != nil {
		return parent, err
	}
	if r.ranges += len(r.scratch); r.ranges > maxInlineSpans {
		return parent, fmt.Errorf("ranges of inlined calls: %w of %d", untrusted.ErrTooLarge, maxInlineSpans)
	}
	if len(r.scratch) == 0 {
		return parent, nil
	}
	name, err := r.name(r.unit, e, 0)
	if err != nil {
		return parent, err
	}
	call := inlineCall{name: name, parent: parent}
	if e.callFile.isConstant() {
		if call.file, err = table.file(e.callFile.number, &r.files); err == nil {
			err = r.files.check()
		}
		if err != nil {
			return parent, err
		}
	}
	if e.callLine.isConstant() {
		call.line = uint32(min(e.callLine.number, math.MaxUint32))
	}
	index := int32(len(r.calls))
	r.calls = append(r.calls, call)
	for _, bounds := range r.scratch {
		r.spans = append(r.spans, span{start: bounds.start, end: bounds.end, name: uint32(index), priority: uint32(depth)})
	}
	return index, nil
}

// maxNameHops bounds the entries that lead to that with a function's name.
const maxNameHops = 5

// name returns the index of a function's name, its own or that of the entry
// it refers to; -1 if there is none.
func (r *unitReader) name(u *dwarfUnit, e *dwarfEntry, hops int) (int32, error) {
	for _, v := range []dwarfValue{e.linkage, e.mipsLinkage} {
		if index, err := r.text(u, v); index >= 0 || err != nil {
			return index, err
		}
	}
	// A linkage name farther away goes before a plain one here.
	for _, v := range []dwarfValue{e.origin, e.specification} {
		ref, ok := u.reference(v)
		if !ok || hops >= maxNameHops {
			continue
		}
		index, known := r.names[ref]
		if !known {
			var err error
			if index, err = r.nameAt(ref, hops+1); err != nil {
				return -1, err
			}
			if len(r.names) >= maxInlineSpans {
				return -1, fmt.Errorf("inlined functions: %w of %d", untrusted.ErrTooLarge, maxInlineSpans)
			}
			r.names[ref] = index
		}
		if index >= 0 {
			return index, nil
		}
	}
	return r.text(u, e.name)
}

// text returns the index of a value that is a function's name; -1 if it has none.
func (r *unitReader) text(u *dwarfUnit, v dwarfValue) (int32, error) {
	text := u.text(v)
	if text == "" {
		return -1, nil
	}
	if r.texts += len(text); r.texts > maxTextBytes {
		return -1, fmt.Errorf("names of functions: %w of %d bytes", untrusted.ErrTooLarge, maxTextBytes)
	}
	return int32(r.plain.add(text)), r.plain.check()
}

// nameAt is name of the entry that a reference leads to.
func (r *unitReader) nameAt(ref dwarfRef, hops int) (int32, error) {
	d := r.unit.file
	if ref.alt != d.isAlt {
		d = d.alt
	}
	if err := d.steps.add(1); err != nil {
		return -1, err
	}
	if u := r.unit; d == u.file && ref.offset >= u.first && ref.offset < u.end {
		var e dwarfEntry
		c := dwarfCursor{data: r.data[ref.offset-u.first:], order: d.order}
		if a := r.abbrevs.find(c.uleb()); a != nil {
			e.read(u, &c, u.end, a)
		}
		if c.bad {
			return -1, nil
		}
		return r.name(u, &e, hops)
	}
	u, e, err := d.entryAt(ref.offset)
	switch {
	case err == nil:
		return r.name(u, e, hops)
	case untrusted.Reason(err) == "malformed":
		return -1, nil
	}
	return -1, err
}

// finish sorts and packs what was collected.
func (r *unitReader) finish() *lineInfo {
	// Where one stretch of code ends and another begins, the beginning counts.
	slices.SortStableFunc(r.rows, func(a, b lineRow) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), compareBool(a.file != 0, b.file != 0))
	})
	kept := r.rows[:0]
	for i, row := range r.rows {
		if i+1 == len(r.rows) || r.rows[i+1].addr != row.addr {
			kept = append(kept, row)
		}
	}
	return &lineInfo{
		rows: slices.Clone(kept), inlined: slices.Clone(flatten(r.spans)), calls: slices.Clone(r.calls),
		files: r.files.list, names: r.plain.list,
	}
}
