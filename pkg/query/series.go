package query

import (
	"context"
	"fmt"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
)

// series answers the query type metrics: one series per group.
//
// Values of cumulative types are rates, in cores for CPU time: the sum of the step's
// profiles divided by the length of the step, which equals Prometheus' rate() of the
// same counter at the same time. Values of other types are the average of the step's
// profiles.
func (r *Runner) series(ctx context.Context, m *Model, q backend.DataQuery, forAlert bool) (data.Frames, error) {
	g := newGrid(q.TimeRange, r.now(), q.Interval, m.Step.duration(), r.MinStep)
	unit := seriesUnit(m, g)
	var found []*typesv1.Series
	if !g.empty() {
		var err error
		found, err = r.Client.Series(ctx, client.SeriesRequest{
			Selection: client.Selection{Type: m.profileType, Selector: m.LabelSelector, Start: g.start, End: g.end},
			GroupBy:   m.GroupBy, StepMs: g.step, Limit: m.Limit, Average: !m.profileType.Cumulative(),
		})
		if err != nil {
			return nil, err
		}
	}
	var series []dataframe.Series
	for _, s := range found {
		if line := newLine(s, g, unit.Divisor, m.profileType.SampleType); len(line.Points) > 0 {
			series = append(series, line)
		}
	}
	frames, err := r.seriesFrames(ctx, m, q, g, unit, series, forAlert)
	if err == nil && m.Annotations && !forAlert {
		frames = append(frames, ingestAnnotations(found, g)...)
	}
	return frames, err
}

// seriesUnit is the unit of a series: a rate for values that add up over time.
func seriesUnit(m *Model, g grid) dataframe.Unit {
	if !m.profileType.Cumulative() {
		return dataframe.Total(m.profileType)
	}
	unit := dataframe.Rate(m.profileType)
	unit.Divisor *= g.duration().Seconds()
	return unit
}

// seriesFrames returns the frames of series, with zeros where a program did nothing.
func (r *Runner) seriesFrames(
	ctx context.Context, m *Model, q backend.DataQuery, g grid, unit dataframe.Unit, series []dataframe.Series, forAlert bool,
) (data.Frames, error) {
	cumulative := m.profileType.Cumulative()
	var (
		notice string
		states []data.Notice
	)
	switch {
	case g.empty():
		notice = incompleteNotice(g)
	case len(series) == 0:
		notice = emptyNotice(m, q.TimeRange)
	case !cumulative:
		states = r.seriesStatesNotice(ctx, m)
	default:
		if err := r.fillZeros(ctx, m, g, series, forAlert); err != nil {
			return nil, err
		}
	}
	if len(series) == 0 {
		series = []dataframe.Series{{Name: m.profileType.SampleType}}
	}
	frames := dataframe.TimeSeries(series, unit, g.duration())
	for i, f := range frames {
		if r.Links.Series != nil && m.QueryType != TypeFunctionSeries && m.profileType.CPUTime() {
			value := f.Fields[len(f.Fields)-1]
			value.Config.Links = r.Links.Series(m, series[i].Labels)
		}
		f.Meta.ExecutedQueryString = m.describe() + " step " + g.duration().String()
		f.Meta.Custom = map[string]any{"profileTypeId": m.ProfileTypeID, "rateCalculated": cumulative}
	}
	if len(m.SpanSelector) > 0 {
		// The API cannot select series by span.
		frames[0].AppendNotices(data.Notice{Severity: data.NoticeSeverityWarning, Text: "The series has all samples: the span selector applies only to the flame graph."})
	}
	frames[0].AppendNotices(states...)
	if notice != "" {
		frames[0].AppendNotices(data.Notice{Severity: data.NoticeSeverityInfo, Text: notice})
	}
	return frames, nil
}

// incompleteNotice is the notice about a grid without a step.
func incompleteNotice(g grid) string {
	return fmt.Sprintf("No step of %s is complete in this range yet. Choose a longer range or a shorter step.", g.duration())
}

func newLine(s *typesv1.Series, g grid, divisor float64, name string) dataframe.Series {
	line := dataframe.Series{Name: name, Points: make([]dataframe.Point, 0, len(s.Points))}
	if len(s.Labels) > 0 {
		line.Labels = make(data.Labels, len(s.Labels))
		for _, l := range s.Labels {
			line.Labels[l.Name] = l.Value
		}
	}
	for _, p := range s.Points {
		if p.Timestamp >= g.start && p.Timestamp <= g.end {
			line.Points = append(line.Points, dataframe.Point{Time: p.Timestamp, Value: p.Value / divisor})
		}
	}
	return line
}
