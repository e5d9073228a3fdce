package symbolize

import (
	"fmt"

	"github.com/flameline/flameline/collector/untrusted"
)

// An entry describes a part of a program (a DIE): those of its attributes that
// are used.
type dwarfEntry struct {
	tag      tag
	children bool

	sibling, name, linkage, mipsLinkage dwarfValue
	origin, specification               dwarfValue
	low, high, ranges                   dwarfValue
	callFile, callLine                  dwarfValue
	// Of a unit's first entry.
	lines, compDir, language, dwo               dwarfValue
	strOffsetsBase, addressesBase, rnglistsBase dwarfValue
}

// field returns where an attribute is kept; nil if it is not used.
func (e *dwarfEntry) field(a attribute) *dwarfValue {
	switch a {
	case attrSibling:
		return &e.sibling
	case attrName:
		return &e.name
	case attrLinkageName:
		return &e.linkage
	case attrMIPSLinkageName:
		return &e.mipsLinkage
	case attrAbstractOrigin:
		return &e.origin
	case attrSpecification:
		return &e.specification
	case attrLowPC:
		return &e.low
	case attrHighPC:
		return &e.high
	case attrRanges:
		return &e.ranges
	case attrCallFile:
		return &e.callFile
	case attrCallLine:
		return &e.callLine
	case attrStmtList:
		return &e.lines
	case attrCompDir:
		return &e.compDir
	case attrLanguage:
		return &e.language
	case attrDwoName, attrGNUDwoName:
		return &e.dwo
	case attrStrOffsetsBase:
		return &e.strOffsetsBase
	case attrAddrBase, attrGNUAddrBase:
		return &e.addressesBase
	case attrRnglistsBase:
		return &e.rnglistsBase
	}
	return nil
}

// read reads the attributes of an entry, behind its code. The bytes of the cursor
// are those of .debug_info up to the offset end.
func (e *dwarfEntry) read(u *dwarfUnit, c *dwarfCursor, end uint64, a *abbreviation) {
	*e = dwarfEntry{tag: a.tag, children: a.children}
	for _, f := range a.fields {
		v := u.value(c, end, f)
		if to := e.field(f.attribute); to != nil {
			*to = v
		}
	}
}

// A dwarfUnit is a unit of .debug_info: its header, and what its first entry
// says about the others. Offsets are of .debug_info.
type dwarfUnit struct {
	file        *dwarfFile
	start, end  uint64
	first       uint64 // of the first entry
	version     uint64
	offsetSize  uint64 // 4, or 8 in 64-bit DWARF
	addressSize uint64
	abbrevs     uint64 // offset in .debug_abbrev

	root                            dwarfEntry
	strOffsets, addresses, rnglists dwarfValue // where the unit's part of these sections begins
	base                            uint64     // that ranges are relative to
}

// malformed is an error of a unit.
func (u *dwarfUnit) malformed(format string, values ...any) error {
	return fmt.Errorf("unit at offset %d of .debug_info: %s: %w", u.start, fmt.Sprintf(format, values...), untrusted.ErrMalformed)
}

// Types of units (DW_UT_*) whose header is longer than others'.
const (
	unitType         = 2
	unitSkeleton     = 4
	unitSplitCompile = 5
	unitSplitType    = 6
)

// readHeader reads the header of the unit at u.start.
func (u *dwarfUnit) readHeader(c *dwarfCursor) error {
	before := len(c.data)
	length, wide := c.unitLength()
	rest := u.file.sections["info"].size - u.start - min(uint64(before-len(c.data)), u.file.sections["info"].size-u.start)
	if c.bad {
		return u.malformed("its header ends early")
	}
	if length > rest {
		return u.malformed("%d bytes of %d", length, rest)
	}
	if u.offsetSize = 4; wide {
		u.offsetSize = 8
	}
	end := u.start + uint64(before-len(c.data)) + length
	if length == 0 {
		u.first, u.end = end, end
		return nil // padding
	}
	kind := uint64(0)
	u.version = c.unsigned(2)
	if u.version >= 5 {
		kind, u.addressSize = c.unsigned(1), c.unsigned(1)
	}
	u.abbrevs = c.unsigned(u.offsetSize)
	if u.version < 5 {
		u.addressSize = c.unsigned(1)
	}
	switch kind {
	case unitSkeleton, unitSplitCompile:
		c.bytes(8)
	case unitType, unitSplitType:
		c.bytes(8 + u.offsetSize)
	}
	u.first = u.start + uint64(before-len(c.data))
	switch {
	case c.bad:
	case u.version < 2 || u.version > 5 || u.addressSize != 4 && u.addressSize != 8:
		return u.malformed("version %d, addresses of %d bytes", u.version, u.addressSize)
	case u.first > end:
		return u.malformed("%d bytes are less than its header", length)
	default:
		u.end = end
	}
	return nil
}

// readUnit reads the header and the first entry of the unit at an offset. With an
// error it returns the unit's header, if that is well-formed.
func (d *dwarfFile) readUnit(offset uint64) (*dwarfUnit, error) {
	if err := d.steps.add(1); err != nil {
		return nil, err
	}
	u := &dwarfUnit{file: d, start: offset}
	err := d.sections["info"].at(offset, maxUnitHead, func(c *dwarfCursor) error {
		if err := u.readHeader(c); err != nil || c.bad || u.first == u.end {
			return err
		}
		c.data = c.data[:min(uint64(len(c.data)), u.end-u.first)]
		end := u.first + uint64(len(c.data))
		code := c.uleb()
		if c.bad || code == 0 {
			return nil
		}
		a, err := d.abbrev(u.abbrevs, code)
		if err != nil {
			return err
		}
		if a == nil {
			return u.malformed("no abbreviation %d", code)
		}
		u.root.read(u, c, end, a)
		return nil
	})
	switch {
	case err != nil && u.end == 0:
		return nil, err
	case err != nil:
		return u, err
	}
	r := &u.root
	u.strOffsets, u.addresses, u.rnglists = r.strOffsetsBase, r.addressesBase, r.rnglistsBase
	if r.low.form != 0 {
		u.base, err = u.address(r.low)
	}
	return u, err
}

// entryAt reads the entry at an offset of .debug_info.
func (d *dwarfFile) entryAt(offset uint64) (*dwarfUnit, *dwarfEntry, error) {
	start, ok := d.index.unitAt(offset)
	if !ok {
		return nil, nil, fmt.Errorf("entry at offset %d of .debug_info: no unit has it: %w", offset, untrusted.ErrMalformed)
	}
	u := d.units[start]
	if u == nil {
		var err error
		if u, err = d.readUnit(start); err != nil {
			return nil, nil, err
		}
		if len(d.units) >= maxKeptUnits {
			clear(d.units)
		}
		d.units[start] = u
	}
	if offset < u.first || offset >= u.end {
		return nil, nil, u.malformed("no entry at offset %d", offset)
	}
	table, err := d.abbrevTable(u.abbrevs)
	if err != nil {
		return nil, nil, err
	}
	e := &dwarfEntry{}
	err = d.sections["info"].at(offset, min(u.end-offset, maxOneEntry), func(c *dwarfCursor) error {
		end := offset + uint64(len(c.data))
		code := c.uleb()
		a := table.find(code)
		if c.bad || a == nil {
			return u.malformed("no abbreviation %d for the entry at offset %d", code, offset)
		}
		e.read(u, c, end, a)
		return nil
	})
	return u, e, err
}
