package query

import (
	"context"
	"slices"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
)

// fillZeros adds points of value 0 to a series in steps for which the server has profiles
// of the type: the program did nothing that was sampled, or did not run. Steps without
// any profile stay gaps, since nothing was measured. Panels get them between the first
// and the last point of the series. Alert rules get them in the whole time range (whole):
// the average over it would otherwise be that of the few steps in which a short-lived
// program ran.
//
// It queries the server for the steps with profiles only if the series themselves do not
// show them.
func (r *Runner) fillZeros(ctx context.Context, m *Model, g grid, series []dataframe.Series, whole bool) error {
	measured := make(map[int64]bool)
	for _, s := range series {
		mark(measured, s)
	}
	if !slices.ContainsFunc(series, func(s dataframe.Series) bool { return hasGap(s, g, nil, whole) }) {
		return nil
	}
	if m.LabelSelector != "{}" && slices.ContainsFunc(series, func(s dataframe.Series) bool { return hasGap(s, g, measured, whole) }) {
		all, err := r.Client.Series(ctx, client.SeriesRequest{
			Selection: client.Selection{Type: m.profileType, Selector: "{}", Start: g.start, End: g.end}, StepMs: g.step,
		})
		if err != nil {
			return err
		}
		for _, s := range all {
			mark(measured, newLine(s, g, 1, ""))
		}
	}
	for i := range series {
		series[i].Points = filled(series[i].Points, g, measured, whole)
	}
	return nil
}

func mark(measured map[int64]bool, s dataframe.Series) {
	for _, p := range s.Points {
		measured[p.Time] = true
	}
}

// span returns the first and the last step that a series may have points in.
func span(points []dataframe.Point, g grid, whole bool) (first, last int64) {
	if whole || len(points) == 0 {
		return g.start, g.end
	}
	return points[0].Time, points[len(points)-1].Time
}

// hasGap reports whether a step of the series has no point and is not known to have
// profiles.
func hasGap(s dataframe.Series, g grid, known map[int64]bool, whole bool) bool {
	first, last := span(s.Points, g, whole)
	i := 0
	for t := first; t <= last; t += g.step {
		for i < len(s.Points) && s.Points[i].Time < t {
			i++
		}
		if (i == len(s.Points) || s.Points[i].Time != t) && !known[t] {
			return true
		}
	}
	return false
}

// filled returns the points with a zero in each measured step that has none.
func filled(points []dataframe.Point, g grid, measured map[int64]bool, whole bool) []dataframe.Point {
	first, last := span(points, g, whole)
	out := make([]dataframe.Point, 0, len(points))
	i := 0
	for t := first; t <= last; t += g.step {
		for i < len(points) && points[i].Time < t {
			out = append(out, points[i])
			i++
		}
		if (i == len(points) || points[i].Time != t) && measured[t] {
			out = append(out, dataframe.Point{Time: t})
		}
	}
	return append(out, points[i:]...)
}
