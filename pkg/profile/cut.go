package profile

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// A Cut chooses the nodes of a tree to keep when the tree has more than may be shown.
// The children that are dropped are merged into one rest node per kept parent.
//
// The largest nodes are kept. Nodes of equal size are ordered by depth, then by their
// name, their caller's name and so on. So the choice depends only on the tree, and a
// parent, which is at least as large as its children, always comes before them. If a
// rest node would replace a single leaf, the leaf is kept instead.
//
// The zero value is an empty tree. A Cut can be reused after Reset. It is not safe for
// concurrent use.
type Cut struct {
	nodes []cutNode
	rests int64 // number of partial nodes
	least int64 // the maxNodes-th largest size; 0 if unknown

	// Buffers of Choose.
	keep   []bool
	values []int64
	events []cutEvent
	ties   []int32
	depth  []int32
}

type cutNode struct {
	size   int64
	low    int64 // size of the smallest child; own size for a leaf; 0 if children were not added
	parent int32
	left   int32 // number of children that are not kept, plus 1 if children were not added
}

// maxRests returns the number of rest nodes that a tree of maxNodes nodes may have in
// addition: a sixteenth, but at least 8. For large trees it is a quarter, which is
// seldom exceeded: choosing fewer nodes takes longer than drawing some more.
func maxRests(maxNodes int64) int64 {
	if maxNodes >= 4096 {
		return maxNodes / 4
	}
	return max(maxNodes/16, 8)
}

// Room returns the maximum number of nodes, without the root and with rest nodes, of a
// tree that was cut to maxNodes nodes.
func Room(maxNodes int64) int64 {
	if maxNodes > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return maxNodes + maxRests(maxNodes)
}

// Fits reports whether all nodes and their rest nodes can be kept. A few more than
// maxNodes are allowed, so that it is not needed to choose among nodes that are as large
// as the smallest kept one.
func Fits(nodes, rests, maxNodes, room int64) bool {
	return nodes-maxNodes <= maxNodes/16 && nodes+rests <= room
}

// Reset removes all nodes.
func (c *Cut) Reset() { c.nodes, c.rests, c.least = c.nodes[:0], 0, 0 }

// Least tells Choose that all added nodes have at least this size, and that the number
// of larger ones does not exceed the limit. Otherwise Choose computes such a size.
func (c *Cut) Least(size int64) { c.least = size }

// Add adds a node and returns its number. The first node is the root, with the parent
// -1. A parent must be added before its children, and be at least as large.
func (c *Cut) Add(parent int32, size int64) int32 {
	if parent >= 0 {
		up := &c.nodes[parent]
		up.left++
		up.low = min(up.low, size) // no child is larger
	}
	c.nodes = append(c.nodes, cutNode{size: size, low: size, parent: parent})
	return int32(len(c.nodes) - 1)
}

// Partial marks a node that has children smaller than all added nodes, which are
// therefore not added and always dropped. It must be called once per node.
func (c *Cut) Partial(node int32) {
	c.nodes[node].low = 0
	c.nodes[node].left++
	c.rests++
}

// Choose returns for each node whether it is kept, or nil if all are. It keeps up to
// maxNodes nodes, not counting leaves that are kept in place of rest nodes, and up to
// room nodes including rest nodes; room must be at least 8. The root is always kept and
// not counted. The result is valid until Reset. Choose may be called once before the
// next Reset.
func (c *Cut) Choose(maxNodes, room int64, name func(node int32) string) []bool {
	count := int64(len(c.nodes) - 1)
	if Fits(count, c.rests, maxNodes, room) {
		return nil
	}
	return c.keepFrom(c.bound(maxNodes, room), maxNodes, room, name)
}

// bound returns the largest size of which not all nodes can be kept. All larger nodes
// are kept, and no smaller ones.
func (c *Cut) bound(maxNodes, room int64) int64 {
	if maxNodes <= 0 {
		return math.MaxInt64
	}
	least := max(c.least, 1)
	if c.least == 0 {
		c.values = c.values[:0]
		for i := range c.nodes[1:] {
			c.values = append(c.values, c.nodes[i+1].size)
		}
		least = NthLargest(c.values, int(min(maxNodes, int64(len(c.values)))))
	}
	// If all nodes of at least some size are kept, each of them has a rest node if its
	// smallest child is smaller than that size. So the number of nodes with rest nodes
	// is twice the number of kept nodes, minus the number of those whose smallest child
	// is kept. The root may have a rest node, but is not counted itself.
	//
	// Usually only some of the smallest nodes are dropped, so the larger ones, from
	// above on, need no ordering.
	for above := least + least/4 + 1; ; above += above / 2 {
		if above < 0 {
			above = math.MaxInt64
		}
		left := room - 1
		c.events = c.events[:0]
		for i := range c.nodes {
			n := &c.nodes[i]
			switch {
			case i == 0 || n.size < least:
			case n.size >= above:
				left -= 2
			default:
				c.events = append(c.events, cutEvent(n.size)<<1|1)
			}
			switch {
			case n.low == 0 || n.low < least:
			case n.low >= above:
				left++
			default:
				c.events = append(c.events, cutEvent(n.low)<<1)
			}
		}
		if left >= 0 || above == math.MaxInt64 {
			return max(least, firstOver(c.events, left))
		}
	}
}

// A cutEvent is a change of the number of nodes as the least kept size falls. The lowest
// bit says whether the size is that of a node (+2) or of a node's smallest child (-1);
// the other bits are the size.
type cutEvent uint64

func (e cutEvent) size() int64   { return int64(e >> 1) }
func (e cutEvent) weight() int64 { return int64(e&1)*3 - 1 }

// firstOver returns the largest size at which the total weight of the events of at least
// this size exceeds room, 0 if there is none. That total must not fall as the size
// falls.
func firstOver(events []cutEvent, room int64) int64 {
	for len(events) > 0 {
		// The median of three avoids the worst case for sorted input.
		a, b, d := events[0].size(), events[len(events)/2].size(), events[len(events)-1].size()
		pivot := max(min(a, b), min(max(a, b), d))
		var above, equal int64
		i, j, k := 0, 0, len(events) // larger before i, equal from i to j, smaller from k
		for j < k {
			switch e := events[j]; {
			case e.size() > pivot:
				above += e.weight()
				events[i], events[j] = e, events[i]
				i++
				j++
			case e.size() == pivot:
				equal += e.weight()
				j++
			default:
				k--
				events[j], events[k] = events[k], e
			}
		}
		switch {
		case above > room:
			events = events[:i]
		case above+equal > room:
			return pivot
		default:
			room -= above + equal
			events = events[k:]
		}
	}
	return 0
}

// keepFrom keeps the nodes above a bound, and as many of those at the bound as fit.
func (c *Cut) keepFrom(bound, maxNodes, room int64, name func(node int32) string) []bool {
	nodes := c.nodes
	c.keep = slices.Grow(c.keep[:0], len(nodes))[:len(nodes)]
	keep, ties := c.keep, c.ties[:0]
	keep[0] = true
	kept, all := int64(0), int64(0) // number of nodes; the same with rest nodes
	for i := len(nodes) - 1; i >= 0; i-- {
		n := &nodes[i]
		switch {
		case i == 0:
		case n.size > bound:
			keep[i] = true
			nodes[n.parent].left--
			kept++
		case n.size == bound:
			ties = append(ties, int32(i))
			fallthrough
		default:
			keep[i] = false
			continue
		}
		if n.left > 0 {
			all++
		}
	}
	all += kept
	c.ties = ties
	// set keeps a node (by 1), or drops it again (by -1).
	set := func(i int32, by int64) {
		up := &nodes[nodes[i].parent]
		had := up.left > 0
		keep[i] = by > 0
		up.left -= int32(by)
		kept += by
		if all += by; nodes[i].left > 0 {
			all += by
		}
		if has := up.left > 0; had && !has {
			all--
		} else if has && !had {
			all++
		}
	}
	fits := func() bool { return kept <= maxNodes && all <= room }
	c.sortByDepth(ties)
	depth := func(i int32) int32 { return c.depth[i] }
	for first := 0; first < len(ties); {
		end := first
		for end < len(ties) && depth(ties[end]) == depth(ties[first]) {
			end++
		}
		level := ties[first:end]
		first = end
		for _, i := range level {
			set(i, 1)
		}
		if fits() {
			continue
		}
		for _, i := range level {
			set(i, -1)
		}
		slices.SortFunc(level, func(a, b int32) int { return c.comparePaths(a, b, name) })
		for _, i := range level {
			if set(i, 1); !fits() {
				set(i, -1)
				break
			}
		}
		break
	}
	// A leaf that a rest node would replace alone is kept.
	for _, i := range ties {
		if n := &nodes[i]; !keep[i] && keep[n.parent] && n.left == 0 && nodes[n.parent].left == 1 {
			set(i, 1)
		}
	}
	return keep
}

// sortByDepth sorts nodes by depth, after computing c.depth for them.
func (c *Cut) sortByDepth(list []int32) {
	c.depth = slices.Grow(c.depth[:0], len(c.nodes))[:len(c.nodes)]
	if len(list) < len(c.nodes)/64 { // the others' depth is not needed
		for _, i := range list {
			c.depth[i] = 0
			for up := i; up > 0; up = c.nodes[up].parent {
				c.depth[i]++
			}
		}
	} else {
		c.depth[0] = 0
		for i := 1; i < len(c.nodes); i++ {
			c.depth[i] = c.depth[c.nodes[i].parent] + 1
		}
	}
	slices.SortFunc(list, func(a, b int32) int { return cmp.Compare(c.depth[a], c.depth[b]) })
}

// comparePaths compares two nodes of the same depth by name, then by their callers'
// names.
func (c *Cut) comparePaths(a, b int32, name func(node int32) string) int {
	for a != b {
		if order := strings.Compare(name(a), name(b)); order != 0 {
			return order
		}
		a, b = c.nodes[a].parent, c.nodes[b].parent
	}
	return 0
}

// NthLargest returns the nth largest value, for n from 1 to the number of values. It
// reorders them.
func NthLargest(v []int64, n int) int64 {
	lo, hi, k := 0, len(v)-1, len(v)-n
	for lo < hi {
		// The median of three avoids the worst case for sorted input.
		a, b, c := v[lo], v[lo+(hi-lo)/2], v[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for v[j] > pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return v[k]
		}
	}
	return v[k]
}
