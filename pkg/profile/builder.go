package profile

// A Builder builds a Tree from (parent, name) pairs; the same pair always gives the same
// node. It is not safe for concurrent use.
type Builder struct {
	tree  Tree
	names map[string]int32
	edges edgeTable
}

// NewBuilder returns a Builder that has only the root, with capacity for a number of
// nodes.
func NewBuilder(nodes int) *Builder { return newBuilder(nodes, nodes/8) }

func newBuilder(nodes, names int) *Builder {
	b := &Builder{names: make(map[string]int32, names)}
	b.tree.Nodes = make([]Node, 1, nodes+1)
	b.tree.Nodes[0] = Node{Parent: -1, Name: b.Name(RootName)}
	b.edges.grow(nodes)
	return b
}

// Name interns a string and returns its index in the tree's Names.
func (b *Builder) Name(s string) int32 {
	if i, ok := b.names[s]; ok {
		return i
	}
	i := int32(len(b.tree.Names))
	b.tree.Names = append(b.tree.Names, s)
	b.names[s] = i
	return i
}

// Child returns the node with an interned name below a parent, and adds it if needed.
func (b *Builder) Child(parent, name int32) int32 {
	slot, found := b.edges.find(parent, name)
	if found {
		return b.edges.slots[slot].node
	}
	i := int32(len(b.tree.Nodes))
	b.tree.Nodes = append(b.tree.Nodes, Node{Parent: parent, Name: name})
	b.edges.put(slot, edge{parent, name, i})
	return i
}

// IsPath reports whether the calls from a node up to the root have these names, which
// Name has returned.
func (b *Builder) IsPath(node int32, names []int32) bool {
	for _, name := range names {
		n := &b.tree.Nodes[node]
		if node == 0 || n.Name != name {
			return false
		}
		node = n.Parent
	}
	return node == 0
}

// Add adds to a node's self value.
func (b *Builder) Add(node int32, self int64) { b.tree.Nodes[node].Self += self }

// Tree computes the totals and returns the tree. The Builder must not be used
// afterwards.
func (b *Builder) Tree() *Tree {
	t := b.tree
	t.sum()
	return &t
}

// sum computes every Total from the Selfs, in one backward pass.
func (t *Tree) sum() {
	for i := range t.Nodes {
		t.Nodes[i].Total = t.Nodes[i].Self
	}
	for i := len(t.Nodes) - 1; i > 0; i-- {
		t.Nodes[t.Nodes[i].Parent].Total += t.Nodes[i].Total
	}
}

// edgeTable is an open-addressing hash table from (parent, name) to node. The
// root is nobody's child, so node 0 marks a free slot.
type edgeTable struct {
	slots []edge
	used  int
}

type edge struct{ parent, name, node int32 }

func (t *edgeTable) grow(n int) {
	size := 64
	for size < n*2 {
		size *= 2
	}
	old := t.slots
	t.slots = make([]edge, size)
	for _, e := range old {
		if e.node != 0 {
			slot, _ := t.find(e.parent, e.name)
			t.slots[slot] = e
		}
	}
}

func (t *edgeTable) find(parent, name int32) (slot int, found bool) {
	mask := uint64(len(t.slots) - 1)
	h := (uint64(uint32(parent))<<32 | uint64(uint32(name))) * 0x9E3779B97F4A7C15
	for i := (h >> 32) & mask; ; i = (i + 1) & mask {
		e := &t.slots[i]
		if e.node == 0 {
			return int(i), false
		}
		if e.parent == parent && e.name == name {
			return int(i), true
		}
	}
}

func (t *edgeTable) put(slot int, e edge) {
	t.slots[slot] = e
	if t.used++; t.used*2 > len(t.slots) {
		t.grow(len(t.slots))
	}
}
