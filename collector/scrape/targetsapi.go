package scrape

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/common/model"
)

// apiTargets is the data of Prometheus' /api/v1/targets. As a target has several
// profiles here, each is an active target, with the added key profile.
type apiTargets struct {
	Active  []apiActive    `json:"activeTargets"`
	Dropped []apiDropped   `json:"droppedTargets"`
	Counts  map[string]int `json:"droppedTargetCounts"`
}

type apiActive struct {
	Discovered map[string]string `json:"discoveredLabels"`
	Labels     map[string]string `json:"labels"`
	Pool       string            `json:"scrapePool"`
	URL        string            `json:"scrapeUrl"`
	GlobalURL  string            `json:"globalUrl"`
	LastError  string            `json:"lastError"`
	LastScrape time.Time         `json:"lastScrape"`
	Duration   float64           `json:"lastScrapeDuration"` // in seconds
	Health     string            `json:"health"`
	Interval   string            `json:"scrapeInterval"`
	Timeout    string            `json:"scrapeTimeout"`
	Profile    string            `json:"profile"`
	Samples    int               `json:"lastSamples"`
}

type apiDropped struct {
	Discovered map[string]string `json:"discoveredLabels"`
	Pool       string            `json:"scrapePool"`
	Error      string            `json:"error,omitempty"` // absent if relabelling dropped the target
}

// APIHandler serves the state of targets as Prometheus' /api/v1/targets does, with its
// parameters state (active, dropped or any) and scrapePool.
func APIHandler(m *Manager) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		query := r.URL.Query()
		state := query.Get("state")
		switch state {
		case "", "any", "active", "dropped":
		default:
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{
				"status": "error", "errorType": "bad_data", "error": `invalid parameter "state": it is active, dropped or any`,
			})
			return
		}
		data := m.State().api(query.Get("scrapePool"), state != "dropped", state != "active")
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
	})
}

// api returns the targets of one job, or of all jobs if pool is empty.
func (s State) api(pool string, active, dropped bool) apiTargets {
	out := apiTargets{Active: []apiActive{}, Dropped: []apiDropped{}, Counts: map[string]int{}}
	for _, j := range s.Jobs {
		if pool != "" && pool != j.Name {
			continue
		}
		if active {
			for _, t := range j.Active {
				out.Active = append(out.Active, apiActive{
					Discovered: t.Discovered.Map(), Labels: t.Labels.Map(), Pool: j.Name, URL: t.URL, GlobalURL: t.URL,
					LastError: errorText(t.Err), LastScrape: t.Time, Duration: t.Duration.Seconds(), Health: t.Health(),
					Interval: model.Duration(t.Interval).String(), Timeout: model.Duration(t.Timeout).String(),
					Profile: t.Profile, Samples: t.Samples,
				})
			}
		}
		if dropped {
			out.Counts[j.Name] = j.DroppedCount
			for _, t := range j.Dropped {
				out.Dropped = append(out.Dropped, apiDropped{Discovered: t.Discovered.Map(), Pool: j.Name, Error: errorText(t.Err)})
			}
		}
	}
	return out
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
