package scrape

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// maxRows is the number of targets of a job that the page shows in each of its tables.
const maxRows = 500

//go:embed targets.html
var targetsHTML string

var targetsPage = template.Must(template.New("targets").Funcs(template.FuncMap{
	"labels": labelPairs,
	"ago": func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return time.Since(t).Round(time.Second).String() + " ago"
	},
	"took": func(d time.Duration) string { return d.Round(time.Millisecond).String() },
}).Parse(targetsHTML))

// A pageJob is a job as the page shows it: targets that are down first.
type pageJob struct {
	JobState
	Up, Down, Unknown       int
	MoreActive, MoreDropped int // targets without a row
}

// PageHandler serves the state of targets as an HTML page. The parameter scrapePool
// selects a job.
func PageHandler(m *Manager) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pool := r.URL.Query().Get("scrapePool")
		var jobs []pageJob
		for _, j := range m.State().Jobs {
			if pool == "" || pool == j.Name {
				jobs = append(jobs, newPageJob(j))
			}
		}
		var b bytes.Buffer
		if err := targetsPage.Execute(&b, jobs); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		// Labels are strangers' text: whatever is in them, nothing runs.
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(b.Bytes())
	})
}

func newPageJob(j JobState) pageJob {
	out := pageJob{JobState: j}
	for _, t := range j.Active {
		switch t.Health() {
		case "up":
			out.Up++
		case "down":
			out.Down++
		default:
			out.Unknown++
		}
	}
	slices.SortStableFunc(out.Active, func(a, b ActiveTarget) int { return strings.Compare(a.Health(), b.Health()) }) // down, unknown, up
	if n := len(out.Active) - maxRows; n > 0 {
		out.MoreActive, out.Active = n, out.Active[:maxRows]
	}
	if len(out.Dropped) > maxRows {
		out.Dropped = out.Dropped[:maxRows]
	}
	out.MoreDropped = j.DroppedCount - len(out.Dropped)
	return out
}

// labelPairs returns labels as name="value".
func labelPairs(ls labels.Labels) []string {
	var out []string
	ls.Range(func(l labels.Label) { out = append(out, l.Name+`="`+l.Value+`"`) })
	return out
}
