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

// notesHeader is the header of an answer that says what of a push was left out or
// corrected, as ingest.Report writes it.
const notesHeader = "Flameline-Notes"

const (
	// maxNotesBytes bounds the header.
	maxNotesBytes = 1000
	// noteInterval is how often the log says the same of one service. Senders
	// push every few seconds.
	noteInterval = 10 * time.Minute
	// maxNoted bounds the services that are remembered for that.
	maxNoted = 1000
)

// A noteLog tells people what of acknowledged pushes was left out or corrected:
// senders by a header of the answer, operators by the log and a metric. It is
// safe for concurrent use.
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

// tell passes on what a report says of a push of profiles, and returns it, "" if
// there is nothing.
func (l *noteLog) tell(header http.Header, r *ingest.Report, ps []profile.Profile) string {
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

// due reports whether the log has not said something within noteInterval.
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
