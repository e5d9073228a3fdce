package profile

import (
	"cmp"
	"math/bits"
	"slices"
)

// mostCalls returns the largest number of calls of which the cut may fit: with more, the
// calls, the rest nodes and the large functions below these are too many. It may be
// maxNodes, and a cut to that many calls may still be too large for other functions.
//
// It begins with all of the largest calls, and leaves them out from the smallest on. What
// is below a call that is left out is then below its caller's rest node.
func (c *functionCut) mostCalls() int {
	bit, names := make([]int32, len(c.own)), int32(0) // of functions with a large self value, plus one
	for name, own := range c.own {
		if own >= c.large {
			names++
			bit[name] = names
		}
	}
	words := int(names+63) / 64
	if len(c.largest)*(words+1) > 2*len(c.in) {
		return int(c.maxNodes) // the sets take too much memory
	}
	in := c.at // by call: which of the largest it is part of; cleared by every attempt
	below := make([]uint64, len(c.largest)*words)
	hasRest := make([]bool, len(c.largest))
	set := func(l int32) []uint64 { return below[int(l)*words : int(l+1)*words] }
	add := func(l, call int32) {
		if b := bit[c.in[call].name]; b != 0 && c.in[call].self != [2]int64{} {
			set(l)[(b-1)/64] |= 1 << ((b - 1) % 64)
		}
		hasRest[l] = true
	}
	next := 0
	for i := range int32(len(c.in)) {
		if next < len(c.largest) && c.largest[next] == i {
			in[i] = int32(next)
			next++
			continue
		}
		in[i] = in[c.in[i].caller]
		add(in[i], i)
	}
	count := func(l int32) (nodes int) {
		for _, w := range set(l) {
			nodes += bits.OnesCount64(w)
		}
		if hasRest[l] {
			nodes++
		}
		return nodes
	}
	order := make([]int32, len(c.largest)) // by size; a caller comes before its callees
	nodes := len(c.largest) - 1
	for l := range order {
		order[l] = int32(l)
		nodes += count(int32(l))
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(c.size(c.largest[b]), c.size(c.largest[a])) })
	room := int(Room(c.maxNodes))
	for n := len(order) - 1; n > 0; n-- {
		if nodes <= room {
			return min(n, int(c.maxNodes))
		}
		call := c.largest[order[n]]
		up := in[c.in[call].caller]
		nodes -= 1 + count(order[n]) + count(up)
		for w, bits := range set(order[n]) {
			set(up)[w] |= bits
		}
		add(up, call)
		nodes += count(up)
	}
	return 0
}
