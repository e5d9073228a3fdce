package store

import (
	"context"
	"sync"

	"github.com/flameline/flameline/pkg/profile"
)

// Tree merges all selected profiles into a call tree of functions. If a call site
// is given, from the outermost function inwards, only stacktraces that begin
// with it count. A selection without profiles gives a tree with a root of no
// value.
func (db *DB) Tree(ctx context.Context, sel Selection, callSite []string) (*profile.Tree, error) {
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
	trees := make([]*profile.Tree, len(jobs))
	err = db.run(ctx, jobs, func(j *job, s *scanner) error {
		part, err := db.partition(j.epoch, j.partition)
		if err != nil {
			return err
		}
		defer part.release()
		v := part.value.view()
		b := buffers.Get().(*buffer)
		defer buffers.Put(b)
		byNode := b.zeros(&b.nodes, len(v.nodes))
		if err := db.sums(j, s, sel, v, byNode); err != nil {
			return err
		}
		byCall := b.zeros(&b.calls, len(v.calls))
		for n, x := range byNode {
			byCall[v.callOf[n]] += x
		}
		if len(callSite) > 0 {
			v.filterCalls(byCall, callSite)
		}
		trees[j.order] = v.tree(byCall)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(trees) == 1:
		return trees[0], nil
	}
	return profile.Merge(trees...), nil
}

// tree makes a tree of own values by call, of calls with a value only.
func (v *view) tree(self []int64) *profile.Tree {
	// Values are not negative, so a call is in the tree if its total is not 0.
	total := make([]int64, len(self))
	copy(total, self)
	kept := 1
	for i := len(total) - 1; i > 0; i-- {
		if total[i] != 0 {
			kept++
			total[v.calls[i].parent] += total[i]
		}
	}
	t := &profile.Tree{Names: []string{profile.RootName}, Nodes: make([]profile.Node, 1, kept)}
	t.Nodes[0] = profile.Node{Parent: -1, Self: self[0], Total: total[0]}
	at := make([]int32, len(self))
	names := make([]int32, len(v.strings))
	for i := 1; i < len(self); i++ {
		if total[i] == 0 {
			continue
		}
		c := v.calls[i]
		if names[c.name] == 0 {
			names[c.name] = int32(len(t.Names))
			t.Names = append(t.Names, v.strings[c.name])
		}
		at[i] = int32(len(t.Nodes))
		t.Nodes = append(t.Nodes, profile.Node{Parent: at[c.parent], Name: names[c.name], Self: self[i], Total: total[i]})
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

// A buffer is memory for sums, reused between queries.
type buffer struct{ nodes, calls []int64 }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// zeros returns n zeros in the memory of s.
func (b *buffer) zeros(s *[]int64, n int) []int64 {
	if cap(*s) < n {
		*s = make([]int64, n+n/4)
	}
	*s = (*s)[:n]
	clear(*s)
	return *s
}
