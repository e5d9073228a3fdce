package query

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/pkg/dataframe"
)

// foreignNotices name the fields of a query of Grafana's Pyroscope data source that have no
// effect here, as far as they are set.
func foreignNotices(m *Model) (out []data.Notice) {
	if m.IncludeExemplars {
		out = append(out, info("The query asks for exemplars (includeExemplars), as Grafana's Pyroscope data source shows them. This data source shows none."))
	}
	if m.IncludeHeatmap {
		out = append(out, info("The query asks for a heat map of the values of profiles or spans (includeHeatmap), as Grafana's Pyroscope data source shows it. This data source shows the series; the query type heatmap has other heat maps."))
	}
	if len(m.ProfileIDSelector) == 0 {
		return out
	}
	switch {
	case m.QueryType != TypeProfile && m.QueryType != TypeBoth:
		out = append(out, warning("The result is of all profiles: the profile IDs (profileIdSelector) apply only to flame graphs of one time range."))
	case len(m.SpanSelector) > 0:
		out = append(out, warning("The flame graph is of the spans in all profiles: the profile IDs (profileIdSelector) do not apply to flame graphs of spans."))
	case m.QueryType == TypeBoth:
		out = append(out, warning("The series is of all profiles: the profile IDs (profileIdSelector) apply only to the flame graph."))
	}
	return out
}

// Keys of what a Pyroscope server notes on profiles as they come.
const (
	noteThrottled = "pyroscope.ingest.throttled"
	noteSampled   = "pyroscope.ingest.sampled"
)

// ingestAnnotations returns the annotations of what a Pyroscope server noted on profiles of
// the series, such as that its limit was reached and it dropped others: in one frame, or
// none if there are none. Equal notes of successive points are one annotation.
func ingestAnnotations(series []*typesv1.Series, g grid) data.Frames {
	last := map[string]int{} // by text: the index of its last annotation
	var all []dataframe.Annotation
	for _, s := range series {
		for _, p := range s.Points {
			if p.Timestamp < g.start || p.Timestamp > g.end {
				continue
			}
			for _, note := range p.Annotations {
				text, end := ingestNote(note)
				if text == "" {
					continue
				}
				a := dataframe.Annotation{Start: p.Timestamp, End: max(p.Timestamp, end), Title: "Pyroscope", Text: text}
				if i, known := last[text]; known && all[i].Start <= a.Start && a.Start <= all[i].End+g.step {
					all[i].End = max(all[i].End, a.End)
					continue
				}
				last[text] = len(all)
				all = append(all, a)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b dataframe.Annotation) int { return cmp.Compare(a.Start, b.Start) })
	return data.Frames{dataframe.Annotations(all[max(0, len(all)-maxAnnotations):])}
}

// ingestNote returns the text of a note, and until when it holds (Unix milliseconds; 0 for
// the time of its profile). The text is empty if the note says that nothing was left out.
func ingestNote(note *typesv1.ProfileAnnotation) (text string, end int64) {
	var value struct {
		Body struct {
			PeriodType     string  `json:"periodType"`
			PeriodLimitMB  float64 `json:"periodLimitMb"`
			LimitResetTime int64   `json:"limitResetTime"` // Unix seconds
			Source         *struct {
				Probability float64 `json:"probability"`
			} `json:"source"`
		} `json:"body"`
	}
	err := json.Unmarshal([]byte(note.Value), &value)
	body := value.Body
	switch {
	case err == nil && note.Key == noteThrottled:
		return fmt.Sprintf("The server's limit of %g MiB per %s was reached; it keeps some profiles only.", body.PeriodLimitMB, body.PeriodType), body.LimitResetTime * 1000
	case err == nil && note.Key == noteSampled && body.Source != nil && body.Source.Probability >= 1:
		return "", 0
	case err == nil && note.Key == noteSampled && body.Source != nil:
		return fmt.Sprintf("The server keeps %.3g %% of the profiles.", 100*body.Source.Probability), 0
	}
	return fmt.Sprintf("%.100s: %.300s", note.Key, note.Value), 0
}
