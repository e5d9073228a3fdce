package profile

// Truncate keeps the maxNodes largest nodes by total, and those that are as
// large as the smallest of them, and folds all others into one child "other" of
// their parent, so that totals stay exact. The root does not count. With
// maxNodes 0, or enough room, it returns t itself.
func (t *Tree) Truncate(maxNodes int64) *Tree {
	if maxNodes <= 0 || int64(len(t.Nodes)-1) <= maxNodes {
		return t
	}
	out := &Tree{}
	out.Names, out.Nodes = truncate(t.Names, t.Nodes, nthLargest(t.Nodes[1:], int(maxNodes)))
	return out
}

// Truncate keeps the maxNodes nodes whose larger side is largest, as
// Tree.Truncate does. Here the root counts, as it does in Pyroscope.
func (t *DiffTree) Truncate(maxNodes int64) *DiffTree {
	if maxNodes <= 0 || int64(len(t.Nodes)) <= maxNodes {
		return t
	}
	out := &DiffTree{}
	out.Names, out.Nodes = truncate(t.Names, t.Nodes, nthLargest(t.Nodes, int(maxNodes)))
	return out
}

// treeNode is what truncation needs of a node.
type treeNode[N any] interface {
	*N
	place() (parent, name *int32)
	size() int64
	fold(from *N) // adds a node and all below it as own value
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

// truncate keeps the nodes whose size is least at the least.
func truncate[N any, P treeNode[N]](names []string, nodes []N, least int64) ([]string, []N) {
	const folded = -1
	r := newRenamer(names, len(nodes))
	var out []N
	var fold []int32                // topmost nodes to fold
	other := map[int32]int32{}      // node to its child "other"
	at := make([]int32, len(nodes)) // where a node went
	for i := range nodes {
		n := nodes[i]
		parent, name := P(&n).place()
		switch {
		case i == 0:
		case at[*parent] == folded:
			at[i] = folded
			continue
		case P(&n).size() < least:
			at[i] = folded
			if P(&n).size() != 0 {
				fold = append(fold, int32(i))
			}
			continue
		default:
			*parent = at[*parent]
		}
		at[i] = int32(len(out))
		if *name = r.rename(*name); i > 0 && r.out[*name] == OtherName {
			other[*parent] = at[i]
		}
		out = append(out, n)
	}
	for _, i := range fold {
		from := nodes[i]
		parent, _ := P(&from).place()
		to := at[*parent]
		o, ok := other[to]
		if !ok {
			o = int32(len(out))
			other[to] = o
			var n N
			parent, name := P(&n).place()
			*parent, *name = to, r.otherName()
			out = append(out, n)
		}
		P(&out[o]).fold(&from)
	}
	return r.out, out
}

func nthLargest[N any, P treeNode[N]](nodes []N, n int) int64 {
	v := make([]int64, len(nodes))
	for i := range v {
		v[i] = P(&nodes[i]).size()
	}
	return NthLargest(v, n)
}

// NthLargest returns the nth largest of some values, n being at least 1 and at
// most their number. It changes their order.
func NthLargest(v []int64, n int) int64 {
	lo, hi, k := 0, len(v)-1, len(v)-n
	for lo < hi {
		// The middle of three keeps sorted input from being the worst case.
		a, b, c := v[lo], v[lo+(hi-lo)/2], v[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for v[j] > pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return v[k]
		}
	}
	return v[k]
}

// renamer makes a table of those names only that are used.
type renamer struct {
	in, out []string
	to      []int32 // index in out, plus one
	other   int32   // index of OtherName in out, plus one
}

func newRenamer(in []string, room int) *renamer {
	return &renamer{in: in, to: make([]int32, len(in)), out: make([]string, 0, min(room, len(in)+1))}
}

func (r *renamer) rename(i int32) int32 {
	if r.to[i] == 0 {
		if r.in[i] == OtherName {
			r.to[i] = r.otherName() + 1
			return r.to[i] - 1
		}
		r.out = append(r.out, r.in[i])
		r.to[i] = int32(len(r.out))
	}
	return r.to[i] - 1
}

func (r *renamer) otherName() int32 {
	if r.other == 0 {
		r.out = append(r.out, OtherName)
		r.other = int32(len(r.out))
	}
	return r.other - 1
}
