package profile

import "fmt"

// A FlamegraphDiff is a DiffTree in Pyroscope's encoding with seven values per node: x
// offset, total and self of the left tree, the same of the right tree, and an index into
// Names. Total is the sum of both sides.
type FlamegraphDiff struct {
	Names                 []string
	Levels                [][]int64
	Total, MaxSelf        int64
	LeftTicks, RightTicks int64
	Rest                  string // as in a Flamegraph
}

// Flamegraph encodes the tree.
func (t *DiffTree) Flamegraph() FlamegraphDiff {
	if len(t.Nodes) == 0 {
		empty := &Tree{}
		t = Diff(empty, empty)
	}
	root := t.Nodes[0]
	f := FlamegraphDiff{LeftTicks: root.Total, RightTicks: root.TotalRight, Total: root.Total + root.TotalRight, Rest: t.RestName()}
	names := newRenamer(t.Names, len(t.Nodes))
	l := t.layOut()
	defer l.free()
	f.Levels = l.levels(7)
	ends, next := make([][2]int64, len(l.sizes)), make([][2]int64, len(l.sizes))
	l.walk(func(level int, i int32) {
		n := &t.Nodes[i]
		var x [2]int64
		if level > 0 {
			x = next[level-1]
			next[level-1][0] += n.Total
			next[level-1][1] += n.TotalRight
		}
		e := &ends[level]
		f.Levels[level] = append(f.Levels[level], x[0]-e[0], n.Total, n.Self,
			x[1]-e[1], n.TotalRight, n.SelfRight, int64(names.rename(n.Name)))
		*e = [2]int64{x[0] + n.Total, x[1] + n.TotalRight}
		next[level] = [2]int64{x[0] + n.Self, x[1] + n.SelfRight}
		f.MaxSelf = max(f.MaxSelf, n.Self, n.SelfRight)
	})
	f.Names = names.out
	return f
}

// ParseFlamegraphDiff decodes Pyroscope's encoding, as ParseFlamegraph does.
func ParseFlamegraphDiff(f FlamegraphDiff) (*DiffTree, error) {
	nodes := countNodes(f.Levels, 7)
	b := newLevelBuilder(f.Names, nodes)
	left, right := make([]int64, 1, nodes+1), make([]int64, 1, nodes+1)
	for l, vs := range f.Levels {
		for i, v := range vs {
			// Both sides are added up below; half the range each cannot overflow.
			if v < 0 || v > 1<<61 {
				return nil, fmt.Errorf("flame graph: level %d, node %d: value %d out of range", l, i/7, v)
			}
		}
	}
	// Both sides are laid out in the same order, so the sums of both offsets
	// and of both totals place a node where either side alone may be empty.
	err := parseLevels(f.Levels, len(f.Names), 7, func(v []int64) (x, total int64) { return v[0] + v[3], v[1] + v[4] },
		func(parent int32, name int, v []int64) int32 {
			at := int32(0)
			if parent >= 0 {
				at = b.child(parent, name)
				for int(at) >= len(left) {
					left, right = append(left, 0), append(right, 0)
				}
				left[parent] -= v[1]
				right[parent] -= v[4]
			}
			left[at] += v[1]
			right[at] += v[4]
			return at
		})
	if err != nil {
		return nil, fmt.Errorf("flame graph: %w", err)
	}
	out := &DiffTree{Names: b.tree.Names, Nodes: make([]DiffNode, len(b.tree.Nodes)), Rest: b.rest(f.Rest)}
	for i, n := range b.tree.Nodes {
		if left[i] < 0 || right[i] < 0 {
			return nil, fmt.Errorf("flame graph: node %q: children exceed its total", b.tree.Names[n.Name])
		}
		out.Nodes[i] = DiffNode{Parent: n.Parent, Name: n.Name, Self: left[i], SelfRight: right[i]}
	}
	out.sum()
	return out, nil
}
