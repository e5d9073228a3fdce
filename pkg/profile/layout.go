package profile

import (
	"slices"
	"strings"
	"sync"
)

// A layout is the order in which a tree is drawn: depth first, children by name, rest
// nodes last. Its buffers are reused.
type layout struct {
	parent, name, level []int32
	sizes               []int   // nodes of each level
	first, list         []int32 // the children of node i are list[first[i]:first[i+1]]
	stack               []int32
}

var layouts = sync.Pool{New: func() any { return new(layout) }}

// layOut returns the layout of a tree of n nodes in which parents come before children.
// Nodes with the name rest (0 for none) come last among their siblings. The caller must
// call free.
func layOut(names []string, rest int32, n int, link func(node int32) (parent, name int32)) *layout {
	l := layouts.Get().(*layout)
	l.parent, l.name, l.level = sized(l.parent, n), sized(l.name, n), sized(l.level, n)
	l.first, l.list = sized(l.first, n+2), sized(l.list, max(n-1, 0))
	l.sizes, l.stack = l.sizes[:0], l.stack[:0]
	clear(l.first)
	for i := range int32(n) {
		p, name := link(i)
		l.parent[i], l.name[i], l.level[i] = p, name, 0
		if i > 0 {
			l.level[i] = l.level[p] + 1
			l.first[p+2]++
		}
		if int(l.level[i]) == len(l.sizes) {
			l.sizes = append(l.sizes, 0)
		}
		l.sizes[l.level[i]]++
	}
	for i := 2; i < len(l.first); i++ {
		l.first[i] += l.first[i-1]
	}
	for i := int32(1); i < int32(n); i++ {
		p := l.parent[i] + 1
		l.list[l.first[p]] = i
		l.first[p]++
	}
	for i := range n {
		if s := l.list[l.first[i]:l.first[i+1]]; len(s) > 1 {
			slices.SortFunc(s, func(a, b int32) int {
				x, y := l.name[a], l.name[b]
				switch {
				case x == y:
					return 0
				case x == rest:
					return 1
				case y == rest:
					return -1
				}
				return strings.Compare(names[x], names[y])
			})
		}
	}
	return l
}

func (l *layout) free() {
	if cap(l.parent) <= 1<<20 { // larger buffers are not kept
		layouts.Put(l)
	}
}

// walk calls fn with the nodes in drawing order.
func (l *layout) walk(fn func(level int, node int32)) {
	if len(l.parent) == 0 {
		return
	}
	l.stack = append(l.stack, 0)
	for len(l.stack) > 0 {
		i := l.stack[len(l.stack)-1]
		l.stack = l.stack[:len(l.stack)-1]
		fn(int(l.level[i]), i)
		for k := l.first[i+1] - 1; k >= l.first[i]; k-- {
			l.stack = append(l.stack, l.list[k])
		}
	}
}

// levels returns one list per level with capacity for width values per node.
func (l *layout) levels(width int) [][]int64 {
	levels, values := make([][]int64, len(l.sizes)), make([]int64, width*len(l.parent))
	for i, n := range l.sizes {
		levels[i], values = values[:0:width*n], values[width*n:]
	}
	return levels
}

func sized(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n, n+n/8)
	}
	return s[:n]
}
