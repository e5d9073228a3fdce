package calltree

import (
	"sync"

	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// TopN merges the calls of several partitions into the tree that
// profile.Merge, Diff and Truncate give. With keepRoot the root counts as one of
// the maxNodes, as in a comparison. The partials are summed up.
func TopN(partials []*Values, maxNodes int64, keepRoot bool) *profile.DiffTree {
	if keepRoot {
		maxNodes--
	}
	var used []*Values
	for _, p := range partials {
		if p.Ranks[0].size != 0 {
			used = append(used, p)
		}
	}
	switch len(used) {
	case 0:
		return &profile.DiffTree{Names: []string{profile.RootName}, Nodes: []profile.DiffNode{{Parent: -1}}}
	case 1:
		return used[0].topN(maxNodes)
	}
	return mergeTopN(used, maxNodes)
}

// A treeBuilder makes a tree of calls that are named as they are taken. If the calls
// are of one partial, a name has one number in it.
type treeBuilder struct {
	tree    profile.DiffTree
	several bool
	names   symdb.Pairs // symdb.HashText to name plus one
}

func newTreeBuilder(room int64, several bool) *treeBuilder {
	b := &treeBuilder{several: several}
	b.tree.Names = make([]string, 0, min(room/2, 1<<13)+16)
	if several {
		b.names.Grow(int(min(room/2, 1<<14)))
		b.intern(profile.RootName, symdb.HashText(profile.RootName))
	} else {
		b.tree.Names = append(b.tree.Names, profile.RootName)
	}
	if b.tree.Nodes = diffNodes.Get().(*diffNodeList).nodes[:0]; cap(b.tree.Nodes) == 0 {
		b.tree.Nodes = make([]profile.DiffNode, 0, min(room, 1<<16)+64)
	}
	return b
}

// diffNodeList is memory for the nodes of trees that do not leave the store.
type diffNodeList struct{ nodes []profile.DiffNode }

var diffNodes = sync.Pool{New: func() any { return new(diffNodeList) }}

func (b *treeBuilder) intern(s string, hash uint64) int32 {
	i := int32(len(b.tree.Names))
	if b.several {
		if known := int32(b.names.AddPrint(hash, uint32(i)+1)) - 1; known < i {
			return known
		}
	} else if s == profile.RootName {
		return 0
	}
	b.tree.Names = append(b.tree.Names, s)
	return i
}

// name is the name of a partial's call, found once for each of its strings.
func (b *treeBuilder) name(p *Values, call int32) int32 {
	s := p.View.Calls[call].Name
	if p.names[s] == 0 {
		p.names[s] = b.intern(p.View.Strings[s], p.View.Hashes[s]) + 1
	}
	return p.names[s] - 1
}

// fold puts the rest of a node, which its children do not have, into a rest node.
// All nodes that are kept are there already.
func (b *treeBuilder) fold(partials []*Values, node int32, rest [2]int64) {
	if rest == [2]int64{} {
		return
	}
	if b.tree.Rest == 0 {
		b.tree.Rest = int32(len(b.tree.Names))
		b.tree.Names = append(b.tree.Names, profile.RestName(func(name string) bool { return hasFunction(partials, name) }))
	}
	b.tree.Nodes = append(b.tree.Nodes, profile.DiffNode{
		Parent: node, Name: b.tree.Rest, Self: rest[0], Total: rest[0], SelfRight: rest[1], TotalRight: rest[1],
	})
}

// hasFunction reports whether a function of a name has a value in any partial.
func hasFunction(partials []*Values, name string) bool {
	hash := symdb.HashText(name)
	for _, p := range partials {
		for s, h := range p.View.Hashes {
			if h == hash && p.View.Strings[s] == name && p.hasString(uint32(s)) {
				return true
			}
		}
	}
	return false
}

// hasString reports whether a call of the name that a string is has a value.
func (c *Values) hasString(s uint32) bool {
	for i := 1; i < len(c.Ranks); i++ {
		if c.View.Calls[i].Name == s && c.Ranks[i].size != 0 {
			return true
		}
	}
	return false
}

// topN is the tree of one partial: its calls in their order, which has parents
// first.
func (c *Values) topN(maxNodes int64) *profile.DiffTree {
	calls := c.View.Calls
	minSize := c.nthLargest(maxNodes)
	all := minSize == 0 // no node has a rest
	if all {
		minSize = 1
	}
	// No call is larger than its parent, so the parents of those taken are taken. What
	// is left out of a call is what its children that are taken do not have.
	b := newTreeBuilder(maxNodes, false)
	c.at = reuse.Sized(c.at, len(calls))
	at, taken, rest, nodes := c.at, c.taken[:0], c.rest[:0], b.tree.Nodes // at is set of what is taken
	for i := range c.Ranks {
		size := c.Ranks[i].size
		if size < minSize && i > 0 {
			continue
		}
		n := profile.DiffNode{Parent: -1, Self: c.Self[0][i], Total: size}
		if c.sides > 1 {
			n.Total, n.SelfRight, n.TotalRight = c.total[0][i], c.Self[1][i], c.total[1][i]
		}
		if i > 0 {
			n.Parent = at[calls[i].Parent]
			subtract(&rest[n.Parent], [2]int64{n.Total, n.TotalRight})
		}
		at[i] = int32(len(nodes))
		taken, nodes = append(taken, int32(i)), append(nodes, n)
		rest = append(rest, [2]int64{n.Total - n.Self, n.TotalRight - n.SelfRight})
	}
	c.taken, c.rest, b.tree.Nodes = taken, rest, nodes
	if all {
		for k := 1; k < len(nodes); k++ {
			nodes[k].Name = b.name(c, taken[k])
		}
		return &b.tree
	}
	c.choose(b, minSize, maxNodes)
	partials := []*Values{c}
	for i := range b.tree.Nodes {
		b.fold(partials, int32(i), rest[i])
	}
	return &b.tree
}

// nthLargest is the size of the nth largest call without the root, as large as any if
// n is 0; 0 if there are no more than n.
func (c *Values) nthLargest(n int64) int64 {
	// Most calls are smaller; a sample says than what.
	const every = 16
	ranked := c.ranked[:0]
	for i := 1; i < len(c.Ranks); i += every {
		ranked = append(ranked, c.Ranks[i].size)
	}
	atLeast := int64(1)
	if rank := n/every + n/every/4 + 8; rank < int64(len(ranked)) {
		atLeast = max(profile.NthLargest(ranked, int(rank)), 1)
	}
	for {
		ranked = ranked[:0]
		for i := 1; i < len(c.Ranks); i++ {
			if size := c.Ranks[i].size; size >= atLeast {
				ranked = append(ranked, size)
			}
		}
		c.ranked = ranked
		switch {
		case int64(len(ranked)) > n && n > 0:
			return profile.NthLargest(ranked, int(n))
		case int64(len(ranked)) > n:
			return c.Ranks[0].size
		case atLeast == 1:
			return 0
		}
		atLeast = 1
	}
}

// choose names those of a partial's nodes for which there is room, rest nodes included,
// and takes out the others, which then are in the rest of their parents. The nodes are
// those of at least a size.
func (c *Values) choose(b *treeBuilder, minSize, maxNodes int64) {
	nodes := b.tree.Nodes
	rests := int64(0)
	for k := range c.rest {
		if c.rest[k] != [2]int64{} {
			rests++
		}
	}
	if profile.Fits(int64(len(nodes)-1), rests, maxNodes, profile.Room(maxNodes)) {
		for k := 1; k < len(nodes); k++ {
			nodes[k].Name = b.name(c, c.taken[k])
		}
		return
	}
	c.cut.Reset()
	c.cut.Least(minSize)
	for k := range nodes {
		n := &nodes[k]
		c.cut.Add(n.Parent, max(n.Total, n.TotalRight))
	}
	for k := range c.rest {
		if c.rest[k] != [2]int64{} {
			c.cut.Partial(int32(k))
		}
	}
	keep := c.cut.Choose(maxNodes, profile.Room(maxNodes), func(k int32) string {
		return c.View.Strings[c.View.Calls[c.taken[k]].Name]
	})
	n := int32(1)
	place := c.at[:len(nodes)] // of those that are kept
	place[0] = 0
	for k := int32(1); int(k) < len(nodes); k++ {
		node := &nodes[k]
		switch up := node.Parent; {
		case keep == nil:
			node.Name = b.name(c, c.taken[k])
			continue
		case !keep[k]:
			if keep[up] { // it is the topmost one
				addTo(&c.rest[place[up]], [2]int64{node.Total, node.TotalRight})
			}
			continue
		default:
			node.Parent = place[up]
		}
		node.Name = b.name(c, c.taken[k])
		if place[k] = n; n != k {
			nodes[n], c.rest[n] = *node, c.rest[k]
		}
		n++
	}
	if keep != nil {
		b.tree.Nodes = nodes[:n]
	}
}

func subtract(from *[2]int64, v [2]int64) {
	from[0] -= v[0]
	from[1] -= v[1]
}

func addTo(to *[2]int64, v [2]int64) {
	to[0] += v[0]
	to[1] += v[1]
}
