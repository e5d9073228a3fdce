package store

import "math/bits"

// A clip is a range of time, (lo, hi] in ms, of which a profile may cover a part.
//
// A profile covers [time, time+duration). A flow, such as CPU time, is spread over it
// evenly; one without a duration is at its time. Rows never cover the end of a slot,
// at which parts cuts profiles, so what is merged into windows needs no look at its
// neighbours.
type clip struct{ lo, hi int64 }

// of returns which part of a profile of a duration is in the range: from and to are
// ms since the profile began.
func (c clip) of(t, duration int64) (from, to int64) {
	if duration <= 0 {
		if c.lo < t && t <= c.hi {
			return 0, 1 // all of it
		}
		return 0, 0
	}
	return max(c.lo-t, 0), min(c.hi-t, duration)
}

// shareOf returns the part of a value that belongs to the time from..to of a
// duration, all in ms. Parts that follow on one another add up to the value.
// phase, which is below the duration, says where in the duration the fractions are
// that integers do not have: phases that are spread evenly keep sums of many small
// values right.
func shareOf(v, duration, from, to int64, phase uint64) int64 {
	return shareUntil(v, duration, to, phase) - shareUntil(v, duration, from, phase)
}

func shareUntil(v, duration, at int64, phase uint64) int64 {
	switch {
	case at <= 0:
		return 0
	case at >= duration:
		return v
	}
	if v < 1<<36 && duration <= dayMs { // the product is below 1<<63
		// A division by multiplication, which is off by one at most while the product
		// is exact as a float.
		if n := v*at + int64(phase); n < 1<<53 {
			q := int64(float64(n) * (1 / float64(duration)))
			switch r := n - q*duration; {
			case r < 0:
				q--
			case r >= duration:
				q++
			}
			return q
		}
	}
	hi, lo := bits.Mul64(uint64(v), uint64(at))
	lo, carry := bits.Add64(lo, phase, 0)
	q, _ := bits.Div64(hi+carry, lo, uint64(duration))
	return int64(q)
}

// phaseOf is a phase for the value of a node, or of a sample, by its number.
func phaseOf(n uint32, duration int64) uint64 {
	mixed := uint64(n+1) * 0x9E3779B97F4A7C15 >> 32
	return mixed * uint64(duration) >> 32
}

// covers is what a row of a single profile covers, as pointList.covers.
func (p *packedRow) covers() uint64 {
	d := min(p.duration, dayMs) << 1
	if p.parts > 0 {
		d |= 1
	}
	return d
}

// addShare adds the part of a single profile's values that is in a range, times a
// sign, of the nodes that within selects, or all if it is nil. t is the profile's
// time. The sum is that of what it added, without the sign.
func (p *packedRow) addShare(sums nodeSums, sampleType int, sign int64, c clip, t int64, within func(node uint32) bool, s *scratch) (sum int64, err error) {
	d := int64(p.covers() >> 1)
	from, to := c.of(t, d)
	if from >= to {
		return 0, nil
	}
	if p.count == 0 {
		return 0, nil
	}
	v, factor, err := p.of(sampleType)
	if err == nil {
		err = p.unpack(v, sums.limit(), s)
	}
	if err != nil {
		return 0, err
	}
	j := 0
	for i, node := range s.nodes {
		if !v.has(i) {
			continue
		}
		x := int64(s.values[j]+1) * factor
		j++
		if within != nil && !within(uint32(node)) {
			continue
		}
		if x = shareOf(x, d, from, to, phaseOf(uint32(node), d)); x != 0 {
			sums.add(node, x*sign)
			sum += x
		}
	}
	return sum, nil
}

// whole reports whether a profile is in the range with all that it covers.
func (c clip) whole(t, duration int64) bool {
	from, to := c.of(t, duration)
	return from == 0 && to == max(duration, 1)
}
