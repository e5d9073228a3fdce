package symbolize

import (
	"fmt"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on abbreviations. Compilers describe an entry with some 20 attributes.
const (
	maxAbbrevCount  = 128 << 10 // of one table
	maxAbbrevFields = 512 << 10 // of all abbreviations of a table
	maxEntryFields  = 256       // of one abbreviation
	maxKeptAbbrevs  = 256 << 10 // fields of the tables that are kept
)

// A tag is what an entry describes (DW_TAG_*).
type tag uint32

const (
	tagClassType         tag = 0x02
	tagEnumerationType   tag = 0x04
	tagLexicalBlock      tag = 0x0b
	tagCompileUnit       tag = 0x11
	tagStructureType     tag = 0x13
	tagUnionType         tag = 0x17
	tagInlinedSubroutine tag = 0x1d
	tagModule            tag = 0x1e
	tagSubprogram        tag = 0x2e
	tagNamespace         tag = 0x39
)

// An attribute is a property of an entry (DW_AT_*).
type attribute uint16

const (
	attrSibling         attribute = 0x01
	attrName            attribute = 0x03
	attrStmtList        attribute = 0x10
	attrLowPC           attribute = 0x11
	attrHighPC          attribute = 0x12
	attrLanguage        attribute = 0x13
	attrCompDir         attribute = 0x1b
	attrAbstractOrigin  attribute = 0x31
	attrSpecification   attribute = 0x47
	attrRanges          attribute = 0x55
	attrCallFile        attribute = 0x58
	attrCallLine        attribute = 0x59
	attrLinkageName     attribute = 0x6e
	attrStrOffsetsBase  attribute = 0x72
	attrAddrBase        attribute = 0x73
	attrRnglistsBase    attribute = 0x74
	attrDwoName         attribute = 0x76
	attrMIPSLinkageName attribute = 0x2007 // of old compilers
	attrGNUDwoName      attribute = 0x2130
	attrGNUAddrBase     attribute = 0x2133
)

// A field is an attribute and how its value is encoded.
type field struct {
	attribute attribute
	form      form
	constant  int64 // the value, where the abbreviation has it
}

// An abbreviation describes the entries that have its code.
type abbreviation struct {
	tag      tag
	children bool
	sibling  bool // an entry with children says where the next one beside it is
	fields   []field
	// The size of an entry, if it is the same for all: some bytes, addresses and
	// offsets; variable is set if it is not.
	plain, addresses, offsets uint16
	variable                  bool
}

// size returns the bytes of an entry of a unit, without its code.
func (a *abbreviation) size(u *dwarfUnit) uint64 {
	return uint64(a.plain) + uint64(a.addresses)*u.addressSize + uint64(a.offsets)*u.offsetSize
}

// An abbrevTable is a table of abbreviations by their codes.
type abbrevTable struct {
	first  []abbreviation // codes 1 to len(first), as compilers number them
	others map[uint64]*abbreviation
	fields int
}

func (t *abbrevTable) find(code uint64) *abbreviation {
	if code-1 < uint64(len(t.first)) {
		return &t.first[code-1]
	}
	return t.others[code]
}

// readAbbrev reads one abbreviation; nil at the end of the table.
func readAbbrev(c *dwarfCursor) (code uint64, a *abbreviation, err error) {
	if code = c.uleb(); code == 0 {
		return 0, nil, nil
	}
	a = &abbreviation{tag: tag(min(c.uleb(), 1<<32-1)), children: c.unsigned(1) != 0}
	for {
		attr, encoding := c.uleb(), c.uleb()
		if c.bad || attr == 0 && encoding == 0 {
			return code, a, nil
		}
		if len(a.fields) >= maxEntryFields {
			return 0, nil, fmt.Errorf("attributes of an abbreviation: %w of %d", untrusted.ErrTooLarge, maxEntryFields)
		}
		f := field{attribute: attribute(min(attr, 1<<16-1)), form: form(min(encoding, 1<<16-1))}
		if f.form == formImplicitConst {
			f.constant = c.sleb()
		}
		a.fields = append(a.fields, f)
		plain, addresses, offsets, fixed := f.form.size()
		a.plain, a.addresses, a.offsets = a.plain+plain, a.addresses+addresses, a.offsets+offsets
		a.variable = a.variable || !fixed
		a.sibling = a.sibling || f.attribute == attrSibling && a.children
	}
}

// abbrev returns one abbreviation of the table at an offset, without keeping the
// table.
func (d *dwarfFile) abbrev(offset, code uint64) (a *abbreviation, err error) {
	if t := d.abbrevs[offset]; t != nil {
		return t.find(code), nil
	}
	err = d.sections["abbrev"].at(offset, maxAbbrevs, func(c *dwarfCursor) error {
		for {
			if err := d.steps.add(1); err != nil {
				return err
			}
			found, next, err := readAbbrev(c)
			if err != nil || next == nil || c.bad {
				return err
			}
			if found == code {
				a = next
				return nil
			}
		}
	})
	return a, err
}

// abbrevTable returns the table of abbreviations at an offset.
func (d *dwarfFile) abbrevTable(offset uint64) (*abbrevTable, error) {
	if t := d.abbrevs[offset]; t != nil {
		return t, nil
	}
	var t *abbrevTable
	err := d.sections["abbrev"].at(offset, maxAbbrevs, func(c *dwarfCursor) error {
		t = &abbrevTable{others: map[uint64]*abbreviation{}}
		for {
			if err := d.steps.add(1); err != nil {
				return err
			}
			code, a, err := readAbbrev(c)
			if err != nil || a == nil || c.bad {
				return err
			}
			if len(t.first)+len(t.others) >= maxAbbrevCount {
				return fmt.Errorf("abbreviations: %w of %d", untrusted.ErrTooLarge, maxAbbrevCount)
			}
			if t.fields += len(a.fields); t.fields > maxAbbrevFields {
				return fmt.Errorf("attributes of abbreviations: %w of %d", untrusted.ErrTooLarge, maxAbbrevFields)
			}
			if code == uint64(len(t.first))+1 {
				t.first = append(t.first, *a)
			} else if t.find(code) == nil {
				t.others[code] = a
			}
		}
	})
	if err != nil {
		return nil, err
	}
	kept := t.fields
	for _, other := range d.abbrevs {
		kept += other.fields
	}
	if kept > maxKeptAbbrevs || len(d.abbrevs) >= maxKeptUnits {
		clear(d.abbrevs)
		clear(d.units) // which hold them
	}
	d.abbrevs[offset] = t
	return t, nil
}
