package profile

import (
	"cmp"
	"slices"
)

// TruncateFunctions cuts the tree like Truncate, but so that a reader who adds up the
// self values of each function gets exact sums: for every function whose self value in
// the whole tree exceeds the largest call that is not shown, or is at least a thousandth
// of the root (in cuts to less than 4,000 nodes, at least 4/maxNodes of it).
//
// For this a rest node has children: functions that the calls behind the rest node call,
// directly or through others that are left out. They are:
//
//   - functions whose calls there, added up, exceed both of these bounds; their callees are below them;
//   - other functions with only their self value, if that is large in the whole tree;
//   - functions whose total, added up over the shown nodes with recursion counted once, would lack more than a thousandth of the root. If that would take half of the calls' room, because too many functions are called from everywhere, a larger part may be missing.
//
// The result has up to Room nodes, so it has fewer calls than that of Truncate; the more
// functions are called from everywhere, the fewer. Totals are exact, except below a rest
// node, where calls that are too small are missing.
//
// The tree must have no duplicate names and no rest nodes.
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

// CutBytes is the memory that TruncateFunctions takes for a call, at most: 48 for the call
// itself, and the rest while calls are numbered and mostCalls counts.
const CutBytes = 88

// TruncateFunctions is DiffTree.TruncateFunctions for any tree of calls; maxNodes must
// be at least 1. It returns nil and true if the whole tree fits, and nil and false if
// maxNodes is too small for the functions.
func TruncateFunctions(t CallTree, maxNodes int64) (out *DiffTree, fits bool) {
	c := newFunctionCut(t, maxNodes)
	if c == nil {
		return nil, true
	}
	return c.best(), false
}

// How near search comes to the largest number of calls that fits: up to a part of one in so
// many. Finding the exact number would gain little.
const (
	roughly = 4
	closely = 16
)

// best returns a valid cut with nearly as many calls as there can be, nil if there is
// none.
func (c *functionCut) best() *DiffTree {
	// What totals lack is decided by the final tree: with fewer calls, other functions
	// may come to lack something.
	const rounds = 8
	fit := c.mostCalls()
	most := min(fit+fit/closely, int(c.maxNodes)) + 1
	// More functions than mostCalls counts need room, so usually some calls do not have it.
	first := most * 3 / 4
	if fit < int(c.maxNodes) {
		first = most * 7 / 8
	}
	best := c.search(attempt{}, 0, first, &most, roughly)
	if best.tree == nil {
		return nil
	}
	last, high, missing := best, most, c.large
	always := slices.Clone(c.always) // with which last was made
	complete := false
	for range rounds {
		copy(always, c.always)
		highBefore := high
		if complete = !c.alwaysName(last.tree, missing); complete {
			break
		}
		if next := c.search(attempt{}, best.kept/2, last.kept*(closely-1)/closely, &high, roughly); next.tree != nil {
			last = next
			continue
		}
		if last.tree != best.tree {
			copy(c.always, always)
			high = highBefore
			break
		}
		clear(c.always)
		high, missing = most, max(missing, missing*4)
	}
	// More calls leave less out, so the functions that are always named then suffice.
	if more := c.search(last, last.kept, 0, &high, closely); !complete || !c.alwaysName(more.tree, missing) {
		return more.tree
	}
	return last.tree
}

// An attempt is a tree that is small enough and the number of calls kept in it.
type attempt struct {
	tree *DiffTree
	kept int
}

// search finds a large number of calls, at least least and less than high, with which the
// tree is small enough. It returns no tree if that is too large even with the least. It
// begins with what fits already, or else with a first number, and lowers high to the
// smallest number that turned out to be too large. It ends once the tree has all but one
// of so many parts of the room, or the number is known to such a part.
func (c *functionCut) search(best attempt, least, first int, high *int, parts int) attempt {
	room := int(Room(c.maxNodes))
	before, beforeSize := 0, 0
	n := max(least, min(first, *high-1))
	for {
		if best.tree != nil {
			size := len(best.tree.Nodes) - 1
			if size*parts >= room*(parts-1) || *high-best.kept <= 1+best.kept/parts {
				return best
			}
			// The tree grows about as the number does.
			n = best.kept
			if grown := size - beforeSize; grown > 0 {
				n += (room - room/(2*closely) - size) * (best.kept - before) / grown
			}
			if n <= best.kept || n >= *high {
				n = best.kept + (*high-best.kept)/2
			}
		}
		switch tree := c.cut(n); {
		case tree != nil:
			if best.tree != nil {
				before, beforeSize = best.kept, len(best.tree.Nodes)-1
			}
			best = attempt{tree, n}
		case n <= least:
			return best
		default:
			*high = n
			if n = least; least == 0 {
				n = *high / 2
			}
		}
	}
}

// A functionCut is the state of TruncateFunctions.
type functionCut struct {
	in         []flatCall // the tree; every attempt reads all of it
	tree       CallTree
	maxNodes   int64
	names      []string // names of in
	rest, root int32    // indexes of the names of rest nodes and of the root, after names
	restName   string

	own     []int64    // by name: the self value in the whole tree, of the larger side
	totals  [][2]int64 // by name: the total in the whole tree, recursion counted once; nil if unknown
	large   int64      // a value that is always shown, however large calls are
	always  []bool     // by name: whether its calls are always shown below rest nodes
	largest []int32    // candidates for kept nodes
	sizes   []int64    // of the maxNodes+1 largest nodes without the root

	// State of one attempt.
	shared int64   // functions whose calls below a rest node exceed this are shown with their callees
	floor  int64   // size of the largest call that is not shown
	at     []int32 // by node of in: the node of out that it is part of, plus one; 0 if unknown
	out    []DiffNode
	restOf []int32 // by node of out: its rest node; 0 for none
	edges  edgeTable
	stack  []functionGroup

	kept   Cut
	sum    [][2]int64 // by name
	group  []int32    // by name: number of a group, plus one
	groups []functionGroup
	calls  []int32
}

// A flatCall is a call of a CallTree with all that the tree says about it. The callees of
// each are next to one another: first to end. A caller comes before its callees.
type flatCall struct {
	caller, name, first, end int32
	self, total              [2]int64
}

// A functionGroup is a node of the result with the calls that it represents.
type functionGroup struct {
	node  int32
	calls []int32
}

// newFunctionCut computes what all attempts need. It returns nil if the whole tree fits.
func newFunctionCut(t CallTree, maxNodes int64) *functionCut {
	sizes := make([]int64, 0, t.Len())
	for i := range int32(t.Len()) {
		if size := larger(t.Total(i)); i > 0 && size != 0 {
			sizes = append(sizes, size)
		}
	}
	if int64(len(sizes)) <= maxNodes {
		return nil
	}
	names := t.Names()
	c := &functionCut{
		in: flatten(t, len(sizes)+1), tree: t, maxNodes: maxNodes, names: names, rest: int32(len(names)), root: int32(len(names)) + 1,
		own: make([]int64, len(names)), always: make([]bool, len(names)), sum: make([][2]int64, len(names)), group: make([]int32, len(names)),
	}
	used := make([]bool, len(names))
	for i := range c.in[1:] {
		k := &c.in[i+1]
		used[k.name] = true
		addPair(&c.sum[k.name], k.self)
	}
	for i, sum := range c.sum {
		c.own[i] = larger(sum)
	}
	clear(c.sum)
	c.restName = RestName(func(name string) bool {
		i := slices.Index(names, name)
		return i >= 0 && used[i]
	})
	total := c.size(0)
	c.large = max(total/1000, total/max(maxNodes/4, 1), 1)
	// NthLargest has moved the larger values to the end.
	NthLargest(sizes, int(maxNodes)+1)
	c.sizes = slices.Clone(sizes[int64(len(sizes))-maxNodes-1:])
	slices.SortFunc(c.sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	for i := range int32(len(c.in)) {
		if i == 0 || c.size(i) >= c.sizes[maxNodes] {
			c.largest = append(c.largest, i)
		}
	}
	c.at = make([]int32, len(c.in))
	return c
}

// flatten returns the root of a tree and its calls with a value, of which there are so many.
// The tree is read in its own order, in which a call is near its caller.
func flatten(t CallTree, count int) []flatCall {
	next := make([]int32, t.Len()) // by call of t: the number of its next callee
	for i := range int32(t.Len()) {
		if caller, _ := t.Call(i); i > 0 && larger(t.Total(i)) != 0 {
			next[caller]++
		}
	}
	end := int32(1)
	for i, callees := range next {
		next[i] = end
		end += callees
	}
	calls := make([]flatCall, count)
	at := make([]int32, t.Len()) // by call of t: its number
	for i := range int32(t.Len()) {
		self, total := t.Self(i), t.Total(i)
		if i == 0 {
			calls[0] = flatCall{first: 1, end: 1, self: self, total: total}
			continue
		}
		if larger(total) == 0 {
			continue
		}
		caller, name := t.Call(i)
		at[i] = next[caller]
		next[caller]++
		calls[at[caller]].end = next[caller]
		calls[at[i]] = flatCall{caller: at[caller], name: name, first: next[i], end: next[i], self: self, total: total}
	}
	return calls
}

func (c *functionCut) size(i int32) int64 { return larger(c.in[i].total) }

func larger(v [2]int64) int64 { return max(v[0], v[1]) }

func addPair(to *[2]int64, v [2]int64) {
	to[0] += v[0]
	to[1] += v[1]
}

// cut returns the tree with the given number of largest calls kept, nil if it needs too
// many nodes.
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
	shown := int32(len(c.out) - len(c.stack)) // without the rest nodes so far
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

// setNames reduces a tree's names to those that it uses.
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

// alwaysName finds functions whose totals in a tree lack more than a value, and marks
// them so that their calls are always shown. It reports whether it marked any.
func (c *functionCut) alwaysName(tree *DiffTree, missing int64) bool {
	if c.totals == nil {
		c.totals = FunctionTotals(c.tree, len(c.names))
	}
	shown := map[string][2]int64{}
	for i, total := range FunctionTotals(newDiffCalls(tree), len(tree.Names)) {
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
