package client

import (
	"context"
	"slices"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// A SeriesRequest asks for points over time. The point at time t covers
// (t - Step, t], t running from Start to End.
type SeriesRequest struct {
	Selection
	GroupBy []string
	StepMs  int64
	Limit   *int64 // number of series, the largest first; nil for all
	Average bool   // average of the profiles in a step instead of their sum
}

// Series returns one series per group, with the points of steps that have profiles.
// Points that may still grow are left out, if the server knows which do.
func (c *Client) Series(ctx context.Context, r SeriesRequest) ([]*typesv1.Series, error) {
	start := r.Start
	// The first point of Pyroscope has the profiles at both ends of its step, of which SDKs
	// that send at whole intervals have one each.
	r.Start -= r.StepMs
	found, err := c.selectSeries(ctx, r)
	if err != nil {
		return nil, err
	}
	if t, ok := offGrid(found, start, r.StepMs); ok {
		// Pyroscope begins at its oldest profile if that is later than the start.
		if r.Start = start + (t-start+r.StepMs-1)/r.StepMs*r.StepMs; r.Start > r.End {
			return nil, nil
		}
		if found, err = c.selectSeries(ctx, r); err != nil {
			return nil, err
		}
	}
	for _, s := range found {
		s.Points = slices.DeleteFunc(s.Points, func(p *typesv1.Point) bool { return p.Timestamp < start })
	}
	return slices.DeleteFunc(found, func(s *typesv1.Series) bool { return len(s.Points) == 0 }), nil
}

// offGrid returns the time of a point that is at no step.
func offGrid(series []*typesv1.Series, start, step int64) (t int64, found bool) {
	for _, s := range series {
		for _, p := range s.Points {
			if (p.Timestamp-start)%step != 0 {
				return p.Timestamp, true
			}
		}
	}
	return 0, false
}

// A Total is the value of a group in a whole selection.
type Total struct {
	Labels []*typesv1.LabelPair
	Value  float64
}

// Totals returns the value of each group that has profiles in the selection, with the
// fields of Series, whose step is the length of the selection.
func (c *Client) Totals(ctx context.Context, r SeriesRequest) ([]Total, error) {
	r.StepMs = max(r.End-r.Start, 1000)
	found, err := c.selectSeries(ctx, r)
	if err != nil {
		return nil, err
	}
	atEnd := func(s *typesv1.Series) (p *typesv1.Point, ok bool) {
		for _, p := range s.Points { // the first of two has what was before the selection
			if p.Timestamp >= r.End-1 {
				return p, true
			}
		}
		return nil, false
	}
	if !slices.ContainsFunc(found, func(s *typesv1.Series) bool { _, ok := atEnd(s); return ok }) && len(found) > 0 {
		// Pyroscope begins at its oldest profile, if that is later than the start, and leaves
		// the last step out that is then incomplete.
		r.Start = r.End - 1
		if found, err = c.selectSeries(ctx, r); err != nil {
			return nil, err
		}
	}
	var out []Total
	for _, s := range found {
		if p, ok := atEnd(s); ok {
			out = append(out, Total{s.Labels, p.Value})
		}
	}
	return out, nil
}

func (c *Client) selectSeries(ctx context.Context, r SeriesRequest) ([]*typesv1.Series, error) {
	aggregation := typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_SUM
	if r.Average {
		aggregation = typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE
	}
	req := connect.NewRequest(&querierv1.SelectSeriesRequest{
		ProfileTypeID: r.Type.String(), LabelSelector: r.Selector,
		Start: r.Start, End: r.End, Step: float64(r.StepMs) / 1000,
		GroupBy: r.GroupBy, Limit: r.Limit, Aggregation: &aggregation,
	})
	req.Header().Set(profile.HeaderComplete, "true")
	resp, err := c.querier.SelectSeries(ctx, req)
	if err != nil {
		return nil, c.wrap("series", err)
	}
	return resp.Msg.Series, nil
}
