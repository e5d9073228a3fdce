package query

import (
	"context"
	"slices"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
)

// fillZeros adds points of value 0 to a series in steps between its first and last point
// for which the server has profiles of the type: the program did nothing that was
// sampled. Steps without any profile stay gaps, since nothing was measured.
//
// It queries the server for the steps with profiles only if the series themselves do not
// show them.
func (r *Runner) fillZeros(ctx context.Context, m *Model, g grid, series []dataframe.Series) error {
	measured := make(map[int64]bool)
	for _, s := range series {
		mark(measured, s)
	}
	if !slices.ContainsFunc(series, func(s dataframe.Series) bool { return hasGap(s, g, nil) }) {
		return nil
	}
	if m.LabelSelector != "{}" && slices.ContainsFunc(series, func(s dataframe.Series) bool { return hasGap(s, g, measured) }) {
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
		series[i].Points = filled(series[i].Points, g, measured)
	}
	return nil
}

func mark(measured map[int64]bool, s dataframe.Series) {
	for _, p := range s.Points {
		measured[p.Time] = true
	}
}

// hasGap reports whether a step within the series has no point and is not known to have
// profiles.
func hasGap(s dataframe.Series, g grid, known map[int64]bool) bool {
	for i := 1; i < len(s.Points); i++ {
		for t := s.Points[i-1].Time + g.step; t < s.Points[i].Time; t += g.step {
			if !known[t] {
				return true
			}
		}
	}
	return false
}

// filled returns the points with a zero in each measured step between them.
func filled(points []dataframe.Point, g grid, measured map[int64]bool) []dataframe.Point {
	out := make([]dataframe.Point, 0, len(points))
	for i, p := range points {
		if i > 0 {
			for t := points[i-1].Time + g.step; t < p.Time; t += g.step {
				if measured[t] {
					out = append(out, dataframe.Point{Time: t})
				}
			}
		}
		out = append(out, p)
	}
	return out
}
