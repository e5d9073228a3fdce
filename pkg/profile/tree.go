package profile

// Names of special nodes.
const (
	RootName  = "total" // name of node 0
	OtherName = "other" // name of rest nodes, unless a function has it; see RestName
)

// A Tree is a call tree of functions: what a flame graph shows. Node 0 is the
// root, named "total", and a node's parent always has a lower index than the
// node. Names are interned: Node.Name is an index into Names.
//
// A Tree is plain data. It is not safe for concurrent writes.
type Tree struct {
	Names []string
	Nodes []Node
	// Rest is the name of rest nodes, as an index into Names; 0 if nothing was cut off.
	// A rest node represents the calls of its parent that were cut off because they are
	// small. No function has this name.
	Rest int32
	// Functions says that the tree was cut by TruncateFunctions.
	Functions bool
}

// A Node is one function in the context of its callers. Self and Total are in
// the unit of the profile type.
type Node struct {
	Parent int32 // index of the parent; -1 for the root
	Name   int32 // index into Tree.Names
	Self   int64 // value of stacktraces that end here
	Total  int64 // Self and the Totals of all children
}

// A DiffTree is the union of two trees, each node with both sides' values.
// Its nodes are ordered as those of a Tree.
type DiffTree struct {
	Names []string
	Nodes []DiffNode
	// Rest and Functions are as in a Tree.
	Rest      int32
	Functions bool
}

// A DiffNode is a Node with the values of the left (baseline) and the right
// (comparison) tree.
type DiffNode struct {
	Parent, Name          int32
	Self, Total           int64 // left
	SelfRight, TotalRight int64
}

// Totals are the values of both sides as a whole.
func (t *DiffTree) Totals() (left, right int64) {
	if len(t.Nodes) == 0 {
		return 0, 0
	}
	return t.Nodes[0].Total, t.Nodes[0].TotalRight
}

// Total is the value of the whole tree.
func (t *Tree) Total() int64 {
	if len(t.Nodes) == 0 {
		return 0
	}
	return t.Nodes[0].Total
}

// Left returns the left side alone. Nodes that only the right side has are of value 0.
func (t *DiffTree) Left() *Tree {
	return t.side(func(n *DiffNode) (self, total int64) { return n.Self, n.Total })
}

// Right returns the right side alone. Nodes that only the left side has are of value 0.
func (t *DiffTree) Right() *Tree {
	return t.side(func(n *DiffNode) (self, total int64) { return n.SelfRight, n.TotalRight })
}

func (t *DiffTree) side(values func(*DiffNode) (self, total int64)) *Tree {
	out := &Tree{Names: t.Names, Nodes: make([]Node, len(t.Nodes)), Rest: t.Rest, Functions: t.Functions}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		self, total := values(n)
		out.Nodes[i] = Node{Parent: n.Parent, Name: n.Name, Self: self, Total: total}
	}
	return out
}

// Walk visits the nodes depth first, the root at level 0, children in the order of
// Pyroscope's flame graphs: by name, with rest nodes last.
func (t *Tree) Walk(fn func(level int, node *Node, name string)) {
	l := t.layOut()
	defer l.free()
	l.walk(func(level int, i int32) {
		n := &t.Nodes[i]
		fn(level, n, t.Names[n.Name])
	})
}

// Walk visits the nodes in the order of Tree.Walk.
func (t *DiffTree) Walk(fn func(level int, node *DiffNode, name string)) {
	l := t.layOut()
	defer l.free()
	l.walk(func(level int, i int32) {
		n := &t.Nodes[i]
		fn(level, n, t.Names[n.Name])
	})
}

func (t *Tree) layOut() *layout {
	return layOut(t.Names, t.Rest, len(t.Nodes), func(i int32) (parent, name int32) { return t.Nodes[i].Parent, t.Nodes[i].Name })
}

func (t *DiffTree) layOut() *layout {
	return layOut(t.Names, t.Rest, len(t.Nodes), func(i int32) (parent, name int32) { return t.Nodes[i].Parent, t.Nodes[i].Name })
}
