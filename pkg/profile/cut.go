package profile

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// A Cut chooses which nodes of a tree are kept when it has more than may be
// shown. What it drops goes into one rest node below each kept parent.
//
// The largest nodes are kept. Of nodes of equal size those nearer to the root come
// first, then those whose name, their caller's name and so on come first in the
// alphabet; so the choice depends on the tree alone, and a parent, which is as large
// as its largest child, always comes before its children. Of those left, one that has
// no children is kept in place of a rest node that would stand for it alone.
//
// The zero value is an empty tree. A Cut can be used again after Reset; it is not
// safe for concurrent use.
type Cut struct {
	nodes []cutNode
	rests int64 // nodes that are partial
	least int64 // the maxNodes-th largest size, 0 if not known

	// Memory of Choose.
	keep   []bool
	values []int64
	events []cutEvent
	ties   []int32
	depth  []int32
}

type cutNode struct {
	size   int64
	low    int64 // size of the smallest child, own size without any, 0 if some were not added
	parent int32
	left   int32 // children that are not kept, and one more for those not added
}

// maxRests is how many nodes a tree of maxNodes nodes may have besides them, for
// rest nodes: a sixteenth, but a few even of the smallest trees. Of large trees it is a
// quarter, which trees of programs seldom need more than: to choose fewer nodes takes
// longer than to draw some more.
func maxRests(maxNodes int64) int64 {
	if maxNodes >= 4096 {
		return maxNodes / 4
	}
	return max(maxNodes/16, 8)
}

// Room is how many nodes, without the root, a tree that was cut to maxNodes nodes has
// at most, with its rest nodes.
func Room(maxNodes int64) int64 {
	if maxNodes > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return maxNodes + maxRests(maxNodes)
}

// Fits reports whether nodes can all be kept, with their rest nodes. Some more than
// maxNodes can, so that few nodes which are as large as the smallest that is kept need
// not be chosen from.
func Fits(nodes, rests, maxNodes, room int64) bool {
	return nodes-maxNodes <= maxNodes/16 && nodes+rests <= room
}

// Reset removes all nodes.
func (c *Cut) Reset() { c.nodes, c.rests, c.least = c.nodes[:0], 0, 0 }

// Least says that no node smaller than a size was added, and that there are no more than
// may be kept of nodes that are larger. Choose finds such a size otherwise.
func (c *Cut) Least(size int64) { c.least = size }

// Add adds a node and returns its number. The first one is the root, with the parent
// -1; a parent is added before its children and is as large as any of them.
func (c *Cut) Add(parent int32, size int64) int32 {
	if parent >= 0 {
		up := &c.nodes[parent]
		up.left++
		up.low = min(up.low, size) // no child is larger
	}
	c.nodes = append(c.nodes, cutNode{size: size, low: size, parent: parent})
	return int32(len(c.nodes) - 1)
}

// Partial marks a node, once, with children that are smaller than all nodes that were
// added. They are dropped whatever else is.
func (c *Cut) Partial(node int32) {
	c.nodes[node].low = 0
	c.nodes[node].left++
	c.rests++
}

// Choose reports of each node whether it is kept, or nil if all are. It keeps at most
// maxNodes nodes, besides those in place of rest nodes, and no more than make room nodes
// together with the rest nodes that they need; room is 8 at least. The root is always
// kept and counts as none. The result is valid until Reset. It is to be called once
// after that.
func (c *Cut) Choose(maxNodes, room int64, name func(node int32) string) []bool {
	count := int64(len(c.nodes) - 1)
	if Fits(count, c.rests, maxNodes, room) {
		return nil
	}
	return c.keepFrom(c.bound(maxNodes, room), maxNodes, room, name)
}

// bound returns the size of which some nodes can be kept, but not all. All larger
// nodes can be, no smaller one.
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
	// With the nodes of at least a size kept, a node of that size or more has a rest if
	// its smallest child is smaller. So nodes and rests together are twice the sizes that
	// are large enough, less the smallest children that are. The root may have a rest, but
	// does not count itself.
	//
	// Most often only some of the smallest nodes have to go, so that the others do not
	// have to be ordered.
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

// A cutEvent says how many nodes more a tree has when those of a size are kept. Its
// lowest bit is set of the size of a node, and not of that of a smallest child; the
// others are the size.
type cutEvent uint64

func (e cutEvent) size() int64   { return int64(e >> 1) }
func (e cutEvent) weight() int64 { return int64(e&1)*3 - 1 }

// firstOver returns the largest size at which the events of that size and more weigh
// more than room, 0 if there is none. What events of at least a size weigh must not
// fall when the size does.
func firstOver(events []cutEvent, room int64) int64 {
	for len(events) > 0 {
		// The middle of three keeps sorted input from being the worst case.
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

// keepFrom keeps the nodes above a bound, and as many of those at the bound as there
// is room for.
func (c *Cut) keepFrom(bound, maxNodes, room int64, name func(node int32) string) []bool {
	nodes := c.nodes
	c.keep = slices.Grow(c.keep[:0], len(nodes))[:len(nodes)]
	keep, ties := c.keep, c.ties[:0]
	keep[0] = true
	kept, all := int64(0), int64(0) // nodes, and with rest nodes
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
	// set keeps a node, or takes it back.
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
	// A leaf that would be all of a rest takes the place of the rest node.
	for _, i := range ties {
		if n := &nodes[i]; !keep[i] && keep[n.parent] && n.left == 0 && nodes[n.parent].left == 1 {
			set(i, 1)
		}
	}
	return keep
}

// sortByDepth sorts nodes by their depth and sets it.
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

// comparePaths compares the names of two nodes of the same depth, then those of their
// callers.
func (c *Cut) comparePaths(a, b int32, name func(node int32) string) int {
	for a != b {
		if order := strings.Compare(name(a), name(b)); order != 0 {
			return order
		}
		a, b = c.nodes[a].parent, c.nodes[b].parent
	}
	return 0
}

// NthLargest returns the nth largest of some values, n being at least 1 and at
// most their number. It changes their order.
func NthLargest(v []int64, n int) int64 {
	lo, hi, k := 0, len(v)-1, len(v)-n
	for lo < hi {
		// The middle of three keeps sorted input from being the worst case.
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
