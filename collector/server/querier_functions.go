package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

var _ flamelinev1connect.QueryServiceHandler = (*querier)(nil)

// Numbers of functions in one answer: unless the request says how many, and at most.
const (
	defaultFunctions = 100
	maxFunctions     = 100_000
)

// Functions adds up the values of each function in one selection, or in two.
func (q *querier) Functions(ctx context.Context, req *connect.Request[flamelinev1.FunctionsRequest]) (*connect.Response[flamelinev1.FunctionsResponse], error) {
	m := req.Msg
	if err := oneOf("order", m.Order, flamelinev1.Order_name); err != nil {
		return nil, invalid(err)
	}
	most := int(m.Limit)
	switch {
	case m.Limit < 0 || m.Limit > maxFunctions:
		return nil, invalid(fmt.Errorf("limit: %d is not between 0 and %d", m.Limit, maxFunctions))
	case m.Limit == 0:
		most = defaultFunctions
	}
	sels, err := q.functionSelections(m)
	if err != nil {
		return nil, invalid(err)
	}
	found, err := q.store.Functions(ctx, sels, make([][]string, len(sels)), func(f *store.Functions) []int {
		return largestFunctions(f, m.Order, len(sels) > 1, baselineScale(sels, time.Now()), most)
	})
	if err != nil {
		return nil, code(err)
	}
	for side, sel := range sels {
		if found.Root[side] == 0 {
			if err := q.checkType(ctx, selectionFields[side]+".profile_typeID", sel.Type); err != nil {
				return nil, err
			}
		}
	}
	out := &flamelinev1.FunctionsResponse{
		Total: &flamelinev1.Value{Value: found.Root[0]}, Count: int64(len(found.Names)),
	}
	if len(sels) > 1 {
		out.BaselineTotal = &flamelinev1.Value{Value: found.Root[1]}
	}
	for row, i := range found.Chosen {
		own, total, source := found.Own[i], found.Total[i], found.Sources[row]
		f := &flamelinev1.Function{
			Name: found.Names[i], Own: &flamelinev1.Value{Value: own[0]}, Total: &flamelinev1.Value{Value: total[0]},
			File: source.File, Line: source.Line,
		}
		if len(sels) > 1 {
			f.BaselineOwn, f.BaselineTotal = &flamelinev1.Value{Value: own[1]}, &flamelinev1.Value{Value: total[1]}
		}
		out.Functions = append(out.Functions, f)
	}
	if err := q.countSamples(ctx, sels, found, out); err != nil {
		return nil, code(err)
	}
	return connect.NewResponse(out), nil
}

// selectionFields are the fields of a request that sides of a comparison come from.
var selectionFields = [...]string{"selection", "baseline"}

// functionSelections returns the selection of a request, and the baseline if there is
// one.
func (q *querier) functionSelections(m *flamelinev1.FunctionsRequest) (sels []store.Selection, err error) {
	if m.Selection == nil {
		return nil, errors.New("selection: is missing")
	}
	for side, s := range []*flamelinev1.Selection{m.Selection, m.Baseline} {
		if s == nil {
			break
		}
		sel, err := q.limits.selection(cmp.Or(s.ProfileTypeID, m.Selection.ProfileTypeID), s.LabelSelector, s.Start, s.End)
		if err != nil {
			return nil, fmt.Errorf("%s.%w", selectionFields[side], err)
		}
		sels = append(sels, sel)
	}
	return sels, nil
}

// baselineScale is what values of the baseline are multiplied with so that they compare
// with those of the selection: for values that add up over time the ratio of the lengths
// of both, of which only what has passed counts.
func baselineScale(sels []store.Selection, now time.Time) float64 {
	if len(sels) < 2 || !sels[0].Type.Cumulative() {
		return 1
	}
	length := func(s store.Selection) float64 { return float64(min(s.End, now.UnixMilli()) - s.Start) }
	if a, b := length(sels[0]), length(sels[1]); a > 0 && b > 0 {
		return a / b
	}
	return 1
}

// largestFunctions returns which functions an order puts first, up to a number.
func largestFunctions(f *store.Functions, order flamelinev1.Order, compared bool, scale float64, most int) []int {
	if order == flamelinev1.Order_ORDER_UNSPECIFIED && compared {
		order = flamelinev1.Order_ORDER_OWN_CHANGE
	}
	values := f.Own
	if order == flamelinev1.Order_ORDER_TOTAL || order == flamelinev1.Order_ORDER_TOTAL_CHANGE {
		values = f.Total
	}
	change := order == flamelinev1.Order_ORDER_OWN_CHANGE || order == flamelinev1.Order_ORDER_TOTAL_CHANGE
	keys := make([]float64, len(values))
	at := make([]int, len(values))
	for i, v := range values {
		at[i], keys[i] = i, float64(v[0])
		if change {
			keys[i] -= float64(v[1]) * scale
			keys[i] = max(keys[i], -keys[i])
		}
	}
	slices.SortFunc(at, func(a, b int) int {
		return cmp.Or(cmp.Compare(keys[b], keys[a]), strings.Compare(f.Names[a], f.Names[b]))
	})
	return at[:min(most, len(at))]
}

// countSamples adds how many samples were taken. Profiles of Go and others have the number
// beside values of time. Of other CPU time it is found from the values, which are multiples
// of the time that a sample stands for.
func (q *querier) countSamples(ctx context.Context, sels []store.Selection, values *store.Functions, out *flamelinev1.FunctionsResponse) error {
	counted, ok := sampleCounts(sels)
	if !ok {
		return nil
	}
	found, err := q.store.Functions(ctx, counted, make([][]string, len(sels)), nil)
	if err != nil {
		return err
	}
	if found.Root == [2]int64{} {
		if values.Unit >= leastSampledTime && sels[0].Type.CPUTime() {
			divideSamples(out, values.Unit)
		}
		return nil
	}
	wanted := make(map[string]*flamelinev1.Function, len(out.Functions))
	for _, f := range out.Functions {
		wanted[f.Name] = f
	}
	for i, name := range found.Names {
		f := wanted[name]
		if f == nil {
			continue
		}
		f.Own.Samples, f.Total.Samples = found.Own[i][0], found.Total[i][0]
		if f.BaselineOwn != nil {
			f.BaselineOwn.Samples, f.BaselineTotal.Samples = found.Own[i][1], found.Total[i][1]
		}
	}
	out.HasSamples, out.Total.Samples = true, found.Root[0]
	if out.BaselineTotal != nil {
		out.BaselineTotal.Samples = found.Root[1]
	}
	return nil
}

// leastSampledTime is the least time between two samples of a CPU that a profiler has, in
// ns: at 10,000 Hz. Where profilers have several frequencies, the common unit is less.
const leastSampledTime = 100_000

// divideSamples sets numbers of samples that each stand for so much of the values.
func divideSamples(out *flamelinev1.FunctionsResponse, each int64) {
	values := []*flamelinev1.Value{out.Total, out.BaselineTotal}
	for _, f := range out.Functions {
		values = append(values, f.Own, f.Total, f.BaselineOwn, f.BaselineTotal)
	}
	for _, v := range values {
		if v != nil {
			v.Samples = (v.Value + each/2) / each
		}
	}
	out.HasSamples = true
}

// defaultTop is the number of functions of FunctionSeries unless the request names some or
// says how many.
const defaultTop = 10

// maxGroupBy is the most labels that FunctionSeries groups by.
const maxGroupBy = 64

// FunctionSeries adds up the values of functions by steps of time.
func (q *querier) FunctionSeries(ctx context.Context, req *connect.Request[flamelinev1.FunctionSeriesRequest]) (*connect.Response[flamelinev1.FunctionSeriesResponse], error) {
	m := req.Msg
	sels, err := q.functionSelections(&flamelinev1.FunctionsRequest{Selection: m.Selection})
	if err != nil {
		return nil, invalid(err)
	}
	r := store.SeriesRequest{Selection: sels[0], Own: m.Own}
	if r.GroupBy, err = groupBy(m.GroupBy, maxGroupBy); err != nil {
		return nil, invalid(err)
	}
	if r.Step, err = q.limits.step(m.Step, r.Start, r.End); err != nil {
		return nil, invalid(err)
	}
	if r.Limit, err = limit(m.Limit); err != nil {
		return nil, invalid(err)
	}
	switch {
	case len(m.Functions) > store.MaxFunctions:
		return nil, invalid(fmt.Errorf("functions: %d are more than %d", len(m.Functions), store.MaxFunctions))
	case slices.Contains(m.Functions, ""):
		return nil, invalid(errors.New("functions: a name is empty"))
	case m.Top < 0 || m.Top > store.MaxFunctions:
		return nil, invalid(fmt.Errorf("top: %d is not between 0 and %d", m.Top, store.MaxFunctions))
	}
	functions := m.Functions
	if len(functions) == 0 {
		sels[0].Start = max(r.Start-r.Step.Milliseconds()+1, 0) // the first point has the step before it
		found, err := q.store.Functions(ctx, sels, make([][]string, 1), nil)
		if err != nil {
			return nil, code(err)
		}
		order := flamelinev1.Order_ORDER_TOTAL
		if m.Own {
			order = flamelinev1.Order_ORDER_OWN
		}
		for _, i := range largestFunctions(found, order, false, 1, int(cmp.Or(m.Top, defaultTop))) {
			functions = append(functions, found.Names[i])
		}
	}
	series, err := q.store.FunctionPoints(ctx, r, functions)
	if err != nil {
		return nil, code(err)
	}
	out := &flamelinev1.FunctionSeriesResponse{}
	for k, list := range series {
		if r.Type.Cumulative() {
			list = complete(list)
		}
		for _, s := range list {
			one := &flamelinev1.Series{Function: functions[k]}
			s.Labels.Range(func(l labels.Label) {
				one.Labels = append(one.Labels, &flamelinev1.Label{Name: l.Name, Value: l.Value})
			})
			points := make([]flamelinev1.Point, len(s.Points))
			for i, p := range s.Points {
				points[i].Time, points[i].Value = p.Time, p.Value
				one.Points = append(one.Points, &points[i])
			}
			out.Series = append(out.Series, one)
		}
	}
	if len(out.Series) == 0 {
		return connect.NewResponse(out), q.checkType(ctx, "selection.profile_typeID", r.Type)
	}
	return connect.NewResponse(out), nil
}
