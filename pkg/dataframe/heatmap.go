package dataframe

import (
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// frameTypeHeatmapRows is Grafana's heat map with a time field and one number field for
// each row, from the bottom to the top. The names of the fields are the y axis.
const frameTypeHeatmapRows data.FrameType = "heatmap-rows"

// heatmapPanel is the panel that Explore shows such a frame with.
const heatmapPanel = "heatmap"

// A HeatmapRow is a row of cells, one for each column.
type HeatmapRow struct {
	Labels data.Labels
	Name   string
	Cells  []*float64 // nil where nothing was measured
	Link   string     // of the cells, as Grafana's data links; empty for none
}

// Heatmap is a frame of rows, the lowest first, of which there is one at least. times are
// the ends of the columns in Unix milliseconds, step is their width.
func Heatmap(times []int64, rows []HeatmapRow, unit Unit, step time.Duration) *data.Frame {
	ends := make([]time.Time, len(times))
	for i, t := range times {
		ends[i] = time.UnixMilli(t).UTC()
	}
	frame := data.NewFrame("heat map", data.NewField("time", nil, ends).SetConfig(&data.FieldConfig{Interval: float64(step.Milliseconds())}))
	for _, r := range rows {
		config := &data.FieldConfig{Unit: unit.ID, DisplayNameFromDS: lineName(Series{Labels: r.Labels, Name: r.Name})}
		if r.Link != "" {
			config.Links = []data.DataLink{{Title: "Flame graph of this step", URL: r.Link, TargetBlank: true}}
		}
		frame.Fields = append(frame.Fields, data.NewField(r.Name, r.Labels, r.Cells).SetConfig(config))
	}
	frame.Meta = &data.FrameMeta{Type: frameTypeHeatmapRows, PreferredVisualizationPluginID: heatmapPanel}
	return frame
}
