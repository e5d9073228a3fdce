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

// A folder collects what is left out into the children "other" of the nodes that
// are kept.
type folder struct {
	*builder
	name  int32
	other []int32 // node to its child "other", 0 for none
}

func (b *builder) folder() *folder {
	f := &folder{builder: b, name: int32(slices.Index(b.tree.Names, profile.OtherName)), other: make([]int32, len(b.tree.Nodes))}
	if f.name < 0 {
		f.name = b.intern(profile.OtherName, hashText(profile.OtherName))
	}
	for i, n := range b.tree.Nodes {
		if n.Name == f.name && i > 0 {
			f.other[n.Parent] = int32(i)
		}
	}
	return f
}

func (f *folder) fold(parent int32, left, right int64) {
	at := f.other[parent]
	if at == 0 {
		at = int32(len(f.tree.Nodes))
		f.other[parent] = at
		f.tree.Nodes = append(f.tree.Nodes, profile.DiffNode{Parent: parent, Name: f.name})
	}
	n := &f.tree.Nodes[at]
	n.Self += left
	n.Total += left
	n.SelfRight += right
	n.TotalRight += right
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
	c.at = zeroed(c.at, len(calls))
	at, left := c.at, c.left[:0]
	for i := range calls {
		n := profile.DiffNode{Parent: -1}
		if i > 0 {
			parent := calls[i].parent
			if size := c.ranks[i].size; size < least {
				if at[i] = -1; size != 0 && at[parent] >= 0 {
					left = append(left, int32(i))
				}
				continue
			}
			n.Parent, n.Name = at[parent], b.name(c, int32(i))
		}
		at[i] = int32(len(b.tree.Nodes))
		n.Self, n.Total = c.self[0][i], c.total[0][i]
		if c.sides > 1 {
			n.SelfRight, n.TotalRight = c.self[1][i], c.total[1][i]
		}
		b.tree.Nodes = append(b.tree.Nodes, n)
	}
	c.left = left
	if len(left) > 0 {
		f := b.folder()
		for _, i := range left {
			right := int64(0)
			if c.sides > 1 {
				right = c.total[1][i]
			}
			f.fold(at[calls[i].parent], c.total[0][i], right)
		}
	}
	return &b.tree
}
