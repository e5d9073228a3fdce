package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/store"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

// FlameGraph changes what the flame graph of one selection shows, or that of two, before it
// is cut to the largest calls.
func (q *querier) FlameGraph(ctx context.Context, req *connect.Request[flamelinev1.FlameGraphRequest]) (*connect.Response[flamelinev1.FlameGraphResponse], error) {
	r, err := q.viewRequest(req.Msg)
	if err != nil {
		return nil, invalid(err)
	}
	tree, err := q.view(ctx, r, req.Msg.View.GetSamples())
	if err != nil {
		return nil, err
	}
	out := &flamelinev1.FlameGraphResponse{
		Names: tree.Names, Rest: tree.Rest, ExactFunctions: tree.Rest == 0 || tree.DiffTree.Functions, HasSamples: tree.Samples,
		Parents: make([]int32, len(tree.Nodes)), Functions: make([]int32, len(tree.Nodes)), Own: make([]int64, len(tree.Nodes)),
	}
	if len(r.Selections) > 1 {
		out.BaselineOwn = make([]int64, len(tree.Nodes))
	}
	for i, n := range tree.Nodes {
		out.Parents[i], out.Functions[i], out.Own[i] = n.Parent, n.Name, n.Self
		if out.BaselineOwn != nil {
			out.BaselineOwn[i] = n.SelfRight
		}
	}
	g := tree.DiffTree.Gaps()
	out.Unnamed, out.Cut = gaps(g.Unnamed), gaps(g.Cut)
	return connect.NewResponse(out), nil
}

func gaps(in []profile.Gap) (out []*flamelinev1.Gap) {
	for _, g := range in {
		out = append(out, &flamelinev1.Gap{Reason: g.Reason, Value: g.Value[0], BaselineValue: g.Value[1]})
	}
	return out
}

// view asks the store. With samples, profiles that count them have a type for it, as Go's
// do; of other CPU time the number is found from the values.
func (q *querier) view(ctx context.Context, r store.ViewRequest, samples bool) (*store.ViewTree, error) {
	if samples {
		counted, ok := sampleCounts(r.Selections)
		if ok {
			of := r
			of.Selections = counted
			tree, err := q.store.View(ctx, of)
			if err != nil {
				return nil, code(err)
			}
			if left, right := tree.Totals(); left != 0 || right != 0 {
				tree.Samples = true
				return tree, nil
			}
			if r.Selections[0].Type.CPUTime() {
				r.LeastSample = leastSampledTime
			}
		}
	}
	tree, err := q.store.View(ctx, r)
	if err != nil {
		return nil, code(err)
	}
	left, right := tree.Totals()
	for side, total := range []int64{left, right}[:len(r.Selections)] {
		if total == 0 {
			if err := q.checkType(ctx, selectionFields[side]+".profile_typeID", r.Selections[side].Type); err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

// sampleCounts returns the selections of the numbers of samples, if the types can have
// them beside their values: those of time that add up over time.
func sampleCounts(sels []store.Selection) ([]store.Selection, bool) {
	counted := slices.Clone(sels)
	for i := range counted {
		t := &counted[i].Type
		if d, _ := profile.ParseUnit(t.SampleUnit); d != profile.Time || !t.Cumulative() {
			return nil, false
		}
		t.SampleType, t.SampleUnit = "samples", "count"
	}
	return counted, true
}

func (q *querier) viewRequest(m *flamelinev1.FlameGraphRequest) (r store.ViewRequest, err error) {
	if r.Selections, err = q.functionSelections(&flamelinev1.FunctionsRequest{Selection: m.Selection, Baseline: m.Baseline}); err != nil {
		return r, err
	}
	if r.MaxNodes, err = q.limits.nodes(m.MaxNodes); err != nil {
		return r, err
	}
	if len(m.SpanSelector) > 0 {
		if m.Baseline != nil {
			return r, errors.New("span_selector: is only for one selection, without a baseline")
		}
		if r.Selections[0].Spans, err = hexIDs("span_selector", m.SpanSelector, store.ParseSpanID); err != nil {
			return r, err
		}
	}
	o := m.View
	if r.View, err = view.New(view.Options{
		Focus: o.GetFocus(), Ignore: o.GetIgnore(), Hide: o.GetHide(), ShowFrom: o.GetShowFrom(), Fold: o.GetFold(), Function: o.GetFunction(),
		CollapseRecursion: o.GetCollapseRecursion(), Reverse: o.GetReverse(), MaxDepth: o.GetMaxDepth(),
	}); err != nil {
		return r, fmt.Errorf("view.%w", err)
	}
	if r.GroupBy, err = groupBy(o.GetGroupBy(), view.MaxLabels); err != nil {
		return r, fmt.Errorf("view.%w", err)
	}
	return r, nil
}
