package query

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// What the rows of a heat map are.
const (
	HeatmapLabel  = "label"  // values of labels
	HeatmapOffset = "offset" // parts of a second
)

// Defaults of heat maps.
const (
	defaultHeatmapLabel = "service_name"
	defaultHeatmapRows  = 20
	defaultOffsetRows   = 50
)

// offsetRows are the numbers of rows that a second may be divided into: the times of
// samples are kept to 20 ms.
var offsetRows = []int64{1, 2, 5, 10, 25, 50}

// checkHeatmap sets the defaults of a heat map, and returns an error for an invalid field.
func (m *Model) checkHeatmap() error {
	switch m.Heatmap {
	case "", HeatmapLabel:
		m.Heatmap = HeatmapLabel
		if len(m.GroupBy) == 0 {
			m.GroupBy = []string{defaultHeatmapLabel}
		}
	case HeatmapOffset:
		if m.Rows == 0 {
			m.Rows = defaultOffsetRows
		}
		if !slices.Contains(offsetRows, m.Rows) {
			return client.Invalidf("rows", "%d rows of a second are none of %s", m.Rows, strings.Trim(fmt.Sprint(offsetRows), "[]"))
		}
		if !m.profileType.Cumulative() {
			return client.Invalidf("heatmap", "%s describes an instant and does not add up over time, so it has no values by offset within the second; choose rows by label", m.profileType.SampleType)
		}
	default:
		return client.Invalidf("heatmap", "%q is neither %s nor %s", m.Heatmap, HeatmapLabel, HeatmapOffset)
	}
	return nil
}

// heatmap answers the query type heatmap.
func (r *Runner) heatmap(ctx context.Context, m *Model, q backend.DataQuery) (data.Frames, error) {
	answer := r.labelHeatmap
	if m.Heatmap == HeatmapOffset {
		answer = r.offsetHeatmap
	}
	frame, err := answer(ctx, m, q)
	if err != nil {
		return nil, err
	}
	frame.Meta.Custom = map[string]any{"profileTypeId": m.ProfileTypeID, "rateCalculated": m.profileType.Cumulative()}
	if len(m.SpanSelector) > 0 {
		frame.AppendNotices(warning("The heat map has all samples: the span selector applies only to the flame graph."))
	}
	return data.Frames{frame}, nil
}

// labelHeatmap has a row for each value of a label, the largest at the top. Its cells are
// the points of the series.
func (r *Runner) labelHeatmap(ctx context.Context, m *Model, q backend.DataQuery) (*data.Frame, error) {
	g := newGrid(q.TimeRange, r.now(), q.Interval, m.Step.duration(), r.MinStep)
	unit := seriesUnit(m, g)
	most := int64(defaultHeatmapRows)
	if m.Limit != nil {
		most = *m.Limit
	}
	var lines []dataframe.Series
	if !g.empty() {
		ask := min(most, math.MaxInt64-1) + 1 // whether there are more
		found, err := r.Client.Series(ctx, client.SeriesRequest{
			Selection: client.Selection{Type: m.profileType, Selector: m.LabelSelector, Start: g.start, End: g.end},
			GroupBy:   m.GroupBy, StepMs: g.step, Limit: &ask, Average: !m.profileType.Cumulative(),
		})
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			if line := newLine(s, g, unit.Divisor, m.profileType.SampleType); len(line.Points) > 0 {
				lines = append(lines, line)
			}
		}
	}
	var notices []string
	switch {
	case g.empty():
		notices = append(notices, incompleteNotice(g))
	case len(lines) == 0:
		notices = append(notices, emptyNotice(m, q.TimeRange))
	case int64(len(lines)) > most:
		lines = lines[:most]
		notices = append(notices, fmt.Sprintf("These are the %d largest rows by %s; set a limit to see more.", most, strings.Join(m.GroupBy, ", ")))
	}
	if m.profileType.Cumulative() {
		if err := r.fillZeros(ctx, m, g, lines, false); err != nil {
			return nil, err
		}
	}
	slices.Reverse(lines)
	frame := r.heatmapFrame(m, lines, g, unit)
	frame.Meta.ExecutedQueryString = m.describe() + " step " + g.duration().String()
	for _, text := range notices {
		frame.AppendNotices(info(text))
	}
	if len(lines) > 0 {
		frame.AppendNotices(r.seriesStatesNotice(ctx, m)...)
	}
	return frame, nil
}

// heatmapFrame returns the heat map of some series, with a column for each step from the
// first point to the last. A series without a point in a step is 0 there if another has
// one.
func (r *Runner) heatmapFrame(m *Model, lines []dataframe.Series, g grid, unit dataframe.Unit) *data.Frame {
	first, last := g.end+1, g.start-1
	measured := map[int64]bool{}
	for _, s := range lines {
		mark(measured, s)
	}
	for t := range measured {
		first, last = min(first, t), max(last, t)
	}
	var times []int64
	for t := first; t <= last; t += g.step {
		times = append(times, t)
	}
	if len(lines) == 0 {
		lines = []dataframe.Series{{Name: m.profileType.SampleType}} // the panel needs a row
	}
	rows := make([]dataframe.HeatmapRow, len(lines))
	for i, s := range lines {
		cells := make([]*float64, len(times))
		for k, t := range times {
			if measured[t] {
				cells[k] = new(float64)
			}
		}
		for _, p := range s.Points {
			*cells[(p.Time-first)/g.step] = p.Value
		}
		rows[i] = dataframe.HeatmapRow{Labels: s.Labels, Name: s.Name, Cells: cells, Link: r.cellLink(m, s.Labels, g)}
	}
	return dataframe.Heatmap(times, rows, unit, g.duration())
}

// cellLink returns the address of the flame graph of a cell's step and labels. Grafana
// puts in the time.
func (r *Runner) cellLink(m *Model, ls data.Labels, g grid) string {
	if r.DrilldownURL == "" {
		return ""
	}
	ms, _ := profile.ParseSelector(m.LabelSelector) // was checked
	for _, name := range slices.Sorted(maps.Keys(ls)) {
		ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, name, ls[name]))
	}
	values := url.Values{"profileTypeId": {m.ProfileTypeID}, "labelSelector": {profile.FormatSelector(ms)}, "step": {g.duration().String()}}
	return r.DrilldownURL + "?around=${__value.time}&" + values.Encode()
}
