package dataframe

import (
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// An Annotation is something that happened at a time, or from a time to another, in Unix
// milliseconds.
type Annotation struct {
	Start, End  int64
	Title, Text string
	Tags        []string // without commas
}

// Annotations is the frame of annotations, with the field names that Grafana looks for:
// time, timeEnd, title, text and tags, which are divided by commas.
func Annotations(as []Annotation) *data.Frame {
	starts, ends := make([]time.Time, len(as)), make([]time.Time, len(as))
	titles, texts, tags := make([]string, len(as)), make([]string, len(as)), make([]string, len(as))
	for i, a := range as {
		starts[i], ends[i] = time.UnixMilli(a.Start).UTC(), time.UnixMilli(a.End).UTC()
		titles[i], texts[i], tags[i] = a.Title, a.Text, strings.Join(a.Tags, ",")
	}
	f := data.NewFrame("",
		data.NewField("time", nil, starts), data.NewField("timeEnd", nil, ends),
		data.NewField("title", nil, titles), data.NewField("text", nil, texts), data.NewField("tags", nil, tags),
	)
	f.Meta = &data.FrameMeta{DataTopic: data.DataTopicAnnotations}
	return f
}
