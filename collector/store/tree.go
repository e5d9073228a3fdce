package store

import (
	"context"

	"github.com/flameline/flameline/pkg/profile"
)

// Tree merges all selected profiles into a call tree of functions. If a call site
// is given, from the outermost function inwards, only stacktraces that begin
// with it count. A selection without profiles gives a tree with a root of no
// value.
//
// With sel.MaxNodes the tree is the one that profile.Tree.Truncate makes of the
// whole one, at a cost that does not grow with what is left out.
func (db *DB) Tree(ctx context.Context, sel Selection, callSite []string) (tree *profile.Tree, err error) {
	defer func() {
		if db.heal(err) {
			tree, err = db.Tree(ctx, sel, callSite)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("tree")()
	jobs, err := db.plan(ctx, sel)
	if err != nil {
		return nil, err
	}
	parts := make([]*callValues, len(jobs))
	defer func() {
		for _, p := range parts {
			if p != nil {
				p.view = nil
				callPool.Put(p)
			}
		}
	}()
	err = db.merge(ctx, jobs, sel, func(j *job, v *view, sums []int64) {
		c := newCallValues(v)
		parts[j.order] = c
		for n, x := range sums {
			if x != 0 {
				c.self[v.callOf[n]] += x
			}
		}
		if len(callSite) > 0 {
			v.filterCalls(c.self, callSite)
		}
		c.link()
	})
	switch {
	case err != nil:
		return nil, err
	case sel.MaxNodes > 0:
		return largest(parts, sel.MaxNodes), nil
	}
	trees := make([]*profile.Tree, len(parts))
	for i, p := range parts {
		trees[i] = p.tree()
	}
	if len(trees) == 1 {
		return trees[0], nil
	}
	return profile.Merge(trees...), nil
}

// tree makes a tree of the calls that have a value.
func (c *callValues) tree() *profile.Tree {
	v := c.view
	t := &profile.Tree{Names: []string{profile.RootName}, Nodes: make([]profile.Node, 1, len(c.total)/2+1)}
	t.Nodes[0] = profile.Node{Parent: -1, Self: c.self[0], Total: c.total[0]}
	at := make([]int32, len(c.self))
	for i := 1; i < len(c.self); i++ {
		if c.total[i] == 0 {
			continue
		}
		k := v.calls[i]
		if c.names[k.name] == 0 {
			c.names[k.name] = int32(len(t.Names))
			t.Names = append(t.Names, v.strings[k.name])
		}
		at[i] = int32(len(t.Nodes))
		t.Nodes = append(t.Nodes, profile.Node{Parent: at[k.parent], Name: c.names[k.name], Self: c.self[i], Total: c.total[i]})
	}
	return t
}

// below marks the calls of stacktraces that begin with a call site.
func (v *view) below(callSite []string) []bool {
	in := make([]bool, len(v.calls))
	depth := make([]int32, len(v.calls)) // how much of the call site was met, -1 for none
	for i := 1; i < len(v.calls); i++ {
		c := v.calls[i]
		d := depth[c.parent]
		switch {
		case in[c.parent]:
			in[i] = true
		case d >= 0 && v.strings[c.name] == callSite[d]:
			depth[i] = d + 1
			in[i] = int(d)+1 == len(callSite)
		default:
			depth[i] = -1
		}
	}
	return in
}

func (v *view) filterCalls(self []int64, callSite []string) {
	in := v.below(callSite)
	for i := range self {
		if !in[i] {
			self[i] = 0
		}
	}
}
