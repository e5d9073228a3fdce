package store

import (
	"encoding/binary"
	"fmt"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A reader reads a value's fields in order. The first malformed field stops it:
// all further reads give zeros and err says what was wrong and where.
type reader struct {
	data []byte
	off  int
	err  error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s at offset %d of %d", storeerr.ErrCorrupt, what, r.off, len(r.data))
	}
}

func (r *reader) uvarint(what string) uint64 {
	if r.err != nil {
		return 0
	}
	if r.off < len(r.data) && r.data[r.off] < 0x80 {
		r.off++
		return uint64(r.data[r.off-1])
	}
	v, n := binary.Uvarint(r.data[r.off:])
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.off += n
	return v
}

func (r *reader) varint(what string) int64 {
	v := r.uvarint(what)
	return int64(v>>1) ^ -int64(v&1)
}

// below reads a number that must be less than limit.
func (r *reader) below(limit int, what string) uint32 {
	off := r.off
	v := r.uvarint(what)
	if r.err == nil && v >= uint64(limit) {
		r.off = off
		r.fail(fmt.Sprintf("%s %d of %d", what, v, limit))
		return 0
	}
	return uint32(v)
}

// count reads the number of items that follow, each of size bytes at least.
func (r *reader) count(size int, what string) int {
	off := r.off
	v := r.uvarint(what)
	if r.err == nil && v > uint64((len(r.data)-r.off)/size) {
		r.off = off
		r.fail(fmt.Sprintf("%s %d exceeds the value", what, v))
		return 0
	}
	return int(v)
}

func (r *reader) byte(what string) byte {
	if r.err != nil {
		return 0
	}
	if r.off >= len(r.data) {
		r.fail(what)
		return 0
	}
	r.off++
	return r.data[r.off-1]
}

// bytes reads n bytes, which stay a part of the value.
func (r *reader) bytes(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.data)-r.off {
		r.fail(what)
		return nil
	}
	r.off += n
	return r.data[r.off-n : r.off]
}

func (r *reader) string(what string) string {
	return string(r.bytes(r.count(1, what), what))
}

// column reads a column's head and skips its bits.
func (r *reader) column(what string) column {
	k := r.byte(what)
	if r.err == nil && k > 62 {
		r.off--
		r.fail(what + " order")
	}
	size := r.count(1, what)
	if r.err != nil {
		return column{}
	}
	c := column{k: uint(k), tail: r.data[r.off:], size: size}
	r.off += size
	return c
}

// end fails if anything is left.
func (r *reader) end() error {
	if r.err == nil && r.off != len(r.data) {
		r.fail(fmt.Sprintf("%d bytes too many", len(r.data)-r.off))
	}
	return r.err
}
