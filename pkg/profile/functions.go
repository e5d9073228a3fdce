package profile

import (
	"cmp"
	"slices"
)

// TruncateFunctions cuts the tree as Truncate does, for a reader who adds up the own
// values of each function: those are exact, of every function whose own value in the
// whole tree is larger than the largest call that is not shown, or is a thousandth of
// the root (with less than 4,000 nodes, as large a part of it as 4 nodes are of
// maxNodes).
//
// For this a rest node has children: functions that are called, directly or through
// others that are left out, by calls which the rest node stands for. They are:
//
//   - those whose calls there, added up, are large in both of these ways; what they call
//     in turn is below them;
//   - others with their own value alone, if that is large in the whole tree;
//   - those of which more than a thousandth of the root would be missing if somebody
//     added up their totals, recursion counted once. Where half of the calls would have
//     to go for it, because too many functions are called from everywhere, more may be
//     missing.
//
// There are at most Room nodes; so this keeps fewer calls than Truncate, and the fewer
// the more functions are called from everywhere. Totals of all nodes are exact, but of
// those below a rest node: these lack calls that are too small.
//
// Names must be there once each, and no node be a rest node.
func (t *DiffTree) TruncateFunctions(maxNodes int64) *DiffTree {
	if maxNodes <= 0 || int64(len(t.Nodes)-1) <= maxNodes {
		return t
	}
	switch out, fits := TruncateFunctions(newDiffCalls(t), maxNodes); {
	case fits:
		return t
	case out == nil:
		return t.Truncate(maxNodes + 1)
	default:
		return out
	}
}

// TruncateFunctions is DiffTree.TruncateFunctions of a tree of calls. It returns nil and
// whether the whole tree fits; if it does not, maxNodes, which is at least 1, is too
// small for the functions.
func TruncateFunctions(t CallTree, maxNodes int64) (out *DiffTree, fits bool) {
	c := newFunctionCut(t, maxNodes)
	if c == nil {
		return nil, true
	}
	return c.best(), false
}

// best is the cut with the most calls that has what it has to, nil if there is none.
func (c *functionCut) best() *DiffTree {
	best, kept := c.search(0, int(c.maxNodes))
	if best == nil {
		return nil
	}
	// What is missing of totals at last counts, not at first: with fewer calls, other
	// functions may come to lack something.
	const rounds = 8
	tree, low := best, kept/2
	missing := c.large
	for range rounds {
		if !c.alwaysName(tree, missing) {
			return tree
		}
		if more, n := c.search(low, kept); more != nil {
			tree, kept = more, n
			continue
		}
		if tree != best {
			return tree
		}
		clear(c.always)
		missing = max(missing, missing*4)
	}
	return tree
}

// search looks for the largest number of calls, from low to high, with which the tree is
// small enough, and returns that tree and the number. It returns nil if it is too large
// with low calls already. Not much would be gained by finding the very largest number:
// it is more than 15/16 of that.
func (c *functionCut) search(low, high int) (best *DiffTree, kept int) {
	if best = c.cut(high); best != nil {
		return best, high
	}
	// Most often some of the calls have to go, and not most of them.
	for n := low + (high-low)*3/4; ; n = low + (high-low)/2 {
		if tree := c.cut(n); tree != nil {
			best, low = tree, n
		} else if high = n; n == low {
			return nil, 0
		}
		if high-low <= 1+low/16 {
			break
		}
	}
	if best == nil {
		best = c.cut(low)
	}
	return best, low
}

// A functionCut is the work of TruncateFunctions.
type functionCut struct {
	in         CallTree
	maxNodes   int64
	names      []string // of in
	rest, root int32    // names of rest nodes and of the root, which come after these
	restName   string

	own     []int64    // by name: the own value in the whole tree, the larger side
	totals  [][2]int64 // by name: the total in the whole tree, recursion counted once; nil if not known
	large   int64      // a value that is not left out, however large calls are
	always  []bool     // by name: whether its calls are never part of a rest
	largest []int32    // nodes, as large as any that may be kept
	sizes   []int64    // of the largest nodes, without the root; one more than may be kept

	// Of one attempt.
	shared int64   // a function whose calls below a rest node are larger is shown with what it calls
	floor  int64   // size of the largest call that is not shown
	at     []int32 // node of in to the node of out that it is part of, plus one; 0 if not known
	out    []DiffNode
	restOf []int32 // node of out to its rest node, 0 for none
	edges  edgeTable
	stack  []functionGroup

	kept   Cut
	sum    [][2]int64 // by name
	group  []int32    // by name: number of a group, plus one
	groups []functionGroup
	calls  []int32
}

// A functionGroup is a node of the result and the calls that it stands for.
type functionGroup struct {
	node  int32
	calls []int32
}

// newFunctionCut prepares for all attempts. It returns nil if all of the tree fits.
func newFunctionCut(t CallTree, maxNodes int64) *functionCut {
	names := t.Names()
	c := &functionCut{
		in: t, maxNodes: maxNodes, names: names, rest: int32(len(names)), root: int32(len(names)) + 1,
		own: make([]int64, len(names)), always: make([]bool, len(names)), sum: make([][2]int64, len(names)), group: make([]int32, len(names)),
	}
	used := make([]bool, len(names))
	sizes := make([]int64, 0, t.Len())
	for i := range int32(t.Len()) {
		if size := c.size(i); i > 0 && size != 0 {
			sizes = append(sizes, size)
			_, name := t.Call(i)
			used[name] = true
			addPair(&c.sum[name], t.Self(i))
		}
	}
	if int64(len(sizes)) <= maxNodes {
		return nil
	}
	for i, sum := range c.sum {
		c.own[i] = max(sum[0], sum[1])
	}
	clear(c.sum)
	c.restName = RestName(func(name string) bool {
		i := slices.Index(names, name)
		return i >= 0 && used[i]
	})
	total := c.size(0)
	c.large = max(total/1000, total/max(maxNodes/4, 1), 1)
	// NthLargest leaves those that are larger behind it.
	NthLargest(sizes, int(maxNodes)+1)
	c.sizes = slices.Clone(sizes[int64(len(sizes))-maxNodes-1:])
	slices.SortFunc(c.sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	for i := range int32(t.Len()) {
		if i == 0 || c.size(i) >= c.sizes[maxNodes] {
			c.largest = append(c.largest, i)
		}
	}
	c.at = make([]int32, t.Len())
	return c
}

func (c *functionCut) size(i int32) int64 {
	total := c.in.Total(i)
	return max(total[0], total[1])
}

func addPair(to *[2]int64, v [2]int64) {
	to[0] += v[0]
	to[1] += v[1]
}

// cut makes the tree in which the largest calls are kept, as many as it is told,
// or nil if that needs too many nodes.
func (c *functionCut) cut(keep int) *DiffTree {
	c.floor = c.sizes[keep]
	c.shared = max(c.floor, c.large-1)
	clear(c.at)
	c.out, c.restOf, c.stack = c.out[:0], c.restOf[:0], c.stack[:0]
	clear(c.edges.slots)
	if c.edges.used = 0; c.edges.slots == nil {
		c.edges.grow(64)
	}
	c.keep(keep)
	shown := int32(len(c.out) - len(c.stack)) // without the rest nodes that there are
	for len(c.stack) > 0 {
		g := c.stack[len(c.stack)-1]
		c.stack = c.stack[:len(c.stack)-1]
		if c.out[g.node].Name == c.rest {
			c.expandRest(g)
		} else {
			c.expand(g)
		}
		if c.full() {
			return nil
		}
	}
	if !c.addOwn(shown) {
		return nil
	}
	out := &DiffTree{Nodes: slices.Clone(c.out), Functions: true}
	out.sum()
	c.setNames(out)
	return out
}

// setNames gives a tree those names that it uses.
func (c *functionCut) setNames(out *DiffTree) {
	out.Names = []string{RootName}
	to := make([]int32, c.root+1) // index in out, plus one
	to[c.root] = 1
	for i := range out.Nodes {
		name := &out.Nodes[i].Name
		if to[*name] == 0 {
			text := c.restName
			if *name != c.rest {
				text = c.names[*name]
			}
			if to[*name] = 1; text != RootName {
				out.Names = append(out.Names, text)
				to[*name] = int32(len(out.Names))
			}
		}
		*name = to[*name] - 1
	}
	if to[c.rest] != 0 {
		out.Rest = to[c.rest] - 1
	}
}

func (c *functionCut) full() bool { return int64(len(c.out)-1) > Room(c.maxNodes) }

// alwaysName finds functions whose totals in a tree lack more than a value, and has no
// call of them be part of a rest from now on. It reports whether there are any that may
// be so far.
func (c *functionCut) alwaysName(tree *DiffTree, missing int64) bool {
	if c.totals == nil {
		c.totals = functionTotals(c.in, len(c.names))
	}
	shown := map[string][2]int64{}
	for i, total := range functionTotals(newDiffCalls(tree), len(tree.Names)) {
		if int32(i) != tree.Rest {
			shown[tree.Names[i]] = total
		}
	}
	found := false
	for i, total := range c.totals {
		if c.always[i] || max(total[0], total[1]) <= missing {
			continue
		}
		has := shown[c.names[i]]
		if max(total[0]-has[0], total[1]-has[1]) > missing {
			c.always[i], found = true, true
		}
	}
	return found
}
