package profile

// A levelBuilder is a Builder of the nodes of a Flamegraph's levels, in their order. All
// children of a node come one after another, so the last node with a name tells whether
// they have that name already. Only if two have the same name, their own children are
// apart, and nodes are found by the Builder's table.
type levelBuilder struct {
	Builder
	from  []string // the flame graph's names
	to    []int32  // by name of from: the Builder's, plus one; 0 if unknown
	last  []int32  // by the Builder's name: the last node that has it; 0 for none
	table bool     // whether nodes are in the table
}

func newLevelBuilder(names []string, nodes int) *levelBuilder {
	b := &levelBuilder{from: names, to: make([]int32, len(names)), last: make([]int32, 1, len(names)+1)}
	b.names = make(map[string]int32, len(names))
	b.tree.Nodes = make([]Node, 1, nodes+1)
	b.tree.Nodes[0] = Node{Parent: -1, Name: b.Name(RootName)}
	return b
}

// child returns the node with the i-th name below a parent, and adds it if needed.
func (b *levelBuilder) child(parent int32, i int) int32 {
	if b.to[i] == 0 {
		b.to[i] = b.Name(b.from[i]) + 1
	}
	name := b.to[i] - 1
	if b.table {
		return b.Child(parent, name)
	}
	for int(name) >= len(b.last) {
		b.last = append(b.last, 0)
	}
	if at := b.last[name]; at != 0 && b.tree.Nodes[at].Parent == parent {
		b.fillTable()
		return at
	}
	at := int32(len(b.tree.Nodes))
	b.tree.Nodes = append(b.tree.Nodes, Node{Parent: parent, Name: name})
	b.last[name] = at
	return at
}

func (b *levelBuilder) fillTable() {
	b.table = true
	b.edges.grow(cap(b.tree.Nodes))
	for i := 1; i < len(b.tree.Nodes); i++ {
		n := &b.tree.Nodes[i]
		slot, _ := b.edges.find(n.Parent, n.Name)
		b.edges.put(slot, edge{n.Parent, n.Name, int32(i)})
	}
}
