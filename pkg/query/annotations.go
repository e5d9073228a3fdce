package query

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	// maxAnnotations bounds the annotations of a query: more hide the chart.
	maxAnnotations = 1000
	// annotationStep is the smallest step of annotations: values that are further apart
	// have annotations of their own.
	annotationStep = time.Second
)

// annotationLabels are the labels that annotations have if the query names none.
var annotationLabels = []string{"service_name", "pod", "container_id", "comm", "node"}

// annotations answers the query type annotations: one for each time at which profiles
// of the type have a value, such as the kills of oom:kills:count::. Steps with values
// that follow each other are one annotation of a region.
func (r *Runner) annotations(ctx context.Context, m *Model, tr backend.TimeRange) (data.Frames, error) {
	g := newGrid(tr, r.now(), 0, m.Step.duration(), annotationStep)
	groupBy := m.GroupBy
	if len(groupBy) == 0 {
		groupBy = annotationLabels
	}
	var all []dataframe.Annotation
	if !g.empty() {
		found, err := r.Client.Series(ctx, client.SeriesRequest{
			Selection: client.Selection{Type: m.profileType, Selector: m.LabelSelector, Start: g.start, End: g.end},
			GroupBy:   groupBy, StepMs: g.step, Limit: m.Limit, Average: !m.profileType.Cumulative(),
		})
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			line := newLine(s, g, 1, m.profileType.SampleType)
			all = append(all, annotationsOf(line, g, m.profileType)...)
		}
	}
	slices.SortStableFunc(all, func(a, b dataframe.Annotation) int { return cmp.Compare(a.Start, b.Start) })
	count := len(all)
	all = all[max(0, count-maxAnnotations):]
	frame := dataframe.Annotations(all)
	frame.Meta.ExecutedQueryString = m.describe() + " step " + g.duration().String()
	if count > maxAnnotations {
		frame.AppendNotices(data.Notice{Severity: data.NoticeSeverityWarning, Text: fmt.Sprintf(
			"These are the last %d of %d annotations. Choose a shorter range, more label filters or a longer step.", maxAnnotations, count)})
	}
	return data.Frames{frame}, nil
}

// annotationsOf returns the annotations of one series.
func annotationsOf(line dataframe.Series, g grid, t profile.Type) []dataframe.Annotation {
	var labels []string
	for name, value := range line.Labels {
		if value != "" {
			labels = append(labels, name+"="+value)
		}
	}
	slices.Sort(labels)
	var out []dataframe.Annotation
	var sum float64
	end := func() {
		if len(out) > 0 {
			out[len(out)-1].Title = annotationTitle(t, sum)
		}
		sum = 0
	}
	for _, p := range line.Points {
		if p.Value <= 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End >= p.Time-g.step {
			out[n-1].End = p.Time
		} else {
			end()
			out = append(out, dataframe.Annotation{Start: p.Time - g.step, End: p.Time, Text: strings.Join(labels, "\n"), Tags: labels})
		}
		sum += p.Value
	}
	end()
	return out
}

// annotationTitle is what an annotation is about, such as "oom kills: 2". The value is in
// the type's unit.
func annotationTitle(t profile.Type, value float64) string {
	name := t.Name
	if t.SampleType != name {
		name += " " + t.SampleType
	}
	return name + ": " + profile.FormatValue(int64(math.Round(value)), t.SampleUnit)
}
