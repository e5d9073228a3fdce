package profile

// keep adds nodes for the n largest calls. Dropped calls below a node are pushed on the
// stack if a function may be large in them.
func (c *functionCut) keep(n int) {
	least := c.floor
	if n > 0 {
		least = c.sizes[n-1]
	}
	c.kept.Reset()
	c.calls = c.calls[:0]
	for _, i := range c.largest { // at is the number in the cut
		if size := c.size(i); i == 0 {
			c.at[0] = c.kept.Add(-1, size)
		} else if size >= least {
			c.at[i] = c.kept.Add(c.at[c.in[i].caller], size)
		} else {
			continue
		}
		c.calls = append(c.calls, i)
	}
	chosen := c.kept.Choose(int64(n), 1<<62, func(i int32) string {
		return c.names[c.in[c.calls[i]].name]
	})
	for k, i := range c.calls {
		switch {
		case i == 0:
			c.at[0] = c.add(-1, c.root) + 1
		case chosen != nil && !chosen[k]:
			c.at[i] = 0
		default:
			c.at[i] = c.add(c.at[c.in[i].caller]-1, c.in[i].name) + 1
		}
	}
	for _, i := range c.calls {
		if c.at[i] == 0 {
			continue
		}
		var left [2]int64
		var calls []int32
		for k := c.in[i].first; k < c.in[i].end; k++ {
			if c.at[k] == 0 && !c.always[c.in[k].name] {
				addPair(&left, c.in[k].total)
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

// restNode returns the rest node of a node, which is the node itself if it is one.
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

// below returns the node of a function below a rest node.
func (c *functionCut) below(rest, name int32) int32 {
	slot, found := c.edges.find(rest, name)
	if found {
		return c.edges.slots[slot].node
	}
	node := c.add(rest, name)
	c.edges.put(slot, edge{rest, name, node})
	return node
}

// callees returns the callees of calls, and adds up their totals by function.
func (c *functionCut) callees(calls []int32) (callees []int32) {
	for _, call := range calls {
		for k := c.in[call].first; k < c.in[call].end; k++ {
			addPair(&c.sum[c.in[k].name], c.in[k].total)
			callees = append(callees, k)
		}
	}
	return callees
}

// isShown reports whether a function is shown below the current rest node.
func (c *functionCut) isShown(name int32) bool {
	s := &c.sum[name]
	return max(s[0], s[1]) > c.shared || c.always[name]
}

// expand adds nodes for the large functions that the calls of a function below a rest
// node call. The other callees go into its rest node.
func (c *functionCut) expand(g functionGroup) {
	callees := c.callees(g.calls)
	c.groups = c.groups[:0]
	var small []int32
	var left [2]int64
	for _, k := range callees {
		name := c.in[k].name
		if !c.isShown(name) {
			small = append(small, k)
			addPair(&left, c.in[k].total)
			continue
		}
		if c.group[name] == 0 {
			c.groups = append(c.groups, functionGroup{node: c.add(g.node, name)})
			c.group[name] = int32(len(c.groups))
		}
		c.join(name, k)
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

// expandRest adds nodes for the large functions that the calls of a rest node call.
// Callees of small functions count as callees of the rest node.
func (c *functionCut) expandRest(g functionGroup) {
	c.groups = c.groups[:0]
	var all []int32
	for calls := g.calls; len(calls) > 0; {
		callees := c.callees(calls)
		var small []int32
		for _, k := range callees {
			name := c.in[k].name
			if c.group[name] == 0 {
				if !c.isShown(name) {
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
			name := c.in[k].name
			c.sum[name] = [2]int64{}
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

// forget clears the sums and groups of the functions of calls.
func (c *functionCut) forget(calls []int32) {
	for _, k := range calls {
		name := c.in[k].name
		c.sum[name], c.group[name] = [2]int64{}, 0
	}
}

// addOwn adds the self values of all calls to the nodes that represent them. Functions
// with a large self value get nodes of their own. It reports whether the nodes are few
// enough. The first shown nodes are calls.
func (c *functionCut) addOwn(shown int32) bool {
	for i := range int32(len(c.in)) {
		caller, name := c.in[i].caller, c.in[i].name
		if c.at[i] == 0 {
			up := c.at[caller] - 1
			if c.always[name] && !c.isBelow(up, name, shown) {
				c.at[i] = c.below(up, name) + 1
			} else {
				c.at[i] = c.restNode(up) + 1
			}
		}
		if self := c.in[i].self; self != [2]int64{} {
			to := c.at[i] - 1
			if c.out[to].Name == c.rest && (c.own[name] > c.floor || c.own[name] >= c.large) {
				to = c.below(to, name)
			}
			c.out[to].Self += self[0]
			c.out[to].SelfRight += self[1]
		}
		if c.full() {
			return false
		}
	}
	return true
}

// isBelow reports whether a node, or a caller of it other than the first shown nodes, is
// of a function.
func (c *functionCut) isBelow(node, name, shown int32) bool {
	for ; node >= shown; node = c.out[node].Parent {
		if c.out[node].Name == name {
			return true
		}
	}
	return false
}
