package store

import (
	"encoding/binary"
	"math/bits"
)

// Numbers of a column are packed with exponential Golomb codes of order k: the
// k low bits as they are, the rest as a number of zero bits, a one, and as many
// bits again. That is near the entropy of both node deltas and sample values,
// and decodes without tables. Bits fill bytes from the lowest.

// columnBits is the length of a column of order k in bits.
func columnBits(vs []uint64, k uint) (n uint64) {
	for _, v := range vs {
		n += 2*uint64(bits.Len64(v>>k+1)) - 1
	}
	return n + uint64(k)*uint64(len(vs))
}

// bestOrder is the k that makes a column short. The length is convex enough in
// k that the first rise ends the search.
func bestOrder(vs []uint64) uint {
	sum := uint64(0)
	for _, v := range vs {
		if sum += v; sum < v {
			sum = 1 << 63
			break
		}
	}
	start := uint(0)
	if n := uint64(len(vs)); n > 0 {
		start = uint(max(bits.Len64(sum/n)-2, 0))
	}
	k, least := start, columnBits(vs, start)
	for k > 0 {
		n := columnBits(vs, k-1)
		if n >= least {
			break
		}
		k, least = k-1, n
	}
	if k == start {
		for k < 62 {
			n := columnBits(vs, k+1)
			if n >= least {
				break
			}
			k, least = k+1, n
		}
	}
	return k
}

// appendColumn appends the order, the length of the bits in bytes, and the
// bits. Values must be below 1<<63.
func appendColumn(b []byte, vs []uint64) []byte {
	k := bestOrder(vs)
	b = append(b, byte(k))
	b = binary.AppendUvarint(b, (columnBits(vs, k)+7)/8)
	var acc uint64
	var n uint // bits in acc, below 8 between values
	put := func(v uint64, width uint) {
		acc |= v << n
		n += width
		for n >= 8 {
			b = append(b, byte(acc))
			acc >>= 8
			n -= 8
		}
	}
	for _, v := range vs {
		high := v>>k + 1
		z := uint(bits.Len64(high)) - 1
		low := v - (1<<z-1)<<k // z+k bits
		if 2*z+k+1 <= 56 {
			put((low<<1|1)<<z, 2*z+k+1)
			continue
		}
		for w := z; w > 0; {
			s := min(w, 32)
			put(0, s)
			w -= s
		}
		put(1, 1)
		for w := z + k; w > 0; {
			s := min(w, 32)
			put(low&(1<<s-1), s)
			low >>= s
			w -= s
		}
	}
	if n > 0 {
		b = append(b, byte(acc))
	}
	return b
}

// A column is the packed form of n numbers. tail is everything from its first
// byte to the end of the value, so that reads may run past the column.
type column struct {
	k    uint
	tail []byte
	size int // bytes of the column in tail
}

// decode unpacks len(dst) numbers. It reports false if the column ends early.
func (c column) decode(dst []uint64) bool {
	u := unpacker{column: c}
	for len(dst) > 0 {
		dst = u.some(dst)
	}
	return u.end()
}

// decodePair is decode for two columns. The place of a number follows from the
// one before, which keeps a processor waiting: two chains at a time take less
// time than one after the other.
func decodePair(c, d column, dst, other []uint64) bool {
	u, v := unpacker{column: c}, unpacker{column: d}
	for len(dst) > 0 && len(other) > 0 {
		dst, other = u.some(dst), v.some(other)
	}
	for len(dst) > 0 {
		dst = u.some(dst)
	}
	for len(other) > 0 {
		other = v.some(other)
	}
	return u.end() && v.end()
}

// An unpacker reads a column.
type unpacker struct {
	column
	pos   uint // bits read
	short bool // the column ended early
}

// end reports whether nothing beyond the column was read.
func (u *unpacker) end() bool { return !u.short && u.pos <= uint(u.size)*8 }

// some unpacks some numbers, one at least, and returns what is left of dst.
func (u *unpacker) some(dst []uint64) []uint64 {
	at := u.pos >> 3
	if at+8 > uint(len(u.tail)) {
		return u.last(dst)
	}
	w := binary.LittleEndian.Uint64(u.tail[at:]) >> (u.pos & 7)
	const bitsOfWord = 57 // that begins at any bit of a byte
	k := u.k & 63
	if len(dst) >= 4 {
		v0, w, z0 := unpack(w, k)
		v1, w, z1 := unpack(w, k)
		v2, w, z2 := unpack(w, k)
		v3, _, z3 := unpack(w, k)
		if used := 2*(z0+z1+z2+z3) + 4*k + 4; used <= bitsOfWord {
			dst[0], dst[1], dst[2], dst[3] = v0, v1, v2, v3
			u.pos += used
			return dst[4:]
		}
	}
	v, _, z := unpack(w, k)
	if used := 2*z + k + 1; used <= bitsOfWord {
		dst[0] = v
		u.pos += used
		return dst[1:]
	}
	return u.last(dst)
}

// unpack returns the number at the lowest bit of w, what comes after it, and the
// zeros that it begins with. The masks of shifts, which change nothing where the
// number is in w, spare the compiler its checks.
func unpack(w uint64, k uint) (v, rest uint64, zeros uint) {
	z := uint(bits.TrailingZeros64(w))
	// After the one there are z+k bits of the number plus 1<<k, whose highest bit
	// is not written.
	high := uint64(1) << ((z + k) & 63)
	w >>= (z + 1) & 63
	return w&(high-1) + high - 1<<(k&63), w >> ((z + k) & 63), z
}

// last is some for a number near the end, or a long one.
func (u *unpacker) last(dst []uint64) []uint64 {
	v, next, ok := u.decodeSlow(u.pos)
	if !ok {
		u.short = true
		return nil
	}
	dst[0], u.pos = v, next
	return dst[1:]
}

func (c column) decodeSlow(pos uint) (v uint64, next uint, ok bool) {
	end := uint(c.size) * 8
	bit := func() uint64 {
		x := uint64(c.tail[pos>>3] >> (pos & 7) & 1)
		pos++
		return x
	}
	z := uint(0)
	for {
		if pos >= end {
			return 0, 0, false
		}
		if bit() == 1 {
			break
		}
		z++
	}
	if z+c.k > 63 || pos+z+c.k > end {
		return 0, 0, false
	}
	for i := range z + c.k {
		v |= bit() << i
	}
	return v + (1<<z-1)<<c.k, pos, true
}
