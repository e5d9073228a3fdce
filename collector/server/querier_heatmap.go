package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// heatmapBuckets is the number of rows of a heatmap, as in Pyroscope.
const heatmapBuckets = 20

// SelectHeatmap counts the selected profiles by step and by value. A slot at t
// covers (t-step, t]; its y_min are the lower ends of rows of equal height from
// the smallest to the largest value of all series.
func (q *querier) SelectHeatmap(ctx context.Context, req *connect.Request[querierv1.SelectHeatmapRequest]) (*connect.Response[querierv1.SelectHeatmapResponse], error) {
	m := req.Msg
	sel, err := q.limits.selection(m.ProfileTypeID, m.LabelSelector, m.Start, m.End)
	if err != nil {
		return nil, invalid(err)
	}
	step, err := q.limits.step(m.Step, sel.Start, sel.End)
	if err != nil {
		return nil, invalid(err)
	}
	most, err := limit(m.GetLimit())
	if err != nil {
		return nil, invalid(err)
	}
	if err := errors.Join(
		oneOf("query_type", m.QueryType, querierv1.HeatmapQueryType_name),
		oneOf("exemplar_type", m.ExemplarType, typesv1.ExemplarType_name),
	); err != nil {
		return nil, invalid(err)
	}
	if m.ExemplarType > typesv1.ExemplarType_EXEMPLAR_TYPE_NONE {
		return nil, unsupported("exemplar_type", noExemplars)
	}
	switch m.QueryType {
	case querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL:
	case querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_SPAN:
		// Samples are stored without their spans, so there is none to count.
		return connect.NewResponse(&querierv1.SelectHeatmapResponse{}), nil
	default:
		return nil, invalid(fmt.Errorf("query_type: %s, want INDIVIDUAL or SPAN", m.QueryType))
	}
	first := sel.Start
	sel.Start -= step.Milliseconds() - 1 // what the first slot covers
	found, err := q.store.Values(ctx, sel, m.GroupBy)
	if err != nil {
		return nil, code(err)
	}
	if len(found) == 0 {
		return connect.NewResponse(&querierv1.SelectHeatmapResponse{}), q.known(ctx, sel.Type)
	}
	least, largest := math.Inf(1), math.Inf(-1)
	for _, s := range found {
		for _, p := range s.Points {
			least, largest = min(least, p.Value), max(largest, p.Value)
		}
	}
	h := newHeatmap(first, step.Milliseconds(), least, largest)
	resp := &querierv1.SelectHeatmapResponse{}
	counts := map[*typesv1.HeatmapSeries]int{}
	for _, s := range found {
		series := &typesv1.HeatmapSeries{Labels: pairs(s.Labels)}
		for _, p := range s.Points {
			series.Slots = h.add(series.Slots, p.Time, p.Value)
		}
		counts[series] = len(s.Points)
		resp.Series = append(resp.Series, series)
	}
	if most > 0 && int64(len(resp.Series)) > most {
		slices.SortStableFunc(resp.Series, func(a, b *typesv1.HeatmapSeries) int { return cmp.Compare(counts[b], counts[a]) })
		resp.Series = resp.Series[:most]
	}
	return connect.NewResponse(resp), nil
}

// A heatmap sorts profiles into slots and rows.
type heatmap struct {
	first, step int64 // ms
	rows        []float64
}

func newHeatmap(first, step int64, least, largest float64) *heatmap {
	if least == largest {
		largest++
	}
	h := &heatmap{first: first, step: step, rows: make([]float64, heatmapBuckets)}
	for i := range h.rows {
		h.rows[i] = least + math.Trunc(float64(i)*((largest-least)/heatmapBuckets))
	}
	return h
}

// add counts a profile; times come in ascending order.
func (h *heatmap) add(slots []*typesv1.HeatmapSlot, time int64, value float64) []*typesv1.HeatmapSlot {
	at := h.first + max(time-h.first+h.step-1, 0)/h.step*h.step
	if n := len(slots); n == 0 || slots[n-1].Timestamp != at {
		slots = append(slots, &typesv1.HeatmapSlot{Timestamp: at, YMin: h.rows, Counts: make([]int32, len(h.rows))})
	}
	row, found := slices.BinarySearch(h.rows, value)
	if !found {
		row--
	}
	for row+1 < len(h.rows) && h.rows[row+1] == value {
		row++ // rows of small counts may begin at the same value
	}
	slots[len(slots)-1].Counts[row]++
	return slots
}
