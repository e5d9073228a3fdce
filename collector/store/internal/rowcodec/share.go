package rowcodec

import (
	"math/bits"
)

// A Clip is a range of time, (lo, hi] in ms, of which a profile may cover a part.
//
// A profile covers [time, time+duration). A flow, such as CPU time, is spread over it
// evenly; one without a duration is at its time. Rows never cover the end of a slot,
// at which parts cuts profiles, so what is merged into windows needs no look at its
// neighbours.
type Clip struct{ Lo, Hi int64 }

// of returns which part of a profile of a duration is in the range: from and to are
// ms since the profile began.
func (c Clip) of(t, duration int64) (from, to int64) {
	if duration <= 0 {
		if c.Lo < t && t <= c.Hi {
			return 0, 1 // all of it
		}
		return 0, 0
	}
	return max(c.Lo-t, 0), min(c.Hi-t, duration)
}

// A Share is the part of a duration from one time to another. Shares of adjacent
// times add up to the value.
type Share struct {
	from, to   uint64 // in 1/2^64 of the duration
	begin, end bool   // it has the beginning, and the end; from and to are 0 then
}

// ShareOf is the part from..to of a duration, all in ms: 0 <= from < to <= duration.
func ShareOf(duration, from, to int64) Share {
	s := Share{begin: from <= 0, end: to >= duration}
	if !s.begin {
		s.from = fractionOf(from, duration)
	}
	if !s.end {
		s.to = fractionOf(to, duration)
	}
	return s
}

// fractionOf is a/b in 1/2^64, where 0 <= a < b.
func fractionOf(a, b int64) uint64 {
	q, _ := bits.Div64(uint64(a), 0, uint64(b))
	return q
}

// Of is a value's part, rounded by a phase.
func (s Share) Of(v int64, phase uint64) int64 {
	out := v
	if !s.end {
		out = until(v, s.to, phase)
	}
	if !s.begin {
		out -= until(v, s.from, phase)
	}
	return out
}

// until is a fraction of a value in 1/2^64 plus the phase, rounded down.
func until(v int64, fraction, phase uint64) int64 {
	hi, lo := bits.Mul64(uint64(v), fraction)
	_, carry := bits.Add64(lo, phase, 0)
	return int64(hi + carry)
}

// PhaseOf says how the value of a node, or of a sample, is rounded, by its number.
// Integers have no fractions, and phases that are spread evenly over all uint64 keep
// sums of many small values right.
func PhaseOf(n uint32) uint64 { return (uint64(n) + 1) * golden }

// golden is 2^64 divided by the golden ratio, whose multiples are spread evenly.
const golden = 0x9E3779B97F4A7C15

// Whole reports whether a profile is in the range with all that it covers.
func (c Clip) Whole(t, duration int64) bool {
	from, to := c.of(t, duration)
	return from == 0 && to == max(duration, 1)
}

// OfGrains is a value's part where it is made of some grains of about the same size,
// each of which is in one part.
func (s Share) OfGrains(v, grains int64, phase uint64) int64 {
	upTo := func(n int64) int64 { // the value of the first n
		hi, lo := bits.Mul64(uint64(v), uint64(n))
		q, _ := bits.Div64(hi, lo, uint64(grains))
		return int64(q)
	}
	out := v
	if !s.end {
		out = upTo(until(grains, s.to, phase))
	}
	if !s.begin {
		out -= upTo(until(grains, s.from, phase))
	}
	return out
}
