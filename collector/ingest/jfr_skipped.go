package ingest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A jfrCount counts a recording's events of one name.
type jfrCount struct {
	name                string
	events, stacktraces int
}

// jfrListed bounds the events that an error lists.
const jfrListed = 12

// note reports the events that were left out. It returns an error if the recording has
// nothing else.
func (r *recording) note() error {
	counts, missed := r.skipped()
	if !r.used && missed > 0 && !r.watched() {
		return fmt.Errorf("events: there are none of a supported kind, only %s", listCounts(counts))
	}
	report := r.limits.Report
	for _, c := range counts {
		report.Skip("event", c.name, c.stacktraces)
	}
	report.Correct("time", "of events outside of their chunk", r.misplaced)
	report.Skip("time", "of events that began before the retention", r.early)
	if r.times.length > windowLength {
		report.Correct("time", fmt.Sprintf("of samples, to windows of %d s", r.times.length/1e9), 1)
	}
	return nil
}

// skipped counts the events of unsupported kinds by name, those with the most
// stacktraces first. missed counts those with a stacktrace: events without one describe
// the machine or the JVM.
func (r *recording) skipped() (all []jfrCount, missed int) {
	by := map[string]*jfrCount{}
	for _, c := range r.chunks {
		for _, class := range c.classes {
			n := jfrCount{strings.Clone(class.Name), class.events, class.stacktraces}
			switch {
			case class.events == 0:
				continue
			case class.Name == jfrExecutionSample && c.cpuTimed, class.Name == jfrFree:
				n.stacktraces = n.events
			case jfrRead[class.Name] && class.Name != "jdk.ActiveSetting":
				continue
			}
			if of := by[n.name]; of != nil {
				of.events, of.stacktraces = of.events+n.events, of.stacktraces+n.stacktraces
			} else {
				by[n.name] = &n
			}
			missed += n.stacktraces
		}
	}
	for n := range maps.Values(by) {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b jfrCount) int {
		return cmp.Or(cmp.Compare(b.stacktraces, a.stacktraces), cmp.Compare(b.events, a.events), strings.Compare(a.name, b.name))
	})
	return all, missed
}

func listCounts(counts []jfrCount) string {
	var parts []string
	for _, c := range counts[:min(len(counts), jfrListed)] {
		parts = append(parts, fmt.Sprintf("%.100q (%d)", c.name, c.events))
	}
	if more := len(counts) - jfrListed; more > 0 {
		parts = append(parts, fmt.Sprintf("%d other kinds", more))
	}
	return strings.ReplaceAll(strings.Join(parts, ", "), `"`, "")
}

// watched reports whether an event of a supported kind was enabled. If none occurred,
// the program was idle.
func (r *recording) watched() bool {
	for _, c := range r.chunks {
		for event := range jfrRead {
			switch event {
			case "jdk.ActiveSetting", jfrCPUTimeSamplesLost, jfrFree:
				continue
			}
			if c.settings[jfrSetting{event, "enabled"}] == "true" {
				return true
			}
		}
	}
	return false
}
