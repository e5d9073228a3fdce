package client

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

// A FunctionsRequest asks for the functions with the largest values.
type FunctionsRequest struct {
	Selection
	// Baseline is what functions are compared with, nil for no comparison. Its type is
	// that of the selection.
	Baseline *Selection
	// BaselineScale is what the baseline's values are multiplied with to compare with
	// those of the selection.
	BaselineScale float64
	Limit         int64
	// ByTotal orders by total values instead of own values; with a baseline, by their
	// change, whatever its sign.
	ByTotal bool
}

// Functions returns the largest functions of a selection. Servers without a call for it
// are asked for a flame graph.
func (c *Client) Functions(ctx context.Context, r FunctionsRequest) (*profile.FunctionTable, error) {
	req := &flamelinev1.FunctionsRequest{Selection: wire(r.Selection), Limit: r.Limit, Order: flamelinev1.Order_ORDER_OWN}
	if r.Baseline != nil {
		req.Baseline, req.Order = wire(*r.Baseline), flamelinev1.Order_ORDER_OWN_CHANGE
	}
	if r.ByTotal {
		req.Order = flamelinev1.Order_ORDER_TOTAL
		if r.Baseline != nil {
			req.Order = flamelinev1.Order_ORDER_TOTAL_CHANGE
		}
	}
	resp, err := c.own.Functions(ctx, connect.NewRequest(req))
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeNotFound:
		return c.functionsOfGraph(ctx, r)
	}
	if err != nil {
		return nil, c.wrap("functions", err)
	}
	m := resp.Msg
	out := &profile.FunctionTable{
		Rows: make([]profile.FunctionRow, len(m.Functions)), Count: m.Count, HasSamples: m.HasSamples,
		Total: functionValue(m.Total), BaselineTotal: functionValue(m.BaselineTotal),
	}
	for i, f := range m.Functions {
		out.Rows[i] = profile.FunctionRow{
			Name: f.Name, Own: functionValue(f.Own), Total: functionValue(f.Total),
			BaselineOwn: functionValue(f.BaselineOwn), BaselineTotal: functionValue(f.BaselineTotal),
			File: f.File, Line: f.Line,
		}
	}
	return out, nil
}

func wire(s Selection) *flamelinev1.Selection {
	return &flamelinev1.Selection{ProfileTypeID: s.Type.String(), LabelSelector: s.Selector, Start: s.Start, End: s.End}
}

func functionValue(v *flamelinev1.Value) profile.Sampled {
	return profile.Sampled{Value: v.GetValue(), Samples: v.GetSamples()}
}

// functionsOfGraph adds up the functions of a flame graph, or of a comparison.
func (c *Client) functionsOfGraph(ctx context.Context, r FunctionsRequest) (*profile.FunctionTable, error) {
	var tree *profile.DiffTree
	if r.Baseline != nil {
		var err error
		if tree, err = c.Diff(ctx, *r.Baseline, r.Selection, nil); err != nil {
			return nil, err
		}
	} else {
		one, err := c.Tree(ctx, r.Selection, nil, Only{})
		if err != nil {
			return nil, err
		}
		tree = profile.Diff(&profile.Tree{}, one)
		tree.Rest = 0
		if one.Rest != 0 {
			tree.Rest = int32(slices.Index(tree.Names, one.Names[one.Rest]))
		}
	}
	left, right := tree.Totals()
	sums := tree.FunctionSums()
	out := &profile.FunctionTable{Total: profile.Sampled{Value: right}, BaselineTotal: profile.Sampled{Value: left}, Count: int64(len(sums)), Approximate: true}
	for _, s := range sums {
		out.Rows = append(out.Rows, profile.FunctionRow{
			Name: s.Name, Own: profile.Sampled{Value: s.Own[1]}, Total: profile.Sampled{Value: s.Total[1]},
			BaselineOwn: profile.Sampled{Value: s.Own[0]}, BaselineTotal: profile.Sampled{Value: s.Total[0]},
		})
	}
	size := func(f *profile.FunctionRow) float64 {
		now, before := f.Own.Value, f.BaselineOwn.Value
		if r.ByTotal {
			now, before = f.Total.Value, f.BaselineTotal.Value
		}
		if r.Baseline == nil {
			return float64(now)
		}
		change := float64(now) - float64(before)*r.BaselineScale
		return max(change, -change)
	}
	slices.SortFunc(out.Rows, func(a, b profile.FunctionRow) int {
		return cmp.Or(cmp.Compare(size(&b), size(&a)), strings.Compare(a.Name, b.Name))
	})
	out.Rows = out.Rows[:min(int64(len(out.Rows)), r.Limit)]
	return out, nil
}

// A FunctionSeriesRequest asks for the values of functions over time, as SeriesRequest does
// for those of series.
type FunctionSeriesRequest struct {
	Selection
	Functions []string // none for the largest of the selection
	Top       int64    // how many are the largest; 0 for the server's default
	Own       bool     // own values of functions, without what they call
	GroupBy   []string
	StepMs    int64
}

// A FunctionSeries is the series of a function.
type FunctionSeries struct {
	Function string
	*typesv1.Series
}

// FunctionSeries returns the series of each function. Only Flameline has this call.
func (c *Client) FunctionSeries(ctx context.Context, r FunctionSeriesRequest) ([]FunctionSeries, error) {
	resp, err := c.own.FunctionSeries(ctx, connect.NewRequest(&flamelinev1.FunctionSeriesRequest{
		Selection: wire(r.Selection), Functions: r.Functions, Top: r.Top, Own: r.Own, GroupBy: r.GroupBy, Step: float64(r.StepMs) / 1000,
	}))
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeNotFound:
		return nil, backend.DownstreamError(&callError{
			message: "functions over time: " + c.url + " has no such query; it needs a Flameline server of this version", err: err,
		})
	}
	if err != nil {
		return nil, c.wrap("functions over time", err)
	}
	out := make([]FunctionSeries, len(resp.Msg.Series))
	for i, s := range resp.Msg.Series {
		one := &typesv1.Series{Points: make([]*typesv1.Point, len(s.Points))}
		for _, l := range s.Labels {
			one.Labels = append(one.Labels, &typesv1.LabelPair{Name: l.Name, Value: l.Value})
		}
		for j, p := range s.Points {
			one.Points[j] = &typesv1.Point{Timestamp: p.Time, Value: p.Value}
		}
		out[i] = FunctionSeries{s.Function, one}
	}
	return out, nil
}
