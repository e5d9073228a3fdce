// Package bitpack packs columns of numbers into bits, and reads values field by field within their bounds.
package bitpack

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

// AppendColumn appends the order, the length of the bits in bytes, and the
// bits. Values must be below 1<<63.
func AppendColumn(b []byte, vs []uint64) []byte {
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
	putLong := func(v uint64, width uint) {
		for ; width > 0; width -= min(width, 32) {
			put(v&(1<<min(width, 32)-1), min(width, 32))
			v >>= 32
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
		putLong(0, z)
		put(1, 1)
		putLong(low, z+k)
	}
	if n > 0 {
		b = append(b, byte(acc))
	}
	return b
}

// A Column is the packed form of n numbers. tail is everything from its first
// byte to the end of the value, so that reads may run past the column.
type Column struct {
	k    uint
	tail []byte
	size int // bytes of the column in tail
}

// Decode unpacks len(dst) numbers. It reports false if the column ends early.
func (c Column) Decode(dst []uint64) bool {
	pos, i := uint(0), 0
	for i < len(dst) {
		if i+4 <= len(dst) && c.hasWord(pos) {
			a, b, d, e, used := c.four(pos)
			if used <= wordBits {
				out := dst[i : i+4 : i+4]
				out[0], out[1], out[2], out[3] = a, b, d, e
				pos += used
				i += 4
				continue
			}
		}
		var ok bool
		if dst[i], pos, ok = c.one(pos); !ok {
			return false
		}
		i++
	}
	return c.ends(pos)
}

// AddPairs adds the numbers of values plus one, times a factor, to the sums of the
// nodes that begin at -1 and grow by the numbers of steps plus one. It reports
// how many it added, and whether all is well: whether there are n numbers in both
// columns, and all nodes are in sums.
//
// The place of a number in a column follows from the one before, which keeps a
// processor waiting. Two columns at a time take less time than one after the other.
func AddPairs(steps, values Column, n int, sums Sums, factor int64) (added int, ok bool) {
	limit, to, place := uint64(sums.Limit()), sums.Values, sums.Place
	var posS, posV uint
	at := ^uint64(0)
	for i := 0; i < n; {
		if i+4 <= n && steps.hasWord(posS) && values.hasWord(posV) {
			s0, s1, s2, s3, usedS := steps.four(posS)
			v0, v1, v2, v3, usedV := values.four(posV)
			if usedS <= wordBits && usedV <= wordBits {
				p0 := at + s0 + 1
				p1 := p0 + s1 + 1
				p2 := p1 + s2 + 1
				p3 := p2 + s3 + 1
				// Sums of numbers of less than 57 bits do not overflow.
				if p3 >= limit {
					return i, false
				}
				if place != nil {
					to[place[p0]] += int64(v0+1) * factor
					to[place[p1]] += int64(v1+1) * factor
					to[place[p2]] += int64(v2+1) * factor
					to[place[p3]] += int64(v3+1) * factor
				} else {
					to[p0] += int64(v0+1) * factor
					to[p1] += int64(v1+1) * factor
					to[p2] += int64(v2+1) * factor
					to[p3] += int64(v3+1) * factor
				}
				at, posS, posV = p3, posS+usedS, posV+usedV
				i += 4
				continue
			}
		}
		step, nextS, okS := steps.one(posS)
		v, nextV, okV := values.one(posV)
		// at is below the limit, or -1.
		if !okS || !okV || step >= limit || at+step+1 >= limit {
			return i, false
		}
		at += step + 1
		sums.Add(at, int64(v+1)*factor)
		posS, posV = nextS, nextV
		i++
	}
	return n, steps.ends(posS) && values.ends(posV)
}

// wordBits are the bits of a word that are left whichever bit of its first byte
// it begins at.
const wordBits = 57

// hasWord reports whether one can be read at a bit.
func (c *Column) hasWord(pos uint) bool { return pos>>3+8 <= uint(len(c.tail)) }

// ends reports whether nothing beyond the column was read up to pos.
func (c *Column) ends(pos uint) bool { return pos <= uint(c.size)*8 }

// four unpacks the numbers from a bit on, and reports the bits that they take. If
// that is more than wordBits, they are wrong.
func (c *Column) four(pos uint) (a, b, d, e uint64, used uint) {
	w, k := binary.LittleEndian.Uint64(c.tail[pos>>3:])>>(pos&7), c.k&63
	a, w, z0 := unpack(w, k)
	b, w, z1 := unpack(w, k)
	d, w, z2 := unpack(w, k)
	e, _, z3 := unpack(w, k)
	return a, b, d, e, 2*(z0+z1+z2+z3) + 4*k + 4
}

// one unpacks a number.
func (c *Column) one(pos uint) (v uint64, next uint, ok bool) {
	if c.hasWord(pos) {
		w, k := binary.LittleEndian.Uint64(c.tail[pos>>3:])>>(pos&7), c.k&63
		v, _, z := unpack(w, k)
		if used := 2*z + k + 1; used <= wordBits {
			return v, pos + used, true
		}
	}
	return c.decodeSlow(pos)
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

func (c Column) decodeSlow(pos uint) (v uint64, next uint, ok bool) {
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

// Sums are sums of nodes: values by node or, with places, of groups of nodes, by
// the place of each node.
type Sums struct {
	Values []int64
	Place  []uint32 // node to index in values; nil for the node itself
}

// Limit is what all nodes are below.
func (s *Sums) Limit() int {
	if s.Place != nil {
		return len(s.Place)
	}
	return len(s.Values)
}

// Add adds a value to the sum of a node.
func (s *Sums) Add(node uint64, v int64) {
	if s.Place != nil {
		node = uint64(s.Place[node])
	}
	s.Values[node] += v
}

// Rows reads a number of rows. Each takes at least a bit in some column.
func (r *Decoder) Rows(what string) int {
	n := r.Uvarint(what)
	if r.Err == nil && n > uint64(len(r.Data))*8 {
		r.Fail(what)
		return 0
	}
	return int(n)
}
