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
	c := newFunctionCut(t, maxNodes)
	if c == nil {
		return t
	}
	best, kept := c.search(0, int(maxNodes))
	if best == nil {
		return t.Truncate(maxNodes + 1)
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
	in       *DiffTree
	maxNodes int64
	rest     int32 // name of rest nodes
	names    []string

	first, next []int32    // a node's first child and next sibling, 0 for none
	own         []int64    // by name: the own value in the whole tree, the larger side
	totals      [][2]int64 // by name: the total in the whole tree, recursion counted once; nil if not known
	large       int64      // a value that is not left out, however large calls are
	always      []bool     // by name: whether its calls are never part of a rest
	largest     []int32    // nodes, as large as any that may be kept
	sizes       []int64    // of the largest nodes, without the root; one more than may be kept

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
func newFunctionCut(t *DiffTree, maxNodes int64) *functionCut {
	n := len(t.Nodes)
	c := &functionCut{
		in: t, maxNodes: maxNodes, rest: int32(len(t.Names)),
		first: make([]int32, n), next: make([]int32, n), at: make([]int32, n),
		own: make([]int64, len(t.Names)), always: make([]bool, len(t.Names)), sum: make([][2]int64, len(t.Names)), group: make([]int32, len(t.Names)),
	}
	c.names = append(slices.Clip(t.Names), restOf[DiffNode](t.Names, t.Nodes, 0))
	for i := n - 1; i > 0; i-- {
		node := &t.Nodes[i]
		size := node.size()
		if size == 0 {
			continue
		}
		c.next[i], c.first[node.Parent] = c.first[node.Parent], int32(i)
		c.sizes = append(c.sizes, size)
		c.sum[node.Name][0] += node.Self
		c.sum[node.Name][1] += node.SelfRight
	}
	if int64(len(c.sizes)) <= maxNodes {
		return nil
	}
	for i := range c.sum {
		c.own[i] = max(c.sum[i][0], c.sum[i][1])
	}
	clear(c.sum)
	total := t.Nodes[0].size()
	c.large = max(total/1000, total/max(maxNodes/4, 1), 1)
	// NthLargest leaves those that are larger behind it.
	NthLargest(c.sizes, int(maxNodes)+1)
	c.sizes = c.sizes[int64(len(c.sizes))-maxNodes-1:]
	least := slices.Min(c.sizes)
	for i := range t.Nodes {
		if i == 0 || t.Nodes[i].size() >= least {
			c.largest = append(c.largest, int32(i))
		}
	}
	slices.SortFunc(c.sizes, func(a, b int64) int { return cmp.Compare(b, a) })
	return c
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
	names := newRenamer(c.names, len(out.Nodes))
	for i := range out.Nodes {
		out.Nodes[i].Name = names.rename(out.Nodes[i].Name)
	}
	if out.sum(); names.to[c.rest] != 0 {
		out.Rest = names.rename(c.rest)
	}
	out.Names = names.out
	return out
}

func (c *functionCut) full() bool { return int64(len(c.out)-1) > Room(c.maxNodes) }

// keep makes nodes of the largest calls. What is left out below one is on the stack
// if a function could be large in it.
func (c *functionCut) keep(n int) {
	least := c.floor
	if n > 0 {
		least = c.sizes[n-1]
	}
	nodes := c.in.Nodes
	c.kept.Reset()
	c.calls = c.calls[:0]
	for _, i := range c.largest { // at is the number in the cut
		node := &nodes[i]
		if i == 0 {
			c.at[0] = c.kept.Add(-1, node.size())
		} else if size := node.size(); size >= least {
			c.at[i] = c.kept.Add(c.at[node.Parent], size)
		} else {
			continue
		}
		c.calls = append(c.calls, i)
	}
	chosen := c.kept.Choose(int64(n), 1<<62, func(i int32) string { return c.in.Names[nodes[c.calls[i]].Name] })
	for k, i := range c.calls {
		if chosen != nil && !chosen[k] {
			c.at[i] = 0
			continue
		}
		node := nodes[i]
		parent := int32(-1)
		if i > 0 {
			parent = c.at[node.Parent] - 1
		}
		c.at[i] = c.add(parent, node.Name) + 1
	}
	for _, i := range c.calls {
		if c.at[i] == 0 {
			continue
		}
		left := [2]int64{}
		var calls []int32
		for k := c.first[i]; k != 0; k = c.next[k] {
			if c.at[k] == 0 && !c.always[nodes[k].Name] {
				left[0] += nodes[k].Total
				left[1] += nodes[k].TotalRight
				calls = append(calls, k)
			}
		}
		if max(left[0], left[1]) > c.shared {
			rest := c.restNode(c.at[i] - 1)
			for _, k := range calls {
				c.at[k] = rest + 1
			}
			c.stack = append(c.stack, functionGroup{rest, calls})
		}
	}
}

func (c *functionCut) add(parent, name int32) int32 {
	c.out, c.restOf = append(c.out, DiffNode{Parent: parent, Name: name}), append(c.restOf, 0)
	return int32(len(c.out) - 1)
}

// restNode is the rest node of a node, or the node itself if it is one.
func (c *functionCut) restNode(node int32) int32 {
	if c.out[node].Name == c.rest {
		return node
	}
	if c.restOf[node] == 0 {
		rest := c.add(node, c.rest)
		c.restOf[node] = rest
	}
	return c.restOf[node]
}

// below is the function of a name below a rest node.
func (c *functionCut) below(rest, name int32) int32 {
	slot, found := c.edges.find(rest, name)
	if found {
		return c.edges.slots[slot].node
	}
	node := c.add(rest, name)
	c.edges.put(slot, edge{rest, name, node})
	return node
}

// callees adds up what calls call, by function.
func (c *functionCut) callees(calls []int32) (callees []int32) {
	for _, call := range calls {
		for k := c.first[call]; k != 0; k = c.next[k] {
			node := &c.in.Nodes[k]
			s := &c.sum[node.Name]
			s[0] += node.Total
			s[1] += node.TotalRight
			callees = append(callees, k)
		}
	}
	return callees
}

// expand makes nodes of the functions that a function's calls, which are several,
// call, as far as they are large. The others are in its rest.
func (c *functionCut) expand(g functionGroup) {
	callees := c.callees(g.calls)
	c.groups = c.groups[:0]
	var small []int32
	var left [2]int64
	for _, k := range callees {
		node := &c.in.Nodes[k]
		if s := c.sum[node.Name]; max(s[0], s[1]) <= c.shared && !c.always[node.Name] {
			small = append(small, k)
			left[0] += node.Total
			left[1] += node.TotalRight
			continue
		}
		if c.group[node.Name] == 0 {
			c.groups = append(c.groups, functionGroup{node: c.add(g.node, node.Name)})
			c.group[node.Name] = int32(len(c.groups))
		}
		c.join(node.Name, k)
	}
	c.forget(callees)
	if max(left[0], left[1]) > c.shared {
		rest := c.restNode(g.node)
		for _, k := range small {
			c.at[k] = rest + 1
		}
		c.stack = append(c.stack, functionGroup{rest, small})
	}
	c.stack = append(c.stack, c.groups...)
}

// expandRest makes nodes of the functions that the calls of a rest node call, as far
// as they are large. What the others call counts as called by the rest node too.
func (c *functionCut) expandRest(g functionGroup) {
	c.groups = c.groups[:0]
	var all []int32
	for calls := g.calls; len(calls) > 0; {
		callees := c.callees(calls)
		var small []int32
		for _, k := range callees {
			name := c.in.Nodes[k].Name
			if s := c.sum[name]; c.group[name] == 0 {
				if max(s[0], s[1]) <= c.shared && !c.always[name] {
					small = append(small, k)
					c.at[k] = g.node + 1
					continue
				}
				c.groups = append(c.groups, functionGroup{node: c.below(g.node, name)})
				c.group[name] = int32(len(c.groups))
				all = append(all, k)
			}
			c.join(name, k)
		}
		for _, k := range callees {
			c.sum[c.in.Nodes[k].Name] = [2]int64{}
		}
		calls = small
	}
	c.forget(all)
	c.stack = append(c.stack, c.groups...)
}

// join adds a call to its function's group.
func (c *functionCut) join(name, call int32) {
	g := &c.groups[c.group[name]-1]
	g.calls = append(g.calls, call)
	c.at[call] = g.node + 1
}

// forget clears what is known of the functions of calls.
func (c *functionCut) forget(calls []int32) {
	for _, k := range calls {
		name := c.in.Nodes[k].Name
		c.sum[name], c.group[name] = [2]int64{}, 0
	}
}

// addOwn adds the own values of all calls to the nodes that they are part of. Those
// of a function that has much of its own are never part of a rest. It reports whether
// there are few enough nodes. The first nodes, so many, are calls that are shown.
func (c *functionCut) addOwn(shown int32) bool {
	for i := range c.in.Nodes {
		node := &c.in.Nodes[i]
		if c.at[i] == 0 {
			if node.size() == 0 {
				continue
			}
			up := c.at[node.Parent] - 1
			if c.always[node.Name] && !c.isBelow(up, node.Name, shown) {
				c.at[i] = c.below(up, node.Name) + 1
			} else {
				c.at[i] = c.restNode(up) + 1
			}
		}
		if node.Self != 0 || node.SelfRight != 0 {
			to := c.at[i] - 1
			if c.out[to].Name == c.rest && (c.own[node.Name] > c.floor || c.own[node.Name] >= c.large) {
				to = c.below(to, node.Name)
			}
			c.out[to].Self += node.Self
			c.out[to].SelfRight += node.SelfRight
		}
		if c.full() {
			return false
		}
	}
	return true
}

// isBelow reports whether a node is of a function or below it, as far as it is not one
// of the first nodes.
func (c *functionCut) isBelow(node, name, shown int32) bool {
	for ; node >= shown; node = c.out[node].Parent {
		if c.out[node].Name == name {
			return true
		}
	}
	return false
}

// alwaysName finds functions whose totals in a tree lack more than a value, and has no
// call of them be part of a rest from now on. It reports whether there are any that may
// be so far.
func (c *functionCut) alwaysName(tree *DiffTree, missing int64) bool {
	if c.totals == nil {
		c.totals = functionTotals(c.in.Nodes, c.first, c.next, len(c.in.Names))
	}
	first, next := make([]int32, len(tree.Nodes)), make([]int32, len(tree.Nodes))
	for i := len(tree.Nodes) - 1; i > 0; i-- {
		up := tree.Nodes[i].Parent
		next[i], first[up] = first[up], int32(i)
	}
	shown := map[string][2]int64{}
	for i, total := range functionTotals(tree.Nodes, first, next, len(tree.Names)) {
		if int32(i) != tree.Rest {
			shown[tree.Names[i]] = total
		}
	}
	found := false
	for i, total := range c.totals {
		has := shown[c.in.Names[i]]
		if !c.always[i] && max(total[0]-has[0], total[1]-has[1]) > missing {
			c.always[i], found = true, true
		}
	}
	return found
}

// functionTotals adds up the totals of functions, by name. A call below another one of
// the same function does not count.
func functionTotals(nodes []DiffNode, first, next []int32, names int) [][2]int64 {
	totals, calls := make([][2]int64, names), make([]int32, names) // calls of each function on the path
	enter := func(i int32) int32 {
		n := &nodes[i]
		if calls[n.Name]++; calls[n.Name] == 1 {
			totals[n.Name][0] += n.Total
			totals[n.Name][1] += n.TotalRight
		}
		return i
	}
	for at := int32(0); ; {
		if first[at] != 0 {
			at = enter(first[at])
			continue
		}
		for at != 0 && next[at] == 0 {
			calls[nodes[at].Name]--
			at = nodes[at].Parent
		}
		if at == 0 {
			return totals
		}
		calls[nodes[at].Name]--
		at = enter(next[at])
	}
}
