package bitpack

import (
	"encoding/binary"
	"fmt"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Decoder reads a value's fields in order. The first malformed field stops it:
// all further reads give zeros and err says what was wrong and where.
type Decoder struct {
	Data []byte
	Off  int
	Err  error
}

// Fail stops the decoder with an error about what is at the present offset, unless it
// has one already.
func (r *Decoder) Fail(what string) {
	if r.Err == nil {
		r.Err = fmt.Errorf("%w: %s at offset %d of %d", storeerr.ErrCorrupt, what, r.Off, len(r.Data))
	}
}

// Uvarint reads an unsigned varint.
func (r *Decoder) Uvarint(what string) uint64 {
	if r.Err != nil {
		return 0
	}
	if r.Off < len(r.Data) && r.Data[r.Off] < 0x80 {
		r.Off++
		return uint64(r.Data[r.Off-1])
	}
	v, n := binary.Uvarint(r.Data[r.Off:])
	if n <= 0 {
		r.Fail(what)
		return 0
	}
	r.Off += n
	return v
}

// Varint reads a signed varint, in zigzag encoding.
func (r *Decoder) Varint(what string) int64 {
	v := r.Uvarint(what)
	return int64(v>>1) ^ -int64(v&1)
}

// Below reads a number that must be less than limit.
func (r *Decoder) Below(limit int, what string) uint32 {
	off := r.Off
	v := r.Uvarint(what)
	if r.Err == nil && v >= uint64(limit) {
		r.Off = off
		r.Fail(fmt.Sprintf("%s %d of %d", what, v, limit))
		return 0
	}
	return uint32(v)
}

// Count reads the number of items that follow, each of size bytes at least.
func (r *Decoder) Count(size int, what string) int {
	off := r.Off
	v := r.Uvarint(what)
	if r.Err == nil && v > uint64((len(r.Data)-r.Off)/size) {
		r.Off = off
		r.Fail(fmt.Sprintf("%s %d exceeds the value", what, v))
		return 0
	}
	return int(v)
}

// Byte reads one byte.
func (r *Decoder) Byte(what string) byte {
	if r.Err != nil {
		return 0
	}
	if r.Off >= len(r.Data) {
		r.Fail(what)
		return 0
	}
	r.Off++
	return r.Data[r.Off-1]
}

// Bytes reads n bytes, which stay a part of the value.
func (r *Decoder) Bytes(n int, what string) []byte {
	if r.Err != nil {
		return nil
	}
	if n < 0 || n > len(r.Data)-r.Off {
		r.Fail(what)
		return nil
	}
	r.Off += n
	return r.Data[r.Off-n : r.Off]
}

// String reads a length and as many bytes.
func (r *Decoder) String(what string) string {
	return string(r.Bytes(r.Count(1, what), what))
}

// Column reads a column's head and skips its bits.
func (r *Decoder) Column(what string) Column {
	k := r.Byte(what)
	if r.Err == nil && k > 62 {
		r.Off--
		r.Fail(what + " order")
	}
	size := r.Count(1, what)
	if r.Err != nil {
		return Column{}
	}
	c := Column{k: uint(k), tail: r.Data[r.Off:], size: size}
	r.Off += size
	return c
}

// End fails if anything is left.
func (r *Decoder) End() error {
	if r.Err == nil && r.Off != len(r.Data) {
		r.Fail(fmt.Sprintf("%d bytes too many", len(r.Data)-r.Off))
	}
	return r.Err
}
