package symbolize

// Kinds of entries in lists of ranges (DW_RLE_*).
const (
	rangeEnd          = 0
	rangeBaseIndex    = 1
	rangeIndexes      = 2
	rangeIndexLength  = 3
	rangeOffsets      = 4
	rangeBase         = 5
	rangeAddresses    = 6
	rangeStartAndSize = 7
)

// A codeRange is code from one address up to another.
type codeRange struct{ start, end uint64 }

// codeRanges appends the ranges of code that an entry has.
func (u *dwarfUnit) codeRanges(e *dwarfEntry, list []codeRange) ([]codeRange, error) {
	if e.ranges.form != 0 {
		if u.version >= 5 {
			return u.rangeList(e.ranges, list)
		}
		return u.oldRangeList(e.ranges.number, list)
	}
	if e.low.form == 0 || e.high.form == 0 {
		return list, nil
	}
	low, err := u.address(e.low)
	if err != nil {
		return list, err
	}
	high := low + e.high.number
	if !e.high.isConstant() {
		if high, err = u.address(e.high); err != nil {
			return list, err
		}
	}
	return appendRange(list, low, high), nil
}

// appendRange appends a range that has code. What the linker dropped is left
// empty or at address 0.
func appendRange(list []codeRange, start, end uint64) []codeRange {
	if start == 0 || start >= end {
		return list
	}
	return append(list, codeRange{start, end})
}

// oldRangeList appends a list of .debug_ranges, as before DWARF 5: pairs of
// addresses, which are relative to a base, and a pair of zeros at the end.
func (u *dwarfUnit) oldRangeList(offset uint64, list []codeRange) ([]codeRange, error) {
	before := len(list)
	highest := ^uint64(0) >> (64 - 8*u.addressSize)
	err := u.file.sections["ranges"].at(offset, maxList, func(c *dwarfCursor) error {
		list = list[:before]
		for base := u.base; ; {
			if err := u.file.steps.add(1); err != nil {
				return err
			}
			low, high := c.unsigned(u.addressSize), c.unsigned(u.addressSize)
			switch {
			case c.bad || low == 0 && high == 0:
				return nil
			case low == highest:
				base = high
			default:
				list = appendRange(list, base+low, base+high)
			}
		}
	})
	return list, err
}

// rangeList appends a list of .debug_rnglists.
func (u *dwarfUnit) rangeList(v dwarfValue, list []codeRange) ([]codeRange, error) {
	section, offset := u.file.sections["rnglists"], v.number
	if v.form == formRnglistx {
		if u.rnglists.form == 0 || offset > 1<<32 {
			return list, u.malformed("list of ranges %d without a table", offset)
		}
		relative, err := section.number(u.rnglists.number+offset*u.offsetSize, u.offsetSize)
		if err != nil {
			return list, err
		}
		offset = u.rnglists.number + relative
	}
	before := len(list)
	err := section.at(offset, maxList, func(c *dwarfCursor) (err error) {
		list = list[:before]
		for base := u.base; ; {
			if err := u.file.steps.add(1); err != nil {
				return err
			}
			var start, end uint64
			kind := c.unsigned(1)
			switch kind {
			case rangeEnd:
				return nil
			case rangeBaseIndex, rangeBase:
				if base, err = u.rangeAddress(c, kind == rangeBaseIndex); err != nil {
					return err
				}
				continue
			case rangeOffsets:
				start, end = base+c.uleb(), base+c.uleb()
			case rangeIndexes, rangeAddresses:
				if start, err = u.rangeAddress(c, kind == rangeIndexes); err == nil {
					end, err = u.rangeAddress(c, kind == rangeIndexes)
				}
			case rangeIndexLength, rangeStartAndSize:
				if start, err = u.rangeAddress(c, kind == rangeIndexLength); err == nil {
					end = start + c.uleb()
				}
			default:
				err = u.malformed("a range of kind %d", kind)
			}
			if err != nil || c.bad {
				return err
			}
			list = appendRange(list, start, end)
		}
	})
	return list, err
}

// rangeAddress reads an address of a list, or its index in .debug_addr.
func (u *dwarfUnit) rangeAddress(c *dwarfCursor, index bool) (uint64, error) {
	if !index {
		return c.unsigned(u.addressSize), nil
	}
	if n := c.uleb(); !c.bad {
		return u.indexedAddress(n)
	}
	return 0, nil
}
