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
	Name   string // of the value, such as cpu; the line's name where there are no labels
	Points []Point
}

// A Point is a value at a time: that of the step that ends there.
type Point struct {
	Time  int64 // Unix milliseconds
	Value float64
}

// TimeSeries is one frame per series, in the shape that panels, transformations
// and alert rules read (time series, multi). Points that are not there are
// gaps: the step on the time field tells the panel where to break the line.
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

// lineName is what a legend shows: the value of the one label, all labels of
// several, else the series' name.
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
