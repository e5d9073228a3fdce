package profile

// Truncate keeps the maxNodes largest nodes by total, and those that are as
// large as the smallest of them, and folds all others into one child "other" of
// their parent, so that totals stay exact. The root does not count. With
// maxNodes 0, or enough room, it returns t itself.
func (t *Tree) Truncate(maxNodes int64) *Tree {
	if maxNodes <= 0 || int64(len(t.Nodes)-1) <= maxNodes {
		return t
	}
	least := nthLargest(len(t.Nodes)-1, int(maxNodes), func(i int) int64 { return t.Nodes[i+1].Total })
	kept, parents, others := keep(len(t.Nodes), func(i int32) (int32, bool) {
		return t.Nodes[i].Parent, t.Nodes[i].Total >= least
	})
	names := newRenamer(t.Names, len(kept)+len(others))
	out := &Tree{Nodes: make([]Node, 0, len(kept)+len(others))}
	for i, k := range kept {
		n := t.Nodes[k]
		n.Parent = parents[i]
		n.Name = names.rename(n.Name)
		out.Nodes = append(out.Nodes, n)
	}
	other := others.resolve(func(i int32) (int32, bool) { return out.Nodes[i].Parent, names.out[out.Nodes[i].Name] == OtherName }, len(out.Nodes))
	for _, f := range others {
		v := t.Nodes[f.node].Total
		if v == 0 {
			continue
		}
		at, ok := other[f.parent]
		if !ok {
			at = int32(len(out.Nodes))
			other[f.parent] = at
			out.Nodes = append(out.Nodes, Node{Parent: f.parent, Name: names.otherName()})
		}
		out.Nodes[at].Self += v
		out.Nodes[at].Total += v
	}
	out.Names = names.out
	return out
}

// Truncate keeps the maxNodes nodes whose larger side is largest, as
// Tree.Truncate does. Here the root counts, as it does in Pyroscope.
func (t *DiffTree) Truncate(maxNodes int64) *DiffTree {
	if maxNodes <= 0 || int64(len(t.Nodes)) <= maxNodes {
		return t
	}
	size := func(n *DiffNode) int64 { return max(n.Total, n.TotalRight) }
	least := nthLargest(len(t.Nodes), int(maxNodes), func(i int) int64 { return size(&t.Nodes[i]) })
	kept, parents, others := keep(len(t.Nodes), func(i int32) (int32, bool) {
		return t.Nodes[i].Parent, size(&t.Nodes[i]) >= least
	})
	names := newRenamer(t.Names, len(kept)+len(others))
	out := &DiffTree{Nodes: make([]DiffNode, 0, len(kept)+len(others))}
	for i, k := range kept {
		n := t.Nodes[k]
		n.Parent = parents[i]
		n.Name = names.rename(n.Name)
		out.Nodes = append(out.Nodes, n)
	}
	other := others.resolve(func(i int32) (int32, bool) { return out.Nodes[i].Parent, names.out[out.Nodes[i].Name] == OtherName }, len(out.Nodes))
	for _, f := range others {
		n := &t.Nodes[f.node]
		if n.Total == 0 && n.TotalRight == 0 {
			continue
		}
		at, ok := other[f.parent]
		if !ok {
			at = int32(len(out.Nodes))
			other[f.parent] = at
			out.Nodes = append(out.Nodes, DiffNode{Parent: f.parent, Name: names.otherName()})
		}
		o := &out.Nodes[at]
		o.Self += n.Total
		o.Total += n.Total
		o.SelfRight += n.TotalRight
		o.TotalRight += n.TotalRight
	}
	out.Names = names.out
	return out
}

// nthLargest returns the nth largest of m values, 1 <= n <= m.
func nthLargest(m, n int, value func(int) int64) int64 {
	v := make([]int64, m)
	for i := range v {
		v[i] = value(i)
	}
	lo, hi, k := 0, m-1, m-n
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

// A fold is a node that goes into the "other" of a kept parent.
type fold struct{ parent, node int32 }

type folds []fold

// resolve lists kept nodes that are named "other" already, by their parent.
func (f folds) resolve(node func(int32) (parent int32, other bool), n int) map[int32]int32 {
	m := make(map[int32]int32)
	for i := int32(1); i < int32(n); i++ {
		if p, ok := node(i); ok {
			m[p] = i
		}
	}
	return m
}

// keep splits nodes into those to keep, in order and with their new parents,
// and the topmost of those to fold.
func keep(n int, node func(int32) (parent int32, large bool)) (kept, parents []int32, others folds) {
	const folded = -1
	at := make([]int32, n)
	kept, parents = append(kept, 0), append(parents, -1)
	for i := int32(1); i < int32(n); i++ {
		p, large := node(i)
		switch {
		case at[p] == folded:
			at[i] = folded
		case !large:
			at[i] = folded
			others = append(others, fold{at[p], i})
		default:
			at[i] = int32(len(kept))
			kept, parents = append(kept, i), append(parents, at[p])
		}
	}
	return kept, parents, others
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
