package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
)

// flamebearer is what /pyroscope/render and /pyroscope/render-diff answer:
// Pyroscope's format for web pages and for files (pkg/og/structs/flamebearer).
type flamebearer struct {
	Version     int
	Flamebearer struct {
		Names    []string
		Levels   [][]int64
		NumTicks int64
		MaxSelf  int64
	}
	Metadata struct {
		Format, SpyName, Units, Name string
		SampleRate                   int64
	}
	Timeline              *timeline
	Groups                map[string]*timeline
	LeftTicks, RightTicks int64
}

type timeline struct {
	StartTime     int64 // s
	Samples       []int64
	DurationDelta int64
}

// render reduces an answer of /pyroscope/render. The timeline, in which servers differ,
// is included only for calls that are about it.
func render(answer map[string]any, base int64, withTimeline bool) ([]string, error) {
	raw, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	var f flamebearer
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	var levels []*querierv1.Level
	for _, l := range f.Flamebearer.Levels {
		levels = append(levels, &querierv1.Level{Values: l})
	}
	var out []string
	if f.Metadata.Format == "double" {
		out, err = flamegraphDiff(&querierv1.FlameGraphDiff{
			Names: f.Flamebearer.Names, Levels: levels, Total: f.Flamebearer.NumTicks, MaxSelf: f.Flamebearer.MaxSelf,
			LeftTicks: f.LeftTicks, RightTicks: f.RightTicks,
		})
	} else {
		out, err = flamegraph(&querierv1.FlameGraph{
			Names: f.Flamebearer.Names, Levels: levels, Total: f.Flamebearer.NumTicks, MaxSelf: f.Flamebearer.MaxSelf,
		})
	}
	if err != nil {
		return nil, err
	}
	out = append(out, fmt.Sprintf("version %d %+v", f.Version, f.Metadata))
	if !withTimeline {
		return out, nil
	}
	out = append(out, f.Timeline.lines("timeline", base)...)
	for _, g := range slices.Sorted(maps.Keys(f.Groups)) {
		out = append(out, f.Groups[g].lines("group "+g, base)...)
	}
	return out, nil
}

func (t *timeline) lines(name string, base int64) []string {
	if t == nil {
		return []string{name + ": none"}
	}
	var out []string
	for i, v := range t.Samples {
		out = append(out, fmt.Sprintf("%s %+d s: %d", name, t.StartTime+int64(i)*t.DurationDelta-base/1000, v))
	}
	return out
}
