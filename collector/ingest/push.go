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

// DefaultSampleRate is what Pyroscope takes for the rate of a push that does
// not give one.
const DefaultSampleRate = 100

// A Push is what a request says of the profile in its body, where the format of
// the body does not say it itself: the parameters of Pyroscope's /ingest.
type Push struct {
	// App is the application's name, as it stands before the labels. In formats
	// that know of no profile types its last part is one, as in shop.cpu.
	App string
	// Labels identify the series, with service_name and without __name__, which
	// follows from what the body holds. Without a label service_name it is App.
	Labels labels.Labels
	// ServiceNamed says that the request itself has a label service_name.
	ServiceNamed bool
	// From and Until are when the profile began and ended. FromGiven says that
	// the request says so, and that From is not just when it arrived.
	From, Until time.Time
	FromGiven   bool
	// UntilGiven says the same of Until. Where it alone is given, From is the same.
	UntilGiven bool
	// Oldest is the time before which the receiver takes no profiles, zero if there
	// is none.
	Oldest time.Time
	// SampleRate is in samples per second, DefaultSampleRate if the request does
	// not say. 0 says that values are no samples of time.
	SampleRate int64
	// SpyName is the sender's name, such as gospy or javaspy.
	SpyName string
	// Units and AggregationType are those of values, such as samples and sum;
	// empty if the request does not say. CheckUnits knows which there are.
	Units, AggregationType string
}

// SetLabels sets App, Labels and ServiceNamed to what an application's name in
// Pyroscope's form says, and the sender to spy. Labels that begin with two
// underscores are the server's to set, and left out.
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
	given[model.MetricNameLabel] = "?" // asked for, and not known yet
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

// dated reports whether the request says when the profile was. Otherwise Until is
// when it arrived.
func (m *Push) dated() bool { return m.FromGiven || m.UntilGiven || m.Until.After(m.From) }

// duration is how long the profile took, in nanoseconds, 0 if it ends before it
// began.
func (m *Push) duration() int64 { return max(int64(m.Until.Sub(m.From)), 0) }

// period is the time that a sample stands for, in nanoseconds.
func (m *Push) period() int64 {
	if m.SampleRate <= 0 {
		return 0
	}
	return max(int64(time.Second)/m.SampleRate, 1)
}

// times returns a·b, neither of them negative, unless it overflows.
func times(a, b int64) (int64, bool) {
	if b != 0 && a > math.MaxInt64/b {
		return 0, false
	}
	return a * b, true
}

// pairsOf returns labels in the order of their names.
func pairsOf(set map[string]string) []*typesv1.LabelPair {
	var out []*typesv1.LabelPair
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if name == model.MetricNameLabel || !strings.HasPrefix(name, "__") {
			out = append(out, &typesv1.LabelPair{Name: name, Value: set[name]})
		}
	}
	return out
}
