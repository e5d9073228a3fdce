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
// as its largest child, always comes before its children.
//
// The zero value is an empty tree. A Cut can be used again after Reset; it is not
// safe for concurrent use.
type Cut struct {
	parents []int32
	sizes   []int64
	partial []bool // has children that were not added

	// Memory of Choose.
	low    []int64 // size of the smallest child, own size without any, 0 of what is partial
	left   []int32 // children that are not kept, and one more for those not added
	depth  []int32
	keep   []bool
	values []int64
	events []cutEvent
	ties   []int32
}

// maxRests is how many nodes a tree of maxNodes nodes may have besides them, for
// rest nodes: a sixteenth, but a few even of the smallest trees.
func maxRests(maxNodes int64) int64 { return max(maxNodes/16, 8) }

// Room is how many nodes, without the root, a tree that was cut to maxNodes nodes has
// at most, with its rest nodes.
func Room(maxNodes int64) int64 {
	if maxNodes > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return maxNodes + maxRests(maxNodes)
}

// Reset removes all nodes.
func (c *Cut) Reset() {
	c.parents, c.sizes, c.partial = c.parents[:0], c.sizes[:0], c.partial[:0]
}

// Add adds a node and returns its number. The first one is the root, with the parent
// -1; a parent is added before its children and is as large as any of them.
func (c *Cut) Add(parent int32, size int64) int32 {
	c.parents, c.sizes, c.partial = append(c.parents, parent), append(c.sizes, size), append(c.partial, false)
	return int32(len(c.parents) - 1)
}

// Partial marks a node with children that are smaller than all nodes that were
// added. They are dropped whatever else is.
func (c *Cut) Partial(node int32) { c.partial[node] = true }

// Choose reports of each node whether it is kept, or nil if all are. It keeps at most
// maxNodes nodes, and no more than make room nodes together with the rest nodes that
// they need. The root is always kept and counts as none. The result is valid until
// the next call.
func (c *Cut) Choose(maxNodes, room int64, name func(node int32) string) []bool {
	n := len(c.parents)
	c.low, c.left = slices.Grow(c.low[:0], n)[:n], slices.Grow(c.left[:0], n)[:n]
	copy(c.low, c.sizes)
	clear(c.left)
	rests := int64(0)
	for i := n - 1; i > 0; i-- {
		p := c.parents[i]
		if c.left[p]++; c.left[p] == 1 || c.sizes[i] < c.low[p] {
			c.low[p] = c.sizes[i]
		}
	}
	for i, partial := range c.partial {
		if partial {
			c.low[i] = 0
			c.left[i]++
			rests++
		}
	}
	count := int64(n - 1)
	if n == 0 || count <= maxNodes && count+rests <= room {
		return nil
	}
	bound := c.bound(maxNodes, room)
	return c.keepFrom(bound, maxNodes, room, name)
}

// bound returns the size of which some nodes can be kept, but not all. All larger
// nodes can be, no smaller one.
func (c *Cut) bound(maxNodes, room int64) int64 {
	bound := int64(0)
	switch count := int64(len(c.sizes) - 1); {
	case maxNodes <= 0:
		return math.MaxInt64
	case count > maxNodes:
		c.values = append(c.values[:0], c.sizes[1:]...)
		bound = NthLargest(c.values, int(maxNodes))
	}
	// With the nodes of at least a size kept, a node of that size or more has a rest if
	// its smallest child is smaller. So nodes and rests together are twice the sizes that
	// are large enough, less the smallest children that are.
	c.events = c.events[:0]
	for i, size := range c.sizes {
		if i > 0 && size >= bound {
			c.events = append(c.events, cutEvent{size, 2})
		}
		if low := c.low[i]; low >= bound && low > 0 {
			c.events = append(c.events, cutEvent{low, -1})
		}
	}
	return max(bound, firstOver(c.events, room-1)) // the root may have a rest
}

// A cutEvent is how many nodes more a tree has when nodes of a size are kept.
type cutEvent struct {
	size   int64
	weight int64
}

// firstOver returns the largest size at which the events of that size and more weigh
// more than room, 0 if there is none. What events of at least a size weigh must not
// fall when the size does.
func firstOver(events []cutEvent, room int64) int64 {
	for len(events) > 0 {
		// The middle of three keeps sorted input from being the worst case.
		a, b, d := events[0].size, events[len(events)/2].size, events[len(events)-1].size
		pivot := max(min(a, b), min(max(a, b), d))
		var above, equal int64
		i, j, k := 0, 0, len(events) // larger before i, equal from i to j, smaller from k
		for j < k {
			switch e := events[j]; {
			case e.size > pivot:
				above += e.weight
				events[i], events[j] = e, events[i]
				i++
				j++
			case e.size == pivot:
				equal += e.weight
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
	n := len(c.parents)
	c.keep, c.depth = slices.Grow(c.keep[:0], n)[:n], slices.Grow(c.depth[:0], n)[:n]
	clear(c.keep)
	c.keep[0], c.depth[0] = true, 0
	c.ties = c.ties[:0]
	kept := int64(0)
	for i := 1; i < n; i++ {
		p := c.parents[i]
		c.depth[i] = c.depth[p] + 1
		switch size := c.sizes[i]; {
		case size > bound:
			c.keep[i] = true
			c.left[p]--
			kept++
		case size == bound:
			c.ties = append(c.ties, int32(i))
		}
	}
	all := kept
	for i, k := range c.keep {
		if k && c.left[i] > 0 {
			all++
		}
	}
	// set keeps a node, or takes it back.
	set := func(i int32, by int64) {
		p := c.parents[i]
		had := c.left[p] > 0
		c.keep[i] = by > 0
		c.left[p] -= int32(by)
		kept += by
		if all += by; c.left[i] > 0 {
			all += by
		}
		if has := c.left[p] > 0; had && !has {
			all--
		} else if has && !had {
			all++
		}
	}
	fits := func() bool { return kept <= maxNodes && all <= room }
	slices.SortStableFunc(c.ties, func(a, b int32) int { return cmp.Compare(c.depth[a], c.depth[b]) })
	for first := 0; first < len(c.ties); {
		end := first
		for end < len(c.ties) && c.depth[c.ties[end]] == c.depth[c.ties[first]] {
			end++
		}
		level := c.ties[first:end]
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
	return c.keep
}

// comparePaths compares the names of two nodes of the same depth, then those of their
// callers.
func (c *Cut) comparePaths(a, b int32, name func(node int32) string) int {
	for a != b {
		if order := strings.Compare(name(a), name(b)); order != 0 {
			return order
		}
		a, b = c.parents[a], c.parents[b]
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
