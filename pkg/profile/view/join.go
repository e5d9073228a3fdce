package view

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// A Group is the flame graph of the profiles with some values of labels.
type Group struct {
	Label string // see GroupLabel
	Tree  *profile.DiffTree
}

// GroupLabel is the name of the frame for values of labels, such as pod=api-1. A label
// without a value has (none).
func GroupLabel(names []string, values labels.Labels) string {
	var parts []string
	for _, name := range names {
		value := values.Get(name)
		if value == "" {
			value = "(none)"
		}
		parts = append(parts, name+"="+value)
	}
	return strings.Join(parts, ", ")
}

// Join returns one flame graph with a frame below the root for each group, in which its
// graph is. What a root has as own value, since it was dropped, is the root's.
func Join(groups []Group) *profile.DiffTree {
	out := &profile.DiffTree{Names: []string{profile.RootName}, Nodes: []profile.DiffNode{{Parent: -1}}, Functions: true}
	at := map[string]int32{profile.RootName: 0}
	name := func(s string) int32 {
		i, ok := at[s]
		if !ok {
			i = int32(len(out.Names))
			at[s] = i
			out.Names = append(out.Names, s)
		}
		return i
	}
	var rests []int32 // nodes with the name of a rest
	for _, g := range groups {
		t := g.Tree
		if len(t.Nodes) == 0 {
			continue
		}
		out.Nodes[0].Self += t.Nodes[0].Self
		out.Nodes[0].SelfRight += t.Nodes[0].SelfRight
		out.Functions = out.Functions && (t.Rest == 0 || t.Functions)
		if len(t.Nodes) == 1 {
			continue
		}
		first := int32(len(out.Nodes))
		out.Nodes = append(out.Nodes, profile.DiffNode{Name: name(g.Label)})
		names := make([]int32, len(t.Names))
		for i := range names {
			names[i] = -1
		}
		for _, n := range t.Nodes[1:] {
			n.Parent += first
			if t.IsRest(&n) {
				rests = append(rests, int32(len(out.Nodes)))
			} else {
				if names[n.Name] < 0 {
					names[n.Name] = name(t.Names[n.Name])
				}
				n.Name = names[n.Name]
			}
			out.Nodes = append(out.Nodes, n)
		}
	}
	if len(rests) > 0 {
		out.Rest = int32(len(out.Names))
		out.Names = append(out.Names, profile.RestName(func(s string) bool { return slices.Contains(out.Names, s) }))
		for _, i := range rests {
			out.Nodes[i].Name = out.Rest
		}
	}
	out.Sum()
	return out
}
