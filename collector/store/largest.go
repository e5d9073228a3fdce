package store

import (
	"slices"

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

// A builder makes a tree of calls that are named as they are taken. names is nil
// where the calls are of one part, in which a name has one number.
type builder struct {
	tree  profile.DiffTree
	names map[uint64]int32 // by hashText
}

func newBuilder(room int64, several bool) *builder {
	b := &builder{}
	if several {
		b.names = make(map[uint64]int32, min(room/2, 1<<14)+16)
		b.names[hashText(profile.RootName)] = 0
	}
	b.tree.Names = []string{profile.RootName}
	b.tree.Nodes = make([]profile.DiffNode, 0, min(room, 1<<16)+64)
	return b
}

func (b *builder) intern(s string, hash uint64) int32 {
	i := int32(len(b.tree.Names))
	if b.names != nil {
		if known, ok := b.names[hash]; ok {
			return known
		}
		b.names[hash] = i
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
	other map[int32]int32 // node to its child "other"
}

func (b *builder) folder() *folder {
	f := &folder{builder: b, name: int32(slices.Index(b.tree.Names, profile.OtherName)), other: map[int32]int32{}}
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
	at, ok := f.other[parent]
	if !ok {
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
	ranked := make([]int64, 0, len(calls))
	for i := range c.ranks[1:] {
		if x := c.ranks[i+1].size; x != 0 {
			ranked = append(ranked, x)
		}
	}
	least := int64(1)
	if int64(len(ranked)) > maxNodes {
		// The root is as large as any.
		if least = c.ranks[0].size; maxNodes > 0 {
			least = profile.NthLargest(ranked, int(maxNodes))
		}
	}
	b := newBuilder(maxNodes, false)
	at := make([]int32, len(calls))
	var left []int32 // topmost calls to fold
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
