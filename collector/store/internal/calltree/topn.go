package calltree

import (
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
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

// A treeBuilder makes a tree of the largest calls, parents first. It keeps its memory for
// the next one: what a query takes anew, the garbage collector has to take back.
type treeBuilder struct {
	partials []*Values
	tree     profile.DiffTree
	refs     []callRef   // by node: the call, or one of them
	rest     [][2]int64  // by node: the total less self and less the children that are nodes
	place    []int32     // by node: its number among those that are kept
	names    symdb.Pairs // symdb.HashText to name plus one; of one partial each string is one name
	cut      profile.Cut
}

// A callRef is a call of a partial.
type callRef struct{ partial, call int32 }

var builders = sync.Pool{New: func() any { return new(treeBuilder) }}

func newTreeBuilder(partials []*Values, room int64) *treeBuilder {
	b := builders.Get().(*treeBuilder)
	b.partials, b.refs, b.rest = partials, b.refs[:0], b.rest[:0]
	b.names.Reset()
	b.tree = profile.DiffTree{Names: make([]string, 0, min(room/2, 1<<13)+16)}
	b.intern(profile.RootName, symdb.HashText(profile.RootName))
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
	if len(b.partials) > 1 {
		if known := int32(b.names.AddPrint(hash, uint32(i)+1)) - 1; known < i {
			return known
		}
	} else if i > 0 && s == profile.RootName {
		return 0
	}
	b.tree.Names = append(b.tree.Names, s)
	return i
}

// name is the name of a partial's call, found once for each of its strings.
func (b *treeBuilder) name(ref callRef) int32 {
	p := b.partials[ref.partial]
	s := p.View.Calls[ref.call].Name
	if p.names[s] == 0 {
		p.names[s] = b.intern(p.View.Strings[s], p.View.Hashes[s]) + 1
	}
	return p.names[s] - 1
}

// add adds a node, whose name is found if it is kept.
func (b *treeBuilder) add(ref callRef, n profile.DiffNode, rest [2]int64) int32 {
	b.tree.Nodes, b.refs, b.rest = append(b.tree.Nodes, n), append(b.refs, ref), append(b.rest, rest)
	return int32(len(b.refs) - 1)
}

// finish returns the tree of those nodes for which there is room, rest nodes included. The
// others are in the rest of their parents then. All are of at least a size.
func (b *treeBuilder) finish(minSize, maxNodes int64) *profile.DiffTree {
	keep, nodes, n := b.choose(minSize, maxNodes), b.tree.Nodes, int32(0)
	b.place = reuse.Sized(b.place, len(nodes))
	for k := range nodes {
		node := &nodes[k]
		if keep != nil && !keep[k] {
			if keep[node.Parent] { // it is the topmost one
				addTo(&b.rest[b.place[node.Parent]], [2]int64{node.Total, node.TotalRight})
			}
			continue
		}
		if k > 0 {
			node.Parent, node.Name = b.place[node.Parent], b.name(b.refs[k])
		}
		if b.place[k] = n; int(n) != k {
			nodes[n], b.rest[n] = *node, b.rest[k]
		}
		n++
	}
	b.tree.Nodes = nodes[:n]
	for i := range n {
		b.fold(i, b.rest[i])
	}
	tree := b.tree
	b.partials, b.tree = nil, profile.DiffTree{}
	budget.PutBack(&builders, b, cap(b.rest)*96)
	return &tree
}

// choose reports of each node whether there is room for it, or nil if there is for all.
func (b *treeBuilder) choose(minSize, maxNodes int64) []bool {
	rests := int64(0)
	for _, rest := range b.rest {
		if rest != [2]int64{} {
			rests++
		}
	}
	nodes := b.tree.Nodes
	if profile.Fits(int64(len(nodes)-1), rests, maxNodes, profile.Room(maxNodes)) {
		return nil
	}
	b.cut.Reset()
	b.cut.Least(minSize)
	for i := range nodes {
		b.cut.Add(nodes[i].Parent, max(nodes[i].Total, nodes[i].TotalRight))
	}
	for i, rest := range b.rest {
		if rest != [2]int64{} {
			b.cut.Partial(int32(i))
		}
	}
	return b.cut.Choose(maxNodes, profile.Room(maxNodes), func(i int32) string {
		v := b.partials[b.refs[i].partial].View
		return v.Strings[v.Calls[b.refs[i].call].Name]
	})
}

// fold puts the rest of a node, which its children do not have, into a rest node.
// All nodes that are kept are there already.
func (b *treeBuilder) fold(node int32, rest [2]int64) {
	if rest == [2]int64{} {
		return
	}
	if b.tree.Rest == 0 {
		b.tree.Rest = int32(len(b.tree.Names))
		b.tree.Names = append(b.tree.Names, profile.RestName(func(name string) bool { return hasFunction(b.partials, name) }))
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
	calls, minSize := c.View.Calls, max(c.nthLargest(maxNodes), 1)
	// No call is larger than its parent, so the parents of those taken are taken. What
	// is left out of a call is what its children that are taken do not have.
	b := newTreeBuilder([]*Values{c}, maxNodes)
	c.at = reuse.Sized(c.at, len(calls)) // set of what is taken
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
			n.Parent = c.at[calls[i].Parent]
			subtract(&b.rest[n.Parent], [2]int64{n.Total, n.TotalRight})
		}
		c.at[i] = b.add(callRef{0, int32(i)}, n, [2]int64{n.Total - n.Self, n.TotalRight - n.SelfRight})
	}
	return b.finish(minSize, maxNodes)
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

func subtract(from *[2]int64, v [2]int64) {
	from[0] -= v[0]
	from[1] -= v[1]
}

func addTo(to *[2]int64, v [2]int64) {
	to[0] += v[0]
	to[1] += v[1]
}
