package profile

// Truncate keeps the maxNodes nodes with the largest totals, and merges the others into
// one rest node per kept parent, so that totals stay exact. If that would be more than
// Room nodes with rest nodes, it keeps fewer. Cut describes the choice among equal ones.
// The root is not counted. If maxNodes is 0, or nothing needs to be cut, it returns t
// itself.
func (t *Tree) Truncate(maxNodes int64) *Tree {
	if maxNodes <= 0 || int64(len(t.Nodes)-1) <= maxNodes {
		return t
	}
	out := &Tree{}
	out.Names, out.Nodes, out.Rest = truncate(t.Names, t.Nodes, t.Rest, maxNodes)
	return out
}

// Truncate keeps the maxNodes nodes with the largest larger side, as Tree.Truncate does.
// Here the root is counted, as in Pyroscope.
func (t *DiffTree) Truncate(maxNodes int64) *DiffTree {
	if maxNodes <= 0 || int64(len(t.Nodes)) <= maxNodes {
		return t
	}
	out := &DiffTree{}
	out.Names, out.Nodes, out.Rest = truncate(t.Names, t.Nodes, t.Rest, maxNodes-1)
	return out
}

// treeNode is the interface of nodes that truncation needs.
type treeNode[N any] interface {
	*N
	place() (parent, name *int32)
	size() int64
	fold(from *N) // adds the total of a node to the self value
}

func (n *Node) place() (parent, name *int32) { return &n.Parent, &n.Name }
func (n *Node) size() int64                  { return n.Total }
func (n *Node) fold(from *Node) {
	n.Self += from.Total
	n.Total += from.Total
}

func (n *DiffNode) place() (parent, name *int32) { return &n.Parent, &n.Name }
func (n *DiffNode) size() int64                  { return max(n.Total, n.TotalRight) }
func (n *DiffNode) fold(from *DiffNode) {
	n.Self += from.Total
	n.Total += from.Total
	n.SelfRight += from.TotalRight
	n.TotalRight += from.TotalRight
}

// truncate keeps up to maxNodes nodes besides the root. Nodes with the name rest, if it
// is not 0, are merged again with everything below them.
func truncate[N any, P treeNode[N]](names []string, nodes []N, rest int32, maxNodes int64) ([]string, []N, int32) {
	const none = -1
	var cut Cut
	least := leastKept[N, P](nodes, rest, maxNodes)
	cut.Least(least)
	at := make([]int32, len(nodes)) // number in cut; later the node's number in the result
	var from []int32                // of the nodes in cut
	partial := map[int32]bool{}
	for i := range nodes {
		n := P(&nodes[i])
		parent, name := n.place()
		at[i] = none
		switch {
		case i == 0:
			at[i] = cut.Add(-1, n.size())
		case at[*parent] == none || n.size() == 0:
			continue
		case rest != 0 && *name == rest, n.size() < least:
			if p := at[*parent]; !partial[p] {
				cut.Partial(p)
				partial[p] = true
			}
			continue
		default:
			at[i] = cut.Add(at[*parent], n.size())
		}
		from = append(from, int32(i))
	}
	name := func(i int32) string {
		_, name := P(&nodes[from[i]]).place()
		return names[*name]
	}
	keep := cut.Choose(maxNodes, Room(maxNodes), name)
	r := newRenamer(names, len(nodes))
	var out []N
	var fold []int32 // topmost dropped nodes
	for i := range nodes {
		n := nodes[i]
		parent, name := P(&n).place()
		switch {
		case i == 0:
		case at[*parent] == none:
			at[i] = none
			continue
		case at[i] == none || keep != nil && !keep[at[i]]:
			if at[i] = none; P(&n).size() != 0 {
				fold = append(fold, int32(i))
			}
			continue
		default:
			*parent = at[*parent]
		}
		at[i] = int32(len(out))
		*name = r.rename(*name)
		out = append(out, n)
	}
	if len(fold) == 0 {
		return r.out, out, 0
	}
	restName := restOf[N, P](names, nodes, rest)
	folded := int32(len(r.out))
	r.out = append(r.out, restName)
	rests := map[int32]int32{} // rest node by node
	for _, i := range fold {
		parent, _ := P(&nodes[i]).place()
		to := at[*parent]
		o, ok := rests[to]
		if !ok {
			o = int32(len(out))
			rests[to] = o
			var n N
			parent, name := P(&n).place()
			*parent, *name = to, folded
			out = append(out, n)
		}
		P(&out[o]).fold(&nodes[i])
	}
	return r.out, out, folded
}

// leastKept returns the size of the maxNodes-th largest node, not counting the root,
// rest nodes and nodes below them; 1 if there are fewer.
func leastKept[N any, P treeNode[N]](nodes []N, rest int32, maxNodes int64) int64 {
	sizes := make([]int64, 0, len(nodes))
	below := make([]bool, len(nodes)) // a rest node, or below one
	for i := range nodes {
		n := P(&nodes[i])
		parent, name := n.place()
		if i == 0 {
			continue
		}
		if below[i] = below[*parent] || rest != 0 && *name == rest; !below[i] && n.size() != 0 {
			sizes = append(sizes, n.size())
		}
	}
	if int64(len(sizes)) <= maxNodes {
		return 1
	}
	if maxNodes <= 0 {
		return P(&nodes[0]).size()
	}
	return NthLargest(sizes, int(maxNodes))
}

// restOf returns the name of a tree's rest nodes, or a new one if it has none.
func restOf[N any, P treeNode[N]](names []string, nodes []N, rest int32) string {
	if rest != 0 {
		return names[rest]
	}
	return RestName(func(s string) bool {
		for i := 1; i < len(nodes); i++ {
			n := P(&nodes[i])
			if _, name := n.place(); names[*name] == s && n.size() != 0 {
				return true
			}
		}
		return false
	})
}

// A renamer builds a table of only those names that are used.
type renamer struct {
	in, out []string
	to      []int32 // index in out, plus one
}

func newRenamer(in []string, room int) *renamer {
	return &renamer{in: in, to: make([]int32, len(in)), out: make([]string, 0, min(room, len(in)+1))}
}

func (r *renamer) rename(i int32) int32 {
	if r.to[i] == 0 {
		r.out = append(r.out, r.in[i])
		r.to[i] = int32(len(r.out))
	}
	return r.to[i] - 1
}
