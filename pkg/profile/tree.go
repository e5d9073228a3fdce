package profile

// A Tree is a call tree of functions: what a flame graph shows. Node 0 is the
// root, named "total", and a node's parent always has a lower index than the
// node. Names are interned: Node.Name is an index into Names.
//
// A Tree is plain data. It is not safe for concurrent writes.
type Tree struct {
	Names []string
	Nodes []Node
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
}

// A DiffNode is a Node with the values of the left (baseline) and the right
// (comparison) tree.
type DiffNode struct {
	Parent, Name          int32
	Self, Total           int64 // left
	SelfRight, TotalRight int64
}
