package profile

// A CallTree is a tree of calls that need not be stored as one slice, with values of two
// sides. Without a comparison the second side is 0.
type CallTree interface {
	// Len returns the number of calls. Call 0 is the root, and a caller comes before its
	// callees.
	Len() int
	// Call returns a call's caller, and its function as an index into Names. The result
	// for the root is not used.
	Call(i int32) (caller, name int32)
	// Next returns the first callee of a call, and the next callee of its caller. Calls
	// without a value are skipped; 0 means none.
	Next(i int32) (callee, sibling int32)
	Self(i int32) [2]int64
	Total(i int32) [2]int64
	// Names returns function names without duplicates. Not all need be used.
	Names() []string
}

// diffCalls is a DiffTree as a CallTree.
type diffCalls struct {
	*DiffTree
	first, next []int32
}

func newDiffCalls(t *DiffTree) *diffCalls {
	d := &diffCalls{t, make([]int32, len(t.Nodes)), make([]int32, len(t.Nodes))}
	for i := len(t.Nodes) - 1; i > 0; i-- {
		if n := &t.Nodes[i]; n.size() != 0 {
			d.next[i], d.first[n.Parent] = d.first[n.Parent], int32(i)
		}
	}
	return d
}

func (d *diffCalls) Len() int                             { return len(d.Nodes) }
func (d *diffCalls) Call(i int32) (up, name int32)        { return d.Nodes[i].Parent, d.Nodes[i].Name }
func (d *diffCalls) Next(i int32) (callee, sibling int32) { return d.first[i], d.next[i] }
func (d *diffCalls) Self(i int32) [2]int64                { return [2]int64{d.Nodes[i].Self, d.Nodes[i].SelfRight} }
func (d *diffCalls) Total(i int32) [2]int64               { return [2]int64{d.Nodes[i].Total, d.Nodes[i].TotalRight} }
func (d *diffCalls) Names() []string                      { return d.DiffTree.Names }

// FunctionTotals adds up the totals of functions, by index into the tree's names, of
// which there are so many. A recursive call does not count again.
func FunctionTotals(t CallTree, names int) [][2]int64 {
	totals, calls := make([][2]int64, names), make([]int32, names) // calls of each function on the path
	enter := func(i int32) int32 {
		_, name := t.Call(i)
		if calls[name]++; calls[name] == 1 {
			addPair(&totals[name], t.Total(i))
		}
		return i
	}
	for at := int32(0); ; {
		callee, next := t.Next(at)
		if callee != 0 {
			at = enter(callee)
			continue
		}
		for at != 0 {
			caller, name := t.Call(at)
			calls[name]--
			if next != 0 {
				break
			}
			at = caller
			_, next = t.Next(at)
		}
		if at == 0 {
			return totals
		}
		at = enter(next)
	}
}
