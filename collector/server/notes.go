package server

import (
	"cmp"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

// notesHeader is the response header that says what was left out of a push or corrected,
// in the form of ingest.Report.String.
const notesHeader = "Flameline-Notes"

const (
	// maxNotesBytes bounds the header's value.
	maxNotesBytes = 1000
	// noteInterval is the least time between two equal log messages about one service,
	// since senders push every few seconds.
	noteInterval = 10 * time.Minute
	// maxNoted bounds the services whose last log message is remembered.
	maxNoted = 1000
)

// A noteLog reports what was left out of accepted pushes or corrected: to senders by a
// response header, to operators by the log and a metric. It is safe for concurrent use.
type noteLog struct {
	logger  *slog.Logger
	metrics *metrics
	now     func() time.Time

	mu   sync.Mutex
	last map[string]time.Time // of a service's warning, by service and kinds
}

func newNoteLog(logger *slog.Logger, m *metrics) *noteLog {
	return &noteLog{logger: logger, metrics: m, now: time.Now, last: map[string]time.Time{}}
}

// publish reports what was left out of a push of profiles or corrected, in the answer's
// header, the log and the metric. It returns the report's text, "" if there is nothing.
func (l *noteLog) publish(header http.Header, r *ingest.Report, ps []profile.Profile) string {
	notes := r.Notes()
	if len(notes) == 0 {
		return ""
	}
	text := r.String()
	if len(text) > maxNotesBytes {
		text = text[:maxNotesBytes] + "..."
	}
	header.Set(notesHeader, text)
	var key strings.Builder
	for _, n := range notes {
		action := "corrected"
		if n.Skipped {
			action = "skipped"
		}
		l.metrics.notes.WithLabelValues(action, n.Kind).Add(float64(n.Count))
		key.WriteString(action + n.Kind + " ")
	}
	service := ""
	for _, p := range ps {
		service = cmp.Or(service, p.Labels.Get(labelService))
	}
	if l.due(service + " " + key.String()) {
		l.logger.Warn("parts of a push were left out or corrected", "service", service, "notes", text)
	}
	return text
}

// due reports whether noteInterval has passed since the last message with this key.
func (l *noteLog) due(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if at, ok := l.last[key]; ok && now.Sub(at) < noteInterval {
		return false
	}
	if len(l.last) >= maxNoted {
		clear(l.last)
	}
	l.last[key] = now
	return true
}
