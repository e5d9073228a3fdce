package symbolize

import (
	"debug/dwarf"
	"encoding/binary"
	"fmt"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on the tables that debug/dwarf makes of units and of abbreviations
// before it returns for the first time. Chromium, with gigabytes of DWARF, has
// 40,000 units; compilers describe an entry with some 20 attributes.
const (
	maxUnits        = 128 << 10
	maxAbbrevs      = 512 << 10 // of all units together
	maxAbbrevFields = 2 << 20   // of all abbreviations together
	maxEntryFields  = 256       // of one abbreviation
)

// Types of units (DW_UT_*) whose header is longer than others'.
const (
	unitType         = 2
	unitSkeleton     = 4
	unitSplitCompile = 5
	unitSplitType    = 6
)

// formImplicitConst is DW_FORM_implicit_const, whose value is in the abbreviation.
const formImplicitConst = 0x21

// checkUnits reads the headers of all units and their abbreviations, and returns
// the offset of each unit's first entry. What passes costs debug/dwarf no more
// memory than the bounds say: units may share one table of abbreviations, but
// tables that overlap are read and kept once for each.
func checkUnits(info, abbrev []byte, order binary.ByteOrder) ([]dwarf.Offset, error) {
	var (
		units  []dwarf.Offset
		tables = abbrevTables{data: abbrev, seen: map[uint64]bool{}}
		c      = dwarfCursor{data: info, order: order}
	)
	for len(c.data) > 0 {
		at := len(info) - len(c.data)
		length, wide := c.unitLength()
		unit := dwarfCursor{data: c.bytes(length), order: order}
		if c.bad {
			return nil, fmt.Errorf("unit at offset %d of .debug_info: %d bytes of %d: %w", at, length, len(info), untrusted.ErrMalformed)
		}
		if length == 0 && at > 0 {
			continue // as debug/dwarf does, which learns the byte order from the first unit
		}
		if len(units) >= maxUnits {
			return nil, fmt.Errorf("units: %w of %d", untrusted.ErrTooLarge, maxUnits)
		}
		version, kind, addressSize := unit.unsigned(2), uint64(0), uint64(0)
		if version >= 5 {
			kind, addressSize = unit.unsigned(1), unit.unsigned(1)
		}
		table := unit.offset(wide)
		if version < 5 {
			addressSize = unit.unsigned(1)
		}
		switch kind {
		case unitSkeleton, unitSplitCompile:
			unit.bytes(8)
		case unitType, unitSplitType:
			unit.bytes(8)
			unit.offset(wide)
		}
		if unit.bad || version < 2 || version > 5 || addressSize != 4 && addressSize != 8 {
			return nil, fmt.Errorf("unit at offset %d of .debug_info: version %d, addresses of %d bytes: %w", at, version, addressSize, untrusted.ErrMalformed)
		}
		if err := tables.check(table); err != nil {
			return nil, fmt.Errorf("unit at offset %d of .debug_info: %w", at, err)
		}
		// debug/dwarf finds no entry in a unit without bytes.
		if first := len(info) - len(c.data) - len(unit.data); len(unit.data) > 0 {
			units = append(units, dwarf.Offset(first))
		}
	}
	return units, nil
}

// abbrevTables counts what all tables of abbreviations together hold.
type abbrevTables struct {
	data            []byte // .debug_abbrev
	seen            map[uint64]bool
	entries, fields int
}

// check reads the table at an offset, if it is another one.
func (a *abbrevTables) check(offset uint64) error {
	if a.seen[offset] {
		return nil
	}
	a.seen[offset] = true
	if offset > uint64(len(a.data)) {
		return fmt.Errorf("abbreviations at offset %d of %d bytes: %w", offset, len(a.data), untrusted.ErrMalformed)
	}
	c := dwarfCursor{data: a.data[offset:]}
	for len(c.data) > 0 {
		if c.uleb() == 0 {
			break
		}
		if a.entries++; a.entries > maxAbbrevs {
			return fmt.Errorf("abbreviations: %w of %d", untrusted.ErrTooLarge, maxAbbrevs)
		}
		c.uleb() // the tag
		c.bytes(1)
		for n := 0; ; n++ {
			attribute, form := c.uleb(), c.uleb()
			if c.bad || attribute == 0 && form == 0 {
				break
			}
			if form == formImplicitConst {
				c.sleb()
			}
			a.fields++
			if n >= maxEntryFields || a.fields > maxAbbrevFields {
				return fmt.Errorf("attributes of abbreviations: %w of %d each and %d together", untrusted.ErrTooLarge, maxEntryFields, maxAbbrevFields)
			}
		}
	}
	if c.bad {
		return fmt.Errorf("abbreviations at offset %d of %d bytes: %w", offset, len(a.data), untrusted.ErrMalformed)
	}
	return nil
}
