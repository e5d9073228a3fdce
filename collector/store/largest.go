package store

import (
	"slices"
	"sync"

	"github.com/flameline/flameline/pkg/profile"
)

// largest merges the calls of several partitions into the tree that
// profile.Merge, Diff and Truncate give. With keepRoot the root counts as one of
// the maxNodes, as in a comparison. The parts are summed up.
func largest(parts []*callValues, maxNodes int64, keepRoot bool) *profile.DiffTree {
	if keepRoot {
		maxNodes--
	}
	var used []*callValues
	for _, p := range parts {
		if p.ranks[0].size != 0 {
			used = append(used, p)
		}
	}
	switch len(used) {
	case 0:
		return &profile.DiffTree{Names: []string{profile.RootName}, Nodes: []profile.DiffNode{{Parent: -1}}}
	case 1:
		return used[0].largest(maxNodes)
	}
	return mergeLargest(used, maxNodes)
}

// A builder makes a tree of calls that are named as they are taken. If the calls
// are of one part, a name has one number in it.
type builder struct {
	tree    profile.DiffTree
	several bool
	names   pairs // hashText to name plus one

	other     []int32 // node to its child "other", 0 for none
	otherName int32
}

func newBuilder(room int64, several bool) *builder {
	b := &builder{several: several}
	b.tree.Names = make([]string, 0, min(room/2, 1<<13)+16)
	if several {
		b.names.grow(int(min(room/2, 1<<14)))
		b.intern(profile.RootName, hashText(profile.RootName))
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

func (b *builder) intern(s string, hash uint64) int32 {
	i := int32(len(b.tree.Names))
	if b.several {
		if known, ok := b.names.getPrint(hash); ok {
			return int32(known) - 1
		}
		b.names.putPrint(hash, uint32(i)+1)
	} else if s == profile.RootName {
		return 0
	}
	b.tree.Names = append(b.tree.Names, s)
	return i
}

// name is the name of a part's call, found once for each of its strings.
func (b *builder) name(p *callValues, call int32) int32 {
	s := p.view.calls[call].name
	if p.names[s] == 0 {
		p.names[s] = b.intern(p.view.strings[s], p.view.hashes[s]) + 1
	}
	return p.names[s] - 1
}

// fold puts the rest of a node, which its children do not have, into a child
// "other". All nodes that are kept are there already.
func (b *builder) fold(node int32, rest [2]int64) {
	if rest == [2]int64{} {
		return
	}
	if b.other == nil {
		b.findOthers()
	}
	at := b.other[node]
	if at == 0 {
		at = int32(len(b.tree.Nodes))
		b.tree.Nodes = append(b.tree.Nodes, profile.DiffNode{Parent: node, Name: b.otherName})
	}
	to := &b.tree.Nodes[at]
	to.Self += rest[0]
	to.Total += rest[0]
	to.SelfRight += rest[1]
	to.TotalRight += rest[1]
}

// findOthers finds the nodes that are called "other" themselves.
func (b *builder) findOthers() {
	b.other = make([]int32, len(b.tree.Nodes))
	if b.otherName = int32(slices.Index(b.tree.Names, profile.OtherName)); b.otherName < 0 {
		b.otherName = b.intern(profile.OtherName, hashText(profile.OtherName))
		return
	}
	for i, n := range b.tree.Nodes {
		if n.Name == b.otherName && i > 0 {
			b.other[n.Parent] = int32(i)
		}
	}
}

// largest is the tree of one part: its calls in their order, which has parents
// first.
func (c *callValues) largest(maxNodes int64) *profile.DiffTree {
	calls := c.view.calls
	ranked := c.ranked[:0]
	for i := range c.ranks[1:] {
		if x := c.ranks[i+1].size; x != 0 {
			ranked = append(ranked, x)
		}
	}
	c.ranked = ranked
	least := int64(1)
	if int64(len(ranked)) > maxNodes {
		// The root is as large as any.
		if least = c.ranks[0].size; maxNodes > 0 {
			least = profile.NthLargest(ranked, int(maxNodes))
		}
	}
	b := newBuilder(maxNodes, false)
	c.at = sized(c.at, len(calls))
	at, rest := c.at, c.rest[:0] // at is set of what is kept
	// No call is larger than its parent, so the parents of those kept are kept. What
	// is left out of a call is what its kept children do not have.
	for i := range c.ranks {
		if c.ranks[i].size < least && i > 0 {
			continue
		}
		n := profile.DiffNode{Parent: -1, Self: c.self[0][i], Total: c.ranks[i].size}
		if c.sides > 1 {
			n.Total, n.SelfRight, n.TotalRight = c.total[0][i], c.self[1][i], c.total[1][i]
		}
		if i > 0 {
			n.Parent, n.Name = at[calls[i].parent], b.name(c, int32(i))
			subtract(&rest[n.Parent], [2]int64{n.Total, n.TotalRight})
		}
		at[i] = int32(len(b.tree.Nodes))
		b.tree.Nodes = append(b.tree.Nodes, n)
		rest = append(rest, [2]int64{n.Total - n.Self, n.TotalRight - n.SelfRight})
	}
	c.rest = rest
	for i, r := range rest {
		b.fold(int32(i), r)
	}
	return &b.tree
}

func subtract(from *[2]int64, v [2]int64) {
	from[0] -= v[0]
	from[1] -= v[1]
}
