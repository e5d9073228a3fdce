package profile

import "slices"

// Merge adds up trees that were not cut. The result shares only strings with them.
func Merge(trees ...*Tree) *Tree {
	if len(trees) == 1 {
		return trees[0].Clone()
	}
	nodes, names := 0, 0
	for _, t := range trees {
		nodes += len(t.Nodes)
		names += len(t.Names)
	}
	// Trees of different programs share little below their first frames.
	b := newBuilder(nodes, names)
	for _, t := range trees {
		for i, at := range b.graft(t) {
			b.Add(at, t.Nodes[i].Self)
		}
	}
	return b.Tree()
}

// Clone returns a copy that shares only strings with the tree.
func (t *Tree) Clone() *Tree {
	return &Tree{Names: slices.Clone(t.Names), Nodes: slices.Clone(t.Nodes), Rest: t.Rest, Functions: t.Functions}
}

// graft adds the nodes of t without their values, and returns their numbers in b.
func (b *Builder) graft(t *Tree) []int32 {
	names := make([]int32, len(t.Names))
	for i := range names {
		names[i] = -1
	}
	at := make([]int32, len(t.Nodes))
	for i := 1; i < len(t.Nodes); i++ {
		n := &t.Nodes[i]
		if names[n.Name] < 0 {
			names[n.Name] = b.Name(t.Names[n.Name])
		}
		at[i] = b.Child(at[n.Parent], names[n.Name])
	}
	return at
}

// Diff returns the union of two trees that were not cut, with the values of both.
func Diff(left, right *Tree) *DiffTree {
	b := newBuilder(max(len(left.Nodes), len(right.Nodes)), max(len(left.Names), len(right.Names)))
	l, r := b.graft(left), b.graft(right)
	out := &DiffTree{Names: b.tree.Names, Nodes: make([]DiffNode, len(b.tree.Nodes))}
	for i, n := range b.tree.Nodes {
		out.Nodes[i].Parent, out.Nodes[i].Name = n.Parent, n.Name
	}
	for i, at := range l {
		out.Nodes[at].Self += left.Nodes[i].Self
	}
	for i, at := range r {
		out.Nodes[at].SelfRight += right.Nodes[i].Self
	}
	out.sum()
	return out
}

func (t *DiffTree) sum() {
	for i := range t.Nodes {
		n := &t.Nodes[i]
		n.Total, n.TotalRight = n.Self, n.SelfRight
	}
	for i := len(t.Nodes) - 1; i > 0; i-- {
		n := &t.Nodes[i]
		t.Nodes[n.Parent].Total += n.Total
		t.Nodes[n.Parent].TotalRight += n.TotalRight
	}
}
