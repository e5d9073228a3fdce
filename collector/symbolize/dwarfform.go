package symbolize

// A form is how a value is encoded (DW_FORM_*).
type form uint16

const (
	formAddr          form = 0x01
	formBlock2        form = 0x03
	formBlock4        form = 0x04
	formData2         form = 0x05
	formData4         form = 0x06
	formData8         form = 0x07
	formString        form = 0x08
	formBlock         form = 0x09
	formBlock1        form = 0x0a
	formData1         form = 0x0b
	formFlag          form = 0x0c
	formSdata         form = 0x0d
	formStrp          form = 0x0e
	formUdata         form = 0x0f
	formRefAddr       form = 0x10
	formRef1          form = 0x11
	formRef2          form = 0x12
	formRef4          form = 0x13
	formRef8          form = 0x14
	formRefUdata      form = 0x15
	formIndirect      form = 0x16
	formSecOffset     form = 0x17
	formExprloc       form = 0x18
	formFlagPresent   form = 0x19
	formStrx          form = 0x1a
	formAddrx         form = 0x1b
	formRefSup4       form = 0x1c
	formStrpSup       form = 0x1d
	formData16        form = 0x1e
	formLineStrp      form = 0x1f
	formRefSig8       form = 0x20
	formImplicitConst form = 0x21
	formLoclistx      form = 0x22
	formRnglistx      form = 0x23
	formRefSup8       form = 0x24
	formStrx1         form = 0x25
	formStrx2         form = 0x26
	formStrx3         form = 0x27
	formStrx4         form = 0x28
	formAddrx1        form = 0x29
	formAddrx2        form = 0x2a
	formAddrx3        form = 0x2b
	formAddrx4        form = 0x2c
	formGNUAddrIndex  form = 0x1f01
	formGNUStrIndex   form = 0x1f02
	formGNURefAlt     form = 0x1f20 // as formRefSup, before DWARF 5
	formGNUStrpAlt    form = 0x1f21
)

// size returns the bytes, addresses and offsets of a value, if all values of the
// form have as many.
func (f form) size() (plain, addresses, offsets uint16, fixed bool) {
	switch f {
	case formFlagPresent, formImplicitConst:
		return 0, 0, 0, true
	case formData1, formFlag, formRef1, formStrx1, formAddrx1:
		return 1, 0, 0, true
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2, 0, 0, true
	case formStrx3, formAddrx3:
		return 3, 0, 0, true
	case formData4, formRef4, formRefSup4, formStrx4, formAddrx4:
		return 4, 0, 0, true
	case formData8, formRef8, formRefSig8, formRefSup8:
		return 8, 0, 0, true
	case formData16:
		return 16, 0, 0, true
	case formAddr:
		return 0, 1, 0, true
	case formStrp, formSecOffset, formStrpSup, formLineStrp, formGNURefAlt, formGNUStrpAlt:
		return 0, 0, 1, true
	}
	return 0, 0, 0, false
}

// A dwarfValue is the value of an attribute.
type dwarfValue struct {
	form   form   // 0: the entry has no such attribute
	number uint64 // or an offset, an address, an index; for formString where it is in .debug_info
}

// value reads a value. The bytes of the cursor are those of .debug_info up to the
// offset end. A form that is not known makes the cursor bad.
func (u *dwarfUnit) value(c *dwarfCursor, end uint64, f field) dwarfValue {
	v := dwarfValue{form: f.form}
	if v.form == formIndirect {
		if v.form = form(min(c.uleb(), 1<<16-1)); v.form == formIndirect || v.form == formImplicitConst {
			c.bad, c.data = true, nil
		}
	}
	plain, addresses, offsets, fixed := v.form.size()
	switch {
	case v.form == formImplicitConst:
		v.number = uint64(f.constant)
	case fixed && addresses > 0:
		v.number = c.unsigned(u.addressSize)
	case fixed && offsets > 0:
		v.number = c.unsigned(u.offsetSize)
	case plain == 16:
		c.bytes(16)
	case fixed && plain > 0:
		v.number = c.unsigned(uint64(plain))
	case fixed:
		v.number = 1 // a flag
	case v.form == formString:
		v.number = end - uint64(len(c.data))
		c.cstring()
	default:
		u.variable(c, &v)
	}
	return v
}

// variable reads a value of a form whose values differ in size.
func (u *dwarfUnit) variable(c *dwarfCursor, v *dwarfValue) {
	switch v.form {
	case formRefAddr:
		if v.number = 0; u.version < 3 {
			v.number = c.unsigned(u.addressSize)
		} else {
			v.number = c.unsigned(u.offsetSize)
		}
	case formSdata:
		v.number = uint64(c.sleb())
	case formUdata, formRefUdata, formStrx, formAddrx, formLoclistx, formRnglistx, formGNUAddrIndex, formGNUStrIndex:
		v.number = c.uleb()
	case formBlock, formExprloc:
		c.bytes(c.uleb())
	case formBlock1:
		c.bytes(c.unsigned(1))
	case formBlock2:
		c.bytes(c.unsigned(2))
	case formBlock4:
		c.bytes(c.unsigned(4))
	default:
		c.bad, c.data = true, nil
	}
}

// isConstant reports whether a value is a number rather than an address.
func (v dwarfValue) isConstant() bool {
	switch v.form {
	case formData1, formData2, formData4, formData8, formUdata, formSdata, formImplicitConst:
		return true
	}
	return false
}

// text returns a copy of a string value, cut at maxSymbolName; "" if it has none
// or if the string cannot be read.
func (u *dwarfUnit) text(v dwarfValue) string {
	var (
		section *dwarfSection
		offset  = v.number
		d       = u.file
	)
	switch v.form {
	case formString:
		section = d.sections["info"]
	case formStrp:
		section = d.sections["str"]
	case formLineStrp:
		section = d.sections["line_str"]
	case formStrpSup, formGNUStrpAlt:
		if d.alt == nil {
			return ""
		}
		section = d.alt.sections["str"]
	case formStrx, formStrx1, formStrx2, formStrx3, formStrx4, formGNUStrIndex:
		if u.strOffsets.form == 0 || offset > 1<<32 {
			return ""
		}
		var err error
		if offset, err = d.sections["str_offsets"].number(u.strOffsets.number+offset*u.offsetSize, u.offsetSize); err != nil {
			return ""
		}
		section = d.sections["str"]
	default:
		return ""
	}
	text, err := section.cstring(offset, maxSymbolName)
	if err != nil {
		return ""
	}
	return string(text)
}

// address returns the address of a value.
func (u *dwarfUnit) address(v dwarfValue) (uint64, error) {
	switch v.form {
	case formAddr:
		return v.number, nil
	case formAddrx, formAddrx1, formAddrx2, formAddrx3, formAddrx4, formGNUAddrIndex:
		return u.indexedAddress(v.number)
	}
	return 0, u.malformed("an address of form %#x", v.form)
}

// indexedAddress returns an address of .debug_addr.
func (u *dwarfUnit) indexedAddress(index uint64) (uint64, error) {
	if u.addresses.form == 0 || index > 1<<32 {
		return 0, u.malformed("address %d without a table", index)
	}
	return u.file.sections["addr"].number(u.addresses.number+index*u.addressSize, u.addressSize)
}

// A dwarfRef is a reference to an entry.
type dwarfRef struct {
	offset uint64 // in .debug_info
	alt    bool   // of the file that dwz moved entries to
}

// reference returns the entry that a value refers to.
func (u *dwarfUnit) reference(v dwarfValue) (dwarfRef, bool) {
	switch v.form {
	case formRef1, formRef2, formRef4, formRef8, formRefUdata:
		return dwarfRef{offset: u.start + v.number, alt: u.file.isAlt}, v.number < u.end-u.start
	case formRefAddr:
		return dwarfRef{offset: v.number, alt: u.file.isAlt}, true
	case formRefSup4, formRefSup8, formGNURefAlt:
		return dwarfRef{offset: v.number, alt: true}, u.file.alt != nil
	}
	return dwarfRef{}, false
}
