package symbolize

import (
	"bytes"
	"encoding/binary"
)

// A dwarfCursor reads the values that DWARF is made of from the front of some
// bytes. From the first value on that is not there whole, it is bad and yields
// zeros.
type dwarfCursor struct {
	data  []byte // what is not read yet
	order binary.ByteOrder
	bad   bool
}

// bytes returns the next n bytes, which are shared.
func (c *dwarfCursor) bytes(n uint64) []byte {
	if c.bad || n > uint64(len(c.data)) {
		c.bad, c.data = true, nil
		return nil
	}
	b := c.data[:n]
	c.data = c.data[n:]
	return b
}

// unsigned returns a number of 1, 2, 3, 4 or 8 bytes.
func (c *dwarfCursor) unsigned(size uint64) uint64 {
	b := c.bytes(size)
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(c.order.Uint16(b))
	case 3:
		if c.order == binary.ByteOrder(binary.BigEndian) {
			return uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
		}
		return uint64(b[2])<<16 | uint64(b[1])<<8 | uint64(b[0])
	case 4:
		return uint64(c.order.Uint32(b))
	case 8:
		return c.order.Uint64(b)
	}
	c.bad, c.data = true, nil
	return 0
}

// offset returns an offset of a section: 4 bytes, or 8 in 64-bit DWARF.
func (c *dwarfCursor) offset(wide bool) uint64 {
	if wide {
		return c.unsigned(8)
	}
	return c.unsigned(4)
}

// unitLength returns the bytes that follow the length of a unit or of a table,
// and whether they are 64-bit DWARF.
func (c *dwarfCursor) unitLength() (length uint64, wide bool) {
	length = c.unsigned(4)
	switch {
	case length == 0xffffffff:
		return c.unsigned(8), true
	case length >= 0xfffffff0:
		c.bad, c.data = true, nil
		return 0, false
	}
	return length, false
}

// uleb returns an unsigned LEB128 number; bits beyond 64 are lost.
func (c *dwarfCursor) uleb() uint64 {
	n, _ := c.leb()
	return n
}

// sleb returns a signed LEB128 number.
func (c *dwarfCursor) sleb() int64 {
	n, bits := c.leb()
	if bits > 0 && bits < 64 && n&(1<<(bits-1)) != 0 {
		n |= ^uint64(0) << bits
	}
	return int64(n)
}

func (c *dwarfCursor) leb() (n uint64, bits uint) {
	for i, b := range c.data {
		n |= uint64(b&0x7f) << bits
		bits += 7
		if b&0x80 == 0 {
			c.data = c.data[i+1:]
			return n, bits
		}
	}
	c.bad, c.data = true, nil
	return 0, 0
}

// cstring returns a string without its zero byte; the bytes are shared.
func (c *dwarfCursor) cstring() []byte {
	end := bytes.IndexByte(c.data, 0)
	if end < 0 {
		c.bad, c.data = true, nil
		return nil
	}
	s := c.data[:end]
	c.data = c.data[end+1:]
	return s
}
