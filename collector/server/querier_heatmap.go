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

	"github.com/flameline/flameline/collector/store"
)

// heatmapBuckets is the number of rows of a heatmap, as in Pyroscope.
const heatmapBuckets = 20

// SelectHeatmap counts the selected profiles by step and by value. A slot at t covers
// (t-step, t]. y_min has the lower bounds of rows of equal height between the smallest
// and the largest value of all series.
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
	r := store.ValuesRequest{Selection: sel, GroupBy: m.GroupBy, Exemplars: m.ExemplarType > typesv1.ExemplarType_EXEMPLAR_TYPE_NONE}
	switch m.QueryType {
	case querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL:
	case querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_SPAN:
		r.BySpan = true
	default:
		return nil, invalid(fmt.Errorf("query_type: %s, want INDIVIDUAL or SPAN", m.QueryType))
	}
	if r.Exemplars && r.BySpan != (m.ExemplarType == typesv1.ExemplarType_EXEMPLAR_TYPE_SPAN) {
		return nil, invalid(fmt.Errorf("exemplar_type: %s cannot be combined with query_type %s", m.ExemplarType, m.QueryType))
	}
	r.Start -= step.Milliseconds() - 1 // the first slot covers the step before it
	found, err := q.store.Values(ctx, r)
	if err != nil {
		return nil, code(err)
	}
	if len(found) == 0 {
		return connect.NewResponse(&querierv1.SelectHeatmapResponse{}), q.checkType(ctx, "profile_typeID", sel.Type)
	}
	least, largest := int64(math.MaxInt64), int64(0)
	for _, s := range found {
		for _, v := range s.Values {
			least, largest = min(least, v.Value), max(largest, v.Value)
		}
	}
	h := newHeatmap(sel.Start, step.Milliseconds(), float64(least), float64(largest))
	resp := &querierv1.SelectHeatmapResponse{}
	counts := map[*typesv1.HeatmapSeries]int{}
	for _, s := range found {
		series := &typesv1.HeatmapSeries{Labels: pairs(s.Labels)}
		for i := range s.Values {
			series.Slots = h.add(series.Slots, &s.Values[i])
		}
		if r.Exemplars {
			h.exemplars(&s, series.Slots)
		}
		counts[series] = len(s.Values)
		resp.Series = append(resp.Series, series)
	}
	if most > 0 && int64(len(resp.Series)) > most {
		slices.SortStableFunc(resp.Series, func(a, b *typesv1.HeatmapSeries) int { return cmp.Compare(counts[b], counts[a]) })
		resp.Series = resp.Series[:most]
	}
	return connect.NewResponse(resp), nil
}

// A heatmap assigns profiles to slots (times) and rows (values).
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

// add counts a profile in its slot. Calls must be in ascending order of time.
func (h *heatmap) add(slots []*typesv1.HeatmapSlot, v *store.Value) []*typesv1.HeatmapSlot {
	at := h.slotOf(v)
	if n := len(slots); n == 0 || slots[n-1].Timestamp != at {
		slots = append(slots, &typesv1.HeatmapSlot{Timestamp: at, YMin: h.rows, Counts: make([]int32, len(h.rows))})
	}
	slots[len(slots)-1].Counts[h.rowOf(v)]++
	return slots
}

// slotOf returns the time of a profile's slot, in ms.
func (h *heatmap) slotOf(v *store.Value) int64 {
	return h.first + max(v.Time-h.first+h.step-1, 0)/h.step*h.step
}

func (h *heatmap) rowOf(v *store.Value) int {
	value := float64(v.Value)
	row, found := slices.BinarySearch(h.rows, value)
	if !found {
		row--
	}
	for row+1 < len(h.rows) && h.rows[row+1] == value {
		row++ // with small values several rows have the same lower bound
	}
	return row
}

// exemplars adds exemplars to the slots of a series: for each row with profiles, the
// profile or the span of the highest value, of several the first.
func (h *heatmap) exemplars(s *store.Values, slots []*typesv1.HeatmapSlot) {
	left := s.Values
	for _, slot := range slots {
		var best [heatmapBuckets]*store.Value
		for len(left) > 0 && h.slotOf(&left[0]) == slot.Timestamp {
			v := &left[0]
			if b := &best[h.rowOf(v)]; *b == nil || v.Value > (*b).Value {
				*b = v
			}
			left = left[1:]
		}
		for _, v := range best {
			if v != nil && v.Identified() {
				slot.Exemplars = append(slot.Exemplars, exemplar(s.Exemplar(v)))
			}
		}
	}
}
