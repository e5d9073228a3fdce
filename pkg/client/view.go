package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/prometheus/model/labels"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

// A FlameGraphRequest asks for a flame graph that a view changes.
type FlameGraphRequest struct {
	Selection
	// Baseline is what the graph is compared with, nil for no comparison. Its type is that
	// of the selection.
	Baseline *Selection
	View     view.Options
	GroupBy  []string // labels whose values have frames below the root
	Samples  bool     // numbers of samples in place of values
	MaxNodes *int64   // nil: the server's own limit
	Only     Only     // only without a baseline
}

// A FlameGraph is an answer. The root of the tree has the total of the selections; what the
// view drops is own value of the root.
type FlameGraph struct {
	// Tree has the selection on the left; in a comparison the baseline, and the selection on
	// the right.
	Tree    *profile.DiffTree
	Samples bool // values are numbers of samples
	// Approximate says that the view was applied to flame graphs of the server, which have
	// only the largest calls.
	Approximate bool
}

// FlameGraph returns a flame graph that a view changes. Of servers without a call for it,
// and of single profiles, which no server's call has, flame graphs are changed.
func (c *Client) FlameGraph(ctx context.Context, r FlameGraphRequest) (*FlameGraph, error) {
	v, err := view.New(r.View)
	if err != nil {
		return nil, ViewError(err)
	}
	if len(r.Only.Profiles) > 0 && len(r.Only.Spans) == 0 {
		return c.changedGraph(ctx, r, v)
	}
	o := r.View
	req := &flamelinev1.FlameGraphRequest{
		Selection: wire(r.Selection), SpanSelector: r.Only.Spans,
		View: &flamelinev1.View{
			Focus: o.Focus, Ignore: o.Ignore, Hide: o.Hide, ShowFrom: o.ShowFrom, Fold: o.Fold, Function: o.Function,
			CollapseRecursion: o.CollapseRecursion, Reverse: o.Reverse, MaxDepth: o.MaxDepth, GroupBy: r.GroupBy, Samples: r.Samples,
		},
	}
	if r.Baseline != nil {
		req.Baseline = wire(*r.Baseline)
	}
	if r.MaxNodes != nil {
		req.MaxNodes = *r.MaxNodes
	}
	resp, err := c.own.FlameGraph(ctx, connect.NewRequest(req))
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeNotFound:
		return c.changedGraph(ctx, r, v)
	}
	if err != nil {
		return nil, c.wrap("flame graph", err)
	}
	tree, err := graphTree(resp.Msg)
	if err != nil {
		return nil, c.wrap("answer of the server", err)
	}
	return &FlameGraph{Tree: tree, Samples: resp.Msg.HasSamples}, nil
}

// graphTree reads the tree of an answer.
func graphTree(m *flamelinev1.FlameGraphResponse) (*profile.DiffTree, error) {
	n, names := len(m.Parents), int32(len(m.Names))
	switch {
	case len(m.Functions) != n || len(m.Own) != n || len(m.BaselineOwn) != n && len(m.BaselineOwn) != 0:
		return nil, fmt.Errorf("flame graph: %d parents, %d functions, %d and %d own values", n, len(m.Functions), len(m.Own), len(m.BaselineOwn))
	case m.Rest < 0 || m.Rest > 0 && m.Rest >= names:
		return nil, fmt.Errorf("flame graph: rest: name %d of %d", m.Rest, names)
	}
	t := &profile.DiffTree{Names: m.Names, Nodes: make([]profile.DiffNode, n), Rest: m.Rest, Functions: m.ExactFunctions}
	for i := range t.Nodes {
		up, name, own := m.Parents[i], m.Functions[i], m.Own[i]
		left, right := own, int64(0)
		if len(m.BaselineOwn) > 0 {
			left, right = m.BaselineOwn[i], own
		}
		switch {
		case up >= int32(i) || up < 0 && i > 0 || up < -1:
			return nil, fmt.Errorf("flame graph: call %d: caller %d", i, up)
		case name < 0 || name >= names:
			return nil, fmt.Errorf("flame graph: call %d: name %d of %d", i, name, names)
		case left < 0 || right < 0:
			return nil, fmt.Errorf("flame graph: call %d: negative value", i)
		}
		t.Nodes[i] = profile.DiffNode{Parent: up, Name: name, Self: left, SelfRight: right}
	}
	t.Sum()
	return t, nil
}

// MaxGroups is the number of values of labels that have a flame graph each, where the
// server is asked for each of them.
const MaxGroups = 20

const (
	// maxChangedNodes bounds graphs that are changed: a reversed one can be larger than what it is
	// made of.
	maxChangedNodes = 8192
	// minGroupNodes is the least that a value of labels has of the nodes.
	minGroupNodes = 64
)

// changedGraph changes flame graphs of a server that cannot do it itself.
func (c *Client) changedGraph(ctx context.Context, r FlameGraphRequest, v *view.View) (*FlameGraph, error) {
	if err := v.NeedsPlaces(); err != nil {
		return nil, ViewError(err)
	}
	out := &FlameGraph{Approximate: true}
	if r.Samples {
		counts := r
		counts.Samples = false
		counts.Type.SampleType, counts.Type.SampleUnit = "samples", "count"
		if r.Baseline != nil {
			base := *r.Baseline
			base.Type = counts.Type
			counts.Baseline = &base
		}
		found, err := c.changedGraph(ctx, counts, v)
		if err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument { // some servers refuse types that they do not have
			return nil, err
		}
		if err == nil {
			if left, right := found.Tree.Totals(); left != 0 || right != 0 {
				found.Samples = true
				return found, nil
			}
		}
	}
	whole, err := c.graphOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(r.GroupBy) == 0 {
		out.Tree, err = changed(v, whole, r.MaxNodes)
		return out, err
	}
	values, err := c.largestGroups(ctx, r)
	if err != nil {
		return nil, err
	}
	most := int64(maxChangedNodes)
	if r.MaxNodes != nil {
		most = *r.MaxNodes
	}
	share := max(most/max(int64(len(values)), 1), minGroupNodes)
	var groups []view.Group
	left, right := whole.Totals()
	for _, ls := range values {
		of := r
		if of.Selection, err = ofLabels(r.Selection, r.GroupBy, ls); err != nil {
			return nil, err
		}
		if r.Baseline != nil {
			base, err := ofLabels(*r.Baseline, r.GroupBy, ls)
			if err != nil {
				return nil, err
			}
			of.Baseline = &base
		}
		tree, err := c.graphOf(ctx, of)
		if err != nil {
			return nil, err
		}
		l, rt := tree.Totals()
		left, right = left-l, right-rt
		if tree, err = changed(v, tree, &share); err != nil {
			return nil, err
		}
		groups = append(groups, view.Group{Label: view.GroupLabel(r.GroupBy, ls), Tree: tree})
	}
	if left > 0 || right > 0 { // of other values nothing is known but the total
		b := profile.NewDiffBuilder()
		b.Add(0, [2]int64{max(left, 0), max(right, 0)})
		groups = append(groups, view.Group{Tree: b.Tree()})
	}
	out.Tree = view.Join(groups)
	return out, nil
}

// changed applies a view to a flame graph.
func changed(v *view.View, t *profile.DiffTree, maxNodes *int64) (*profile.DiffTree, error) {
	if len(t.Nodes) == 0 {
		return t, nil
	}
	g := view.NewGraph(v, nil)
	if err := g.Add(t.Calls(), t.Rest); err != nil {
		return nil, err
	}
	most := int64(maxChangedNodes)
	if maxNodes != nil {
		most = *maxNodes
	}
	return g.Tree(most)
}

// graphOf returns the flame graph of a request without its view.
func (c *Client) graphOf(ctx context.Context, r FlameGraphRequest) (*profile.DiffTree, error) {
	if r.Baseline != nil {
		return c.Diff(ctx, *r.Baseline, r.Selection, r.MaxNodes)
	}
	t, err := c.Tree(ctx, r.Selection, r.MaxNodes, r.Only)
	if err != nil {
		return nil, err
	}
	d := profile.Diff(t, &profile.Tree{})
	if t.Rest != 0 {
		d.Rest = int32(slices.Index(d.Names, t.Names[t.Rest]))
	}
	return d, nil
}

// largestGroups returns the values of labels with the largest values in the selection.
func (c *Client) largestGroups(ctx context.Context, r FlameGraphRequest) ([]labels.Labels, error) {
	most := int64(MaxGroups)
	totals, err := c.Totals(ctx, SeriesRequest{Selection: r.Selection, GroupBy: r.GroupBy, Limit: &most, Average: !r.Type.Cumulative()})
	if err != nil {
		return nil, err
	}
	var out []labels.Labels
	for _, t := range totals {
		out = append(out, groupLabels(t.Labels))
	}
	return out, nil
}

func groupLabels(pairs []*typesv1.LabelPair) labels.Labels {
	b := labels.NewScratchBuilder(len(pairs))
	for _, l := range pairs {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels()
}

// ofLabels narrows a selection to values of labels.
func ofLabels(s Selection, names []string, values labels.Labels) (Selection, error) {
	ms, err := profile.ParseSelector(s.Selector)
	if err != nil {
		return s, Invalidf("labelSelector", "%w", err)
	}
	for _, name := range names {
		m, err := labels.NewMatcher(labels.MatchEqual, name, values.Get(name))
		if err != nil {
			return s, Invalidf("view.groupBy", "%w", err)
		}
		ms = append(ms, m)
	}
	s.Selector = profile.FormatSelector(ms)
	return s, nil
}

// ViewError returns an error of a view with the field as the query model names it.
func ViewError(err error) error {
	var field *view.FieldError
	if !errors.As(err, &field) {
		return err
	}
	name := field.Field
	if i := strings.IndexByte(name, '_'); i >= 0 {
		name = name[:i] + strings.ToUpper(name[i+1:i+2]) + name[i+2:]
	}
	return Invalidf("view."+name, "%w", field.Err)
}
