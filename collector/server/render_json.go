package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// A flamebearerProfile is Pyroscope's JSON of a flame graph with its timeline,
// version 1, as pkg/og/structs/flamebearer of Pyroscope describes it.
type flamebearerProfile struct {
	Version     int                 `json:"version"`
	Flamebearer flamebearer         `json:"flamebearer"`
	Metadata    flamebearerMetadata `json:"metadata"`
	// Timeline is null in a diff, Groups if the request asks for none.
	Timeline *flamebearerTimeline            `json:"timeline"`
	Groups   map[string]*flamebearerTimeline `json:"groups"`
	// Heatmap is always null, as in Pyroscope.
	Heatmap    *struct{} `json:"heatmap"`
	LeftTicks  int64     `json:"leftTicks,omitempty"`
	RightTicks int64     `json:"rightTicks,omitempty"`
}

// A flamebearer is a profile.Flamegraph or a profile.FlamegraphDiff.
type flamebearer struct {
	Names    []string  `json:"names"`
	Levels   [][]int64 `json:"levels"`
	NumTicks int64     `json:"numTicks"`
	MaxSelf  int64     `json:"maxSelf"`
}

type flamebearerMetadata struct {
	// Format is single or, of a diff, double.
	Format  string `json:"format"`
	SpyName string `json:"spyName"`
	// SampleRate is the number of Units per second, for units that are samples of time.
	SampleRate int    `json:"sampleRate"`
	Units      string `json:"units"`
	Name       string `json:"name"`
}

// A flamebearerTimeline has one value per step of DurationDelta seconds, from StartTime,
// in Unix seconds.
type flamebearerTimeline struct {
	StartTime     int64         `json:"startTime"`
	Samples       []int64       `json:"samples"`
	DurationDelta int64         `json:"durationDelta"`
	Watermarks    map[int]int64 `json:"watermarks"`
}

// flamebearerOf multiplies the tree's values by viewerScale.
func flamebearerOf(t *profile.Tree, ty profile.Type) (flamebearerProfile, error) {
	scale := viewerScale(ty)
	if t.Total() > math.MaxInt64/scale {
		return flamebearerProfile{}, tooLarge(ty)
	}
	for i := range t.Nodes {
		t.Nodes[i].Self *= scale
		t.Nodes[i].Total *= scale
	}
	f := t.Flamegraph()
	return newFlamebearer(flamebearer{f.Names, f.Levels, f.Total, f.MaxSelf}, ty, "single"), nil
}

// flamebearerOfDiff multiplies the tree's values by viewerScale.
func flamebearerOfDiff(t *profile.DiffTree, ty profile.Type) (flamebearerProfile, error) {
	scale := viewerScale(ty)
	if max(t.Nodes[0].Total, t.Nodes[0].TotalRight) > math.MaxInt64/2/scale { // both are added up
		return flamebearerProfile{}, tooLarge(ty)
	}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		for _, v := range []*int64{&n.Self, &n.Total, &n.SelfRight, &n.TotalRight} {
			*v *= scale
		}
	}
	f := t.Flamegraph()
	p := newFlamebearer(flamebearer{f.Names, f.Levels, f.Total, f.MaxSelf}, ty, "double")
	p.LeftTicks, p.RightTicks = f.LeftTicks, f.RightTicks
	return p, nil
}

func tooLarge(t profile.Type) error {
	return invalid(fmt.Errorf("query: the values of %s are too large for this format", t))
}

// viewerScale returns what values of a type are multiplied by, so that they have a unit that
// metadataOf can give: bytes of KiB, or seconds of minutes.
func viewerScale(t profile.Type) int64 {
	switch d, size := profile.ParseUnit(t.SampleUnit); {
	case d == profile.Bytes:
		return int64(size)
	case d == profile.Time && size > 1e9:
		return int64(size / 1e9)
	}
	return 1
}

func newFlamebearer(f flamebearer, ty profile.Type, format string) flamebearerProfile {
	return flamebearerProfile{Version: 1, Flamebearer: f, Metadata: metadataOf(ty, format)}
}

// metadataOf returns units that Pyroscope's viewers know (getFormatter of its flame
// graph). "samples" means time, of which SampleRate samples are a second. Viewers take
// an unknown unit for samples, so everything that is neither time nor bytes gets the
// unit "objects".
func metadataOf(t profile.Type, format string) flamebearerMetadata {
	m := flamebearerMetadata{Format: format, SampleRate: 100, Units: "objects", Name: t.SampleType}
	switch d, size := profile.ParseUnit(t.SampleUnit); {
	case d == profile.Time && size == 1 && isLock(t):
		m.Units = "lock_nanoseconds"
	case d == profile.Time:
		m.Units, m.SampleRate = "samples", int(1e9/min(size, 1e9))
	case d == profile.Bytes:
		m.Units = "bytes"
	case isLock(t):
		m.Units = "lock_samples"
	case strings.HasPrefix(t.SampleType, "exception"), t.Name == "exceptions":
		m.Units = "exceptions"
	}
	return m
}

// isLock reports whether a type measures threads waiting for each other.
func isLock(t profile.Type) bool {
	return t.Name == "mutex" || t.Name == "block" || t.SampleType == "contentions" || strings.HasPrefix(t.SampleType, "lock")
}

func (p flamebearerProfile) download() *download {
	return &download{contentType: "application/json", write: func(w io.Writer) error { return json.NewEncoder(w).Encode(p) }}
}

// timelineSteps are the possible steps of a timeline, in seconds.
var timelineSteps = []int64{15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400}

// timelinePoints is the approximate maximum of points in a timeline.
const timelinePoints = 1500

// timelineStep returns the step, in seconds, that comes closest to timelinePoints
// points.
func (l Limits) timelineStep(from, until time.Time) int64 {
	seconds := until.Sub(from).Seconds()
	for i, step := range timelineSteps[:len(timelineSteps)-1] {
		few := l.MaxPoints <= 0 || seconds/float64(step)+2 <= float64(l.MaxPoints)
		if few && seconds/timelinePoints <= float64(step+timelineSteps[i+1])/2 {
			return step
		}
	}
	return timelineSteps[len(timelineSteps)-1]
}

// sumOf adds two values that are not negative; a sum that overflows becomes
// math.MaxInt64.
func sumOf(a int64, b float64) int64 {
	if b >= 1<<63 || a > math.MaxInt64-int64(b) {
		return math.MaxInt64
	}
	return a + int64(b)
}

// timelines adds the timeline of the selection and, if the request asks for groups, one
// per group. It has whole steps: from the step that contains from, to the last one that
// begins before until.
func (r *renderer) timelines(ctx context.Context, p *flamebearerProfile, q renderQuery, v url.Values) error {
	step := r.limits.timelineStep(q.from, q.until)
	first := q.Start / (step * 1000) // in steps
	n := (q.End-1)/(step*1000) - first + 1
	req := store.SeriesRequest{Selection: q.Selection, Step: time.Duration(step) * time.Second}
	req.MaxNodes = 0
	// A point of Points covers the time after the previous point up to itself, (t-step,
	// t]. A timeline's step is [t, t+step) by the profiles' start, so its point is 1 ms
	// before the step's end.
	req.Start, req.End = (first+1)*step*1000-1, (first+n)*step*1000-1
	switch _, a := renderAggregation.of(v); a {
	case "", "sum":
	case "avg":
		req.Average = true
	default:
		return invalid(fmt.Errorf("aggregation: %q is not one of sum, avg", a))
	}
	scale := float64(viewerScale(q.Type))
	timeline := func(s []store.Series) *flamebearerTimeline {
		t := &flamebearerTimeline{StartTime: first * step, DurationDelta: step, Samples: make([]int64, n)}
		for _, s := range s {
			for _, p := range s.Points {
				at := &t.Samples[(p.Time+1)/(step*1000)-first-1]
				*at = sumOf(*at, p.Value*scale)
			}
		}
		return t
	}
	all, err := r.store.Points(ctx, req)
	if err != nil {
		return code(err)
	}
	p.Timeline = timeline(all)
	// As in Pyroscope, only the first label groups.
	if _, label := renderGroup.of(v); label != "" {
		req.GroupBy = []string{label}
		groups, err := r.store.Points(ctx, req)
		if err != nil {
			return code(err)
		}
		p.Groups = make(map[string]*flamebearerTimeline, len(groups))
		for i, g := range groups {
			key := g.Labels.Get(label)
			if key == "" {
				key = "*"
			}
			p.Groups[key] = timeline(groups[i : i+1])
		}
	}
	return nil
}
