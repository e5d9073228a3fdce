package server

import (
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// SelectSeries sums the selected profiles by step and group. A point at t
// covers (t-step, t], the interval of a Prometheus rate() evaluated at t.
func (q *querier) SelectSeries(ctx context.Context, req *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	m := req.Msg
	sel, err := q.limits.selection(m.ProfileTypeID, m.LabelSelector, m.Start, m.End)
	if err != nil {
		return nil, invalid(err)
	}
	r := store.SeriesRequest{Selection: sel, GroupBy: m.GroupBy}
	r.Average = m.GetAggregation() == typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE
	if r.Step, err = q.limits.step(m.Step, sel.Start, sel.End); err != nil {
		return nil, invalid(err)
	}
	if r.Limit, err = limit(m.GetLimit()); err != nil {
		return nil, invalid(err)
	}
	if r.Stack, err = callSite(m.StackTraceSelector); err != nil {
		return nil, invalid(err)
	}
	if err := errors.Join(
		oneOf("aggregation", m.GetAggregation(), typesv1.TimeSeriesAggregationType_name),
		oneOf("exemplar_type", m.ExemplarType, typesv1.ExemplarType_name),
	); err != nil {
		return nil, invalid(err)
	}
	found, err := q.store.Points(ctx, r)
	if err != nil {
		return nil, code(err)
	}
	if len(found) == 0 {
		return connect.NewResponse(&querierv1.SelectSeriesResponse{}), q.checkType(ctx, "profile_typeID", sel.Type)
	}
	if req.Header().Get(profile.HeaderComplete) == "true" && !r.Average {
		found = complete(found)
	}
	resp := &querierv1.SelectSeriesResponse{Series: make([]*typesv1.Series, len(found))}
	for i, s := range found {
		points := make([]typesv1.Point, len(s.Points))
		out := &typesv1.Series{Labels: pairs(s.Labels), Points: make([]*typesv1.Point, len(points))}
		for j, p := range s.Points {
			points[j].Timestamp, points[j].Value = p.Time, p.Value
			out.Points[j] = &points[j]
		}
		resp.Series[i] = out
	}
	if m.ExemplarType > typesv1.ExemplarType_EXEMPLAR_TYPE_NONE {
		if err := q.pointExemplars(ctx, r, m.ExemplarType, found, resp.Series); err != nil {
			return nil, code(err)
		}
	}
	return connect.NewResponse(resp), nil
}

// complete drops points that may still grow, and series that have no others.
func complete(in []store.Series) []store.Series {
	for i := range in {
		if s := &in[i]; s.Until != 0 {
			s.Points = slices.DeleteFunc(s.Points, func(p store.Point) bool { return p.Time > s.Until })
		}
	}
	return slices.DeleteFunc(in, func(s store.Series) bool { return len(s.Points) == 0 })
}
