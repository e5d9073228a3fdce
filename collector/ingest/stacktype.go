package ingest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// A stackType is the profile type of a body that has only stacktraces with values.
type stackType struct {
	app              string // the application's name without the type
	metric           string // first part of the profile type
	sampleType, unit string
	// period is the time that a sample stands for, in ns, for samples of time. Values
	// are multiplied by scale if it is not 0.
	period, scale int64
}

// legacyTypes are the endings of application names that give the type of a push without
// one, with Pyroscope's metric, sample type and unit
// (pkg/ingester/pyroscope/ingest_adapter.go).
var legacyTypes = map[string][3]string{
	"cpu":                        {"process_cpu", "samples", "count"},
	"itimer":                     {"process_cpu", "samples", "count"},
	"wall":                       {"wall", "samples", "count"},
	"seconds":                    {"wall", "samples", "count"},
	"milliseconds":               {"wall", "samples", "count"},
	"microseconds":               {"wall", "samples", "count"},
	"nanoseconds":                {"wall", "samples", "count"},
	"inuse_objects":              {"memory", "inuse_objects", "count"},
	"inuse_space":                {"memory", "inuse_space", "bytes"},
	"alloc_objects":              {"memory", "alloc_objects", "count"},
	"alloc_space":                {"memory", "alloc_space", "bytes"},
	"alloc_in_new_tlab_objects":  {"memory", "alloc_in_new_tlab_objects", "count"},
	"alloc_in_new_tlab_bytes":    {"memory", "alloc_in_new_tlab_bytes", "bytes"},
	"alloc_outside_tlab_objects": {"memory", "alloc_outside_tlab_objects", "count"},
	"alloc_outside_tlab_bytes":   {"memory", "alloc_outside_tlab_bytes", "bytes"},
	"live":                       {"memory", "live", "count"},
	"bytes":                      {"memory", "samples", "bytes"},
	"goroutines":                 {"goroutine", "goroutines", "count"},
	"mutex_count":                {"mutex", "contentions", "count"},
	"mutex_duration":             {"mutex", "delay", "nanoseconds"},
	"block_count":                {"block", "contentions", "count"},
	"block_duration":             {"block", "delay", "nanoseconds"},
	"lock_count":                 {"block", "contentions", "count"},
	"lock_duration":              {"block", "delay", "nanoseconds"},
	"exceptions":                 {"exceptions", "samples", "count"},
}

// stackType returns the type given by the application's name, else by the push's units,
// else CPU. Samples of time are converted to nanoseconds by the sample rate.
func (m *Push) stackType() (stackType, error) {
	app, ending := m.App, m.ending()
	if i := strings.LastIndexByte(app, '.'); i >= 0 {
		app, ending = app[:i], app[i+1:]
	}
	t, ok := legacyTypes[ending]
	if !ok {
		known := make([]string, 0, len(legacyTypes))
		for name := range legacyTypes {
			known = append(known, name)
		}
		slices.Sort(known)
		return stackType{}, fmt.Errorf("name: %q ends in %q, which is not a profile type; in this format what follows the last dot is one of %s",
			m.App, ending, strings.Join(known, ", "))
	}
	if app == "" {
		return stackType{}, fmt.Errorf("name: %q has a profile type, but no application", m.App)
	}
	out := stackType{app: app, metric: t[0], sampleType: t[1], unit: t[2]}
	if period := m.period(); period > 0 {
		out.ofTime(period, period)
	}
	return out, m.applyUnits(&out)
}

// ofTime converts a type that counts samples on a CPU or a wall clock to nanoseconds.
// Other types stay unchanged.
func (t *stackType) ofTime(period, scale int64) {
	switch t.metric {
	case "process_cpu":
		t.sampleType = "cpu"
	case "wall":
		t.sampleType = "wall"
	default:
		return
	}
	t.unit, t.period, t.scale = "nanoseconds", period, scale
}

// legacyLabels returns a series' labels: the application is the service, or, if the
// request names a service, the label app_name.
func (m *Push) legacyLabels(t stackType) labels.Labels {
	b := labels.NewBuilder(m.Labels).Set(model.MetricNameLabel, t.metric)
	switch {
	case !m.ServiceNamed:
		b.Set(labelService, t.app)
	case m.Labels.Get("app_name") == "":
		b.Set("app_name", t.app)
	}
	return b.Labels()
}
