package ingest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// DefaultSampleRate is the rate of a push without one, in samples per second, as in
// Pyroscope.
const DefaultSampleRate = 100

// A Push is the information that a request gives about the profile in its body, where
// the body's format does not: the parameters of Pyroscope's /ingest.
type Push struct {
	// App is the application's name, as it stands before the labels. In formats without
	// profile types its last part is the type, as in shop.cpu.
	App string
	// Labels identify the series. They include service_name, which is App unless the
	// request names a service, and exclude __name__, which depends on the body.
	Labels labels.Labels
	// ServiceNamed says that the request has a label service_name.
	ServiceNamed bool
	// From and Until are the start and the end of the profile. FromGiven says that From
	// is the request's, and not the time of arrival.
	From, Until time.Time
	FromGiven   bool
	// UntilGiven says the same of Until. If only Until is given, From equals it.
	UntilGiven bool
	// Oldest is the time before which the receiver accepts no profiles; zero means no
	// bound.
	Oldest time.Time
	// SampleRate is in samples per second, DefaultSampleRate if the request has none. 0
	// means that values do not count samples of time.
	SampleRate int64
	// AllocInterval is the mean number of allocated bytes between two samples of a
	// recording that does not say; 0 if it is unknown.
	AllocInterval int64
	// OldThreads are the threads, by their number in the system, that ran before the
	// recording began and have no jdk.ObjectAllocationSample yet. The first one of such a
	// thread has the weight of all that the thread has ever allocated, so it is left out,
	// and the thread is deleted from here. nil leaves none out.
	OldThreads map[uint64]bool
	// SpyName is the sender's name, such as gospy or javaspy.
	SpyName string
	// Units and AggregationType describe the values, such as samples and sum; empty if
	// the request does not. CheckUnits checks them.
	Units, AggregationType string
	// PySpy says that frames of folded stacks are py-spy's, with files and lines; see
	// IsPySpy. Without it they are names as a whole, as in Pyroscope.
	PySpy bool
}

// SetLabels sets App, Labels and ServiceNamed from an application's name in Pyroscope's
// form, and the sender's label to spy. Labels that begin with two underscores are
// reserved for the server, and left out.
func (m *Push) SetLabels(name, spy string, l Limits) error {
	app, given, err := parseName(name, l.Report)
	if err != nil {
		return err
	}
	if exceeds(len(app), l.MaxLabelValueBytes) {
		return fmt.Errorf("name: the application's name of %d bytes is longer than %d (limits.max_label_value_bytes)", len(app), l.MaxLabelValueBytes)
	}
	if _, ok := given[labelSpy]; !ok {
		given[labelSpy] = spy
	}
	_, named := given[labelService]
	if !named {
		given[labelService] = app
	}
	given[model.MetricNameLabel] = "?" // required by Labels; named sets the actual one
	ls, err := Labels(pairsOf(given), l)
	if err != nil {
		return fmt.Errorf("name: %w", err)
	}
	m.App, m.ServiceNamed, m.SpyName = app, named, spy
	m.Labels = labels.NewBuilder(ls).Del(model.MetricNameLabel).Labels()
	return nil
}

// named returns the labels with the first part of the profile type.
func (m *Push) named(metric string) labels.Labels {
	return labels.NewBuilder(m.Labels).Set(model.MetricNameLabel, metric).Labels()
}

// dated reports whether the request gives the time of the profile. Otherwise Until is
// the time of arrival.
func (m *Push) dated() bool { return m.FromGiven || m.UntilGiven || m.Until.After(m.From) }

// duration returns the profile's length in ns, 0 if it would be negative.
func (m *Push) duration() int64 { return max(int64(m.Until.Sub(m.From)), 0) }

// period returns the time that a sample stands for, in ns, 0 if values are not samples
// of time.
func (m *Push) period() int64 {
	if m.SampleRate <= 0 {
		return 0
	}
	return max(int64(time.Second)/m.SampleRate, 1)
}

// times returns a·b, for factors that are not negative. It reports false if that
// overflows.
func times(a, b int64) (int64, bool) {
	if b != 0 && a > math.MaxInt64/b {
		return 0, false
	}
	return a * b, true
}

// pairsOf returns labels sorted by name.
func pairsOf(set map[string]string) []*typesv1.LabelPair {
	var out []*typesv1.LabelPair
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if name == model.MetricNameLabel || !strings.HasPrefix(name, "__") {
			out = append(out, &typesv1.LabelPair{Name: name, Value: set[name]})
		}
	}
	return out
}
