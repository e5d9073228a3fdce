package dataframe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// A Series is one line of a chart.
type Series struct {
	Labels data.Labels
	Name   string // name of the value, such as cpu; the line's name if there are no labels
	Points []Point
}

// A Point is the value of a step, at the time of the step's end.
type Point struct {
	Time  int64 // Unix milliseconds
	Value float64
}

// TimeSeries is one frame per series, in the shape that panels, transformations and
// alert rules read (time series, multi). Missing points are gaps: the panel breaks the
// line where points are more than the time field's step apart.
func TimeSeries(series []Series, unit Unit, step time.Duration) data.Frames {
	frames := make(data.Frames, len(series))
	for i, s := range series {
		times, numbers := make([]time.Time, len(s.Points)), make([]float64, len(s.Points))
		for j, p := range s.Points {
			times[j], numbers[j] = time.UnixMilli(p.Time).UTC(), p.Value
		}
		frames[i] = data.NewFrame("",
			data.NewField("time", nil, times).SetConfig(&data.FieldConfig{Interval: float64(step.Milliseconds())}),
			data.NewField(s.Name, s.Labels, numbers).SetConfig(&data.FieldConfig{Unit: unit.ID, DisplayNameFromDS: lineName(s)}),
		)
		frames[i].Meta = &data.FrameMeta{
			Type:                   data.FrameTypeTimeSeriesMulti,
			TypeVersion:            data.FrameTypeVersion{0, 1},
			PreferredVisualization: data.VisTypeGraph,
		}
	}
	return frames
}

// lineName returns a line's name for the legend: the value of its only label, or all
// labels, or the series' name if it has none.
func lineName(s Series) string {
	if len(s.Labels) == 0 {
		return s.Name
	}
	pairs := make([]string, 0, len(s.Labels))
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		if len(s.Labels) == 1 && s.Labels[name] != "" {
			return s.Labels[name]
		}
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, s.Labels[name]))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}
