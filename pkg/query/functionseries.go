package query

import (
	"context"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
)

// functionLabel is the label of a series that has its function. A label of the profiles
// with this name is not shown.
const functionLabel = "function"

// functionSeries answers the query type functionSeries: one series for each function and
// group, with the values of series. Functions that the query does not name are the largest
// of its time range.
func (r *Runner) functionSeries(ctx context.Context, m *Model, q backend.DataQuery, forAlert bool) (data.Frames, error) {
	g := newGrid(q.TimeRange, r.now(), q.Interval, m.Step.duration(), r.MinStep)
	unit := seriesUnit(m, g)
	var series []dataframe.Series
	if !g.empty() {
		request := client.FunctionSeriesRequest{
			Selection: client.Selection{Type: m.profileType, Selector: m.LabelSelector, Start: g.start, End: g.end},
			Functions: m.Functions, Own: m.Sort == SortOwn, GroupBy: m.GroupBy, StepMs: g.step,
		}
		if m.Limit != nil {
			request.Top = *m.Limit
		}
		found, err := r.Client.FunctionSeries(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			line := newLine(s.Series, g, unit.Divisor, m.profileType.SampleType)
			if len(line.Points) == 0 {
				continue
			}
			if line.Labels == nil {
				line.Labels = data.Labels{}
			}
			line.Labels[functionLabel] = s.Function
			series = append(series, line)
		}
	}
	return r.seriesFrames(ctx, m, q, g, unit, series, forAlert)
}
