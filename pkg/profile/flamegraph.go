package profile

import (
	"fmt"
	"slices"
	"sync"
)

// A Flamegraph is a tree in Pyroscope's encoding: a list of levels. A level is a flat
// list with four values per node: the distance from the end of the node before (the
// delta-encoded x offset), total, self, and an index into Names.
type Flamegraph struct {
	Names   []string
	Levels  [][]int64
	Total   int64
	MaxSelf int64
	// Rest is the name of rest nodes, "" if there are none. It is not part of
	// Pyroscope's encoding; Flameline's server sends it in a header.
	Rest string
}

// Flamegraph encodes the tree. An empty tree becomes one node of value 0.
func (t *Tree) Flamegraph() Flamegraph {
	f := Flamegraph{Total: t.Total(), Rest: t.RestName()}
	if len(t.Nodes) == 0 {
		t = NewBuilder(0).Tree()
	}
	l := t.layOut()
	defer l.free()
	f.Levels = l.levels(4)
	// By level: the end of the last node, and the start of its next child.
	ends, next := make([]int64, len(l.sizes)), make([]int64, len(l.sizes))
	names := newRenamer(t.Names, len(t.Nodes))
	l.walk(func(level int, i int32) {
		n, x := &t.Nodes[i], int64(0)
		if level > 0 {
			x = next[level-1]
			next[level-1] += n.Total
		}
		f.Levels[level] = append(f.Levels[level], x-ends[level], n.Total, n.Self, int64(names.rename(n.Name)))
		ends[level] = x + n.Total
		next[level] = x + n.Self
		f.MaxSelf = max(f.MaxSelf, n.Self)
	})
	f.Names = names.out
	return f
}

// ParseFlamegraph decodes Pyroscope's encoding. It derives self values from the totals,
// and drops nodes of value 0.
func ParseFlamegraph(f Flamegraph) (*Tree, error) {
	b := newLevelBuilder(f.Names, countNodes(f.Levels, 4))
	err := parseLevels(f.Levels, len(f.Names), 4, func(v []int64) (x, total int64) { return v[0], v[1] },
		func(parent int32, name int, v []int64) int32 {
			at := int32(0)
			if parent >= 0 {
				at = b.child(parent, name)
				b.tree.Nodes[parent].Self -= v[1]
			}
			b.tree.Nodes[at].Self += v[1]
			return at
		})
	if err != nil {
		return nil, fmt.Errorf("flame graph: %w", err)
	}
	tree := b.Tree()
	tree.Rest = b.rest(f.Rest)
	return tree, nil
}

// countNodes returns the number of nodes of levels with a number of values for each.
func countNodes(levels [][]int64, width int) int {
	n := 0
	for _, l := range levels {
		n += len(l) / width
	}
	return n
}

// rest returns the index of the name of rest nodes, 0 if the tree has none.
func (b *Builder) rest(name string) int32 {
	if name == "" || name == RootName {
		return 0
	}
	return b.names[name]
}

// A place is where a node of a level is.
type place struct {
	x, end int64
	node   int32
}

// placeRows are two levels' places, which are used again.
var placeRows = sync.Pool{New: func() any { return new([2][]place) }}

// parseLevels calls add for each node with the number of its parent, which it finds by
// position on the level above. add returns the node's number.
func parseLevels(levels [][]int64, names, width int, span func([]int64) (x, total int64), add func(parent int32, name int, v []int64) int32) error {
	memory := placeRows.Get().(*[2][]place)
	above, row := memory[0][:0], memory[1][:0]
	defer func() {
		if cap(above)+cap(row) <= 1<<17 { // larger ones are not kept
			*memory = [2][]place{above, row}
			placeRows.Put(memory)
		}
	}()
	for l, vs := range levels {
		if len(vs)%width != 0 {
			return fmt.Errorf("level %d: %d values are not a multiple of %d", l, len(vs), width)
		}
		if l == 0 && len(vs) != width {
			return fmt.Errorf("level 0: %d nodes, want one", len(vs)/width)
		}
		row = slices.Grow(row[:0], len(vs)/width)
		end, p := int64(0), 0
		for i := 0; i < len(vs); i += width {
			v := vs[i : i+width]
			name := v[width-1]
			if name < 0 || name >= int64(names) {
				return fmt.Errorf("level %d, node %d: name %d of %d", l, i/width, name, names)
			}
			dx, total := span(v)
			if dx < 0 || total < 0 {
				return fmt.Errorf("level %d, node %d: negative value", l, i/width)
			}
			if l == 0 {
				if dx != 0 {
					return fmt.Errorf("level 0, node 0: offset %d, want 0", dx)
				}
				row = append(row, place{0, total, add(-1, int(name), v)})
				continue
			}
			x := end + dx
			for p < len(above) && above[p].end <= x {
				p++
			}
			if total == 0 {
				end = max(end, x)
				continue
			}
			if x < end || p == len(above) || x < above[p].x || total > above[p].end-x {
				return fmt.Errorf("level %d, node %d: outside of the nodes above", l, i/width)
			}
			end = x + total
			row = append(row, place{x, end, add(above[p].node, int(name), v)})
		}
		above, row = row, above
	}
	return nil
}
