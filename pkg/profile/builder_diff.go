package profile

// A DiffBuilder builds a DiffTree as a Builder does a Tree. It is not safe for concurrent
// use.
type DiffBuilder struct {
	b   *Builder
	own [][2]int64 // by node
}

// NewDiffBuilder returns a DiffBuilder that has only the root.
func NewDiffBuilder() *DiffBuilder {
	return &DiffBuilder{b: NewBuilder(0), own: make([][2]int64, 1)}
}

// Name interns a string and returns its index in the tree's Names.
func (d *DiffBuilder) Name(s string) int32 { return d.b.Name(s) }

// Child returns the node with an interned name below a parent, and adds it if needed.
func (d *DiffBuilder) Child(parent, name int32) int32 {
	node := d.b.Child(parent, name)
	if int(node) == len(d.own) {
		d.own = append(d.own, [2]int64{})
	}
	return node
}

// Len returns the number of nodes.
func (d *DiffBuilder) Len() int { return len(d.own) }

// Add adds to a node's self values.
func (d *DiffBuilder) Add(node int32, self [2]int64) { addPair(&d.own[node], self) }

// Tree computes the totals and returns the tree. The DiffBuilder must not be used
// afterwards.
func (d *DiffBuilder) Tree() *DiffTree {
	out := &DiffTree{Names: d.b.tree.Names, Nodes: make([]DiffNode, len(d.own))}
	for i, n := range d.b.tree.Nodes {
		out.Nodes[i] = DiffNode{Parent: n.Parent, Name: n.Name, Self: d.own[i][0], SelfRight: d.own[i][1]}
	}
	out.sum()
	return out
}

// Calls shows the tree as a CallTree. Calls without a value are skipped.
func (t *DiffTree) Calls() CallTree { return newDiffCalls(t) }

// Sum computes the totals of all nodes from their self values.
func (t *DiffTree) Sum() { t.sum() }
