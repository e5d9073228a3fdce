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
	k, b, pos := c.k, c.tail, uint(0)
	end := uint(c.size) * 8
	for i := range dst {
		if at := pos >> 3; at+8 <= uint(len(b)) {
			w := binary.LittleEndian.Uint64(b[at:]) >> (pos & 7)
			z := uint(bits.TrailingZeros64(w))
			if width := 2*z + k + 1; width <= 57 {
				dst[i] = unpack(w, z, k)
				pos += width
				continue
			}
		}
		v, next, ok := c.decodeSlow(pos)
		if !ok {
			return false
		}
		dst[i], pos = v, next
	}
	return pos <= end
}

// unpack is the number that begins at the lowest bit of w, after z zeros. The
// masks, which change nothing, spare the compiler its checks of shifts.
func unpack(w uint64, z, k uint) uint64 {
	return (w>>((z+1)&63))&(1<<((z+k)&63)-1) + (1<<(z&63)-1)<<(k&63)
}

// decodePair is decode for two columns of the same length. A number's place
// follows from the one before, so two chains at a time take little more time
// than one.
func decodePair(c, d column, dst, other []uint64) bool {
	other = other[:len(dst)]
	i := 0
	var pc, pd uint
	for ; i < len(dst); i++ {
		ac, ad := pc>>3, pd>>3
		if ac+8 > uint(len(c.tail)) || ad+8 > uint(len(d.tail)) {
			break
		}
		wc := binary.LittleEndian.Uint64(c.tail[ac:]) >> (pc & 7)
		wd := binary.LittleEndian.Uint64(d.tail[ad:]) >> (pd & 7)
		zc, zd := uint(bits.TrailingZeros64(wc)), uint(bits.TrailingZeros64(wd))
		nc, nd := 2*zc+c.k+1, 2*zd+d.k+1
		if nc > 57 || nd > 57 {
			break
		}
		dst[i], other[i] = unpack(wc, zc, c.k), unpack(wd, zd, d.k)
		pc += nc
		pd += nd
	}
	for ; i < len(dst); i++ {
		var okC, okD bool
		dst[i], pc, okC = c.decodeSlow(pc)
		other[i], pd, okD = d.decodeSlow(pd)
		if !okC || !okD {
			return false
		}
	}
	return pc <= uint(c.size)*8 && pd <= uint(d.size)*8
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
