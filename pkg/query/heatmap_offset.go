package query

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
)

// maxOffsetColumns bounds the columns of a heat map by offset, each of which has up to 50
// cells.
const maxOffsetColumns = 2000

// offsetHeatmap has a row for each part of a second, the first at the bottom. A cell is
// the rate in its part of the seconds of a step, so that the mean of a column's cells is the
// point of the series.
func (r *Runner) offsetHeatmap(ctx context.Context, m *Model, q backend.DataQuery) (*data.Frame, error) {
	wanted := max(m.Step.duration(), q.TimeRange.To.Sub(q.TimeRange.From)/maxOffsetColumns)
	// Profiles arrive MinStep after their first sample, but have its time.
	g := newGrid(q.TimeRange, r.now().Add(-max(r.MinStep-time.Second, 0)), q.Interval, wanted, time.Second)
	unit := seriesUnit(m, g)
	cell := unit.Divisor / float64(m.Rows)
	var lines []dataframe.Series
	var notices []string
	if g.empty() {
		notices = append(notices, incompleteNotice(g))
	} else {
		found, err := r.Client.Offsets(ctx, client.OffsetsRequest{
			Selection: client.Selection{Type: m.profileType, Selector: m.LabelSelector, Start: g.start, End: g.end},
			StepMs:    g.step, Rows: m.Rows,
		})
		if err != nil {
			return nil, err
		}
		switch {
		case found.Timed == 0 && found.Untimed > 0:
			return nil, client.Invalidf("heatmap", "the profiles of %s have no times of single samples, so there are no offsets within the second; choose rows by label, profiles of Flameline's eBPF source with ebpf.sample_times, or those of JFR and OTLP with storage.sample_times", m.ProfileTypeID)
		case found.Timed == 0:
			notices = append(notices, emptyNotice(m, q.TimeRange))
		case found.Untimed > 0:
			notices = append(notices, fmt.Sprintf("%d of %d profiles have no times of single samples and are not shown.", found.Untimed, found.Timed+found.Untimed))
		}
		if found.Since > 0 {
			notices = append(notices, fmt.Sprintf("Of the time up to %s the server keeps sums of profiles alone, so there are no offsets.", time.UnixMilli(found.Since).UTC().Format(time.RFC3339)))
		}
		for _, c := range found.Columns {
			if c.Time < g.start || c.Time > g.end || int64(len(c.Values)) != m.Rows {
				return nil, fmt.Errorf("heat map by offset: the server's column at %d has %d values, want %d between %d and %d", c.Time, len(c.Values), m.Rows, g.start, g.end)
			}
		}
		for row := range int(m.Rows) {
			line := dataframe.Series{Name: offsetName(row, int(m.Rows))}
			for _, c := range found.Columns {
				line.Points = append(line.Points, dataframe.Point{Time: c.Time, Value: float64(c.Values[row]) / cell})
			}
			lines = append(lines, line)
		}
	}
	if g.step > time.Second.Milliseconds() {
		notices = append(notices, fmt.Sprintf("A column is %s: a cell is the average over the same part of all its seconds. Zoom in to see single seconds.", g.duration()))
	}
	frame := r.heatmapFrame(m, lines, g, unit)
	frame.Meta.ExecutedQueryString = m.describe() + " by offset, step " + g.duration().String()
	for _, text := range notices {
		frame.AppendNotices(info(text))
	}
	return frame, nil
}

// offsetName is where a row of a second begins, such as "0.040 s".
func offsetName(row, rows int) string {
	return strconv.FormatFloat(float64(row)/float64(rows), 'f', 2, 64) + " s"
}
