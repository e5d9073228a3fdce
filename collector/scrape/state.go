package scrape

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// State is what a Manager scrapes at one time.
type State struct {
	Jobs []JobState // by name
}

// JobState is the state of one entry of scrape_configs.
type JobState struct {
	Name string
	// Active has an entry for each profile of a target.
	Active []ActiveTarget
	// Dropped are targets that are not scraped, up to keep_dropped_targets of
	// DroppedCount.
	Dropped      []DroppedTarget
	DroppedCount int
}

// An ActiveTarget is a profile of a target that is scraped.
type ActiveTarget struct {
	Scrape
	Profile           string
	Discovered        labels.Labels // before relabelling
	Labels            labels.Labels // of the series, without __name__
	Interval, Timeout time.Duration
}

// A DroppedTarget is a target that is not scraped.
type DroppedTarget struct {
	Discovered labels.Labels
	Err        error // why it cannot be scraped; nil if relabelling dropped it
}

// State returns the targets of all jobs with the results of the last scrapes.
func (m *Manager) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out State
	for _, name := range slices.Sorted(maps.Keys(m.jobs)) {
		j := m.jobs[name]
		state := JobState{Name: name, Dropped: j.dropped, DroppedCount: j.droppedCount}
		for _, t := range j.targets {
			for _, l := range t.loops {
				state.Active = append(state.Active, ActiveTarget{
					Scrape: l.lastScrape(), Profile: l.name, Discovered: t.discovered, Labels: t.labels,
					Interval: l.interval, Timeout: l.timeout,
				})
			}
		}
		out.Jobs = append(out.Jobs, state)
	}
	return out
}
