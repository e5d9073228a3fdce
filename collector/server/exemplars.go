package server

import (
	"context"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/collector/store"
)

// pointExemplars adds to each point of series an exemplar: the profile, or the span,
// with the highest value in the point's step; of several with that value the first.
// found holds the same series as the store returned them.
func (q *querier) pointExemplars(ctx context.Context, r store.SeriesRequest, of typesv1.ExemplarType, found []store.Series, series []*typesv1.Series) error {
	step := r.Step.Milliseconds()
	sel := r.Selection
	sel.Start -= step - 1 // the first point covers the step before it
	groups, err := q.store.Values(ctx, store.ValuesRequest{
		Selection: sel, GroupBy: r.GroupBy, Stack: r.Stack, Exemplars: true, BySpan: of == typesv1.ExemplarType_EXEMPLAR_TYPE_SPAN,
	})
	if err != nil {
		return err
	}
	by := make(map[string]*store.Values, len(groups))
	for i := range groups {
		by[groups[i].Labels.String()] = &groups[i]
	}
	for i, s := range series {
		group := by[found[i].Labels.String()]
		if group == nil {
			continue
		}
		left := group.Values
		for _, p := range s.Points {
			var best *store.Value
			for len(left) > 0 && left[0].Time <= p.Timestamp {
				if v := &left[0]; v.Time > p.Timestamp-step && (best == nil || v.Value > best.Value) {
					best = v
				}
				left = left[1:]
			}
			if best != nil && best.Identified() {
				p.Exemplars = []*typesv1.Exemplar{exemplar(group.Exemplar(best))}
			}
		}
	}
	return nil
}

func exemplar(e store.Exemplar) *typesv1.Exemplar {
	out := &typesv1.Exemplar{Timestamp: e.Time, Value: e.Value, Labels: pairs(e.Labels)}
	if e.Profile != 0 {
		out.ProfileId = e.Profile.String()
	}
	if e.Span != 0 {
		out.SpanId = e.Span.String()
	}
	if e.Trace != (store.TraceID{}) {
		out.TraceId = e.Trace.String()
	}
	return out
}
