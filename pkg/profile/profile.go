// Package profile holds the plain data that the plugin and the collector share: profile
// types, selectors, call trees, their difference and their flame-graph encodings. It
// uses no files, connections or clocks.
package profile

import (
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
)

// A Profile is one pprof profile with the labels of its series, as sources emit it and
// the store accepts it. A pprof profile with n sample types becomes n series.
type Profile struct {
	// ID is the sender's identifier of the profile, usually a UUID. Profiles of one
	// series with the same ID are stored once; an empty ID never counts as a duplicate.
	ID string
	// Labels identify the series. They include __name__ (the first part of the profile
	// type, such as process_cpu) and service_name, and none of the labels that follow
	// from the sample type.
	Labels labels.Labels
	// Pprof has the samples. TimeNanos is the start of the profile, in Unix ns, and
	// DurationNanos its length. The receiver of a Profile takes ownership.
	Pprof *googlev1.Profile
}

// LabelSampleTime is the numeric label of a pprof sample that says when it was taken, in
// Unix ns, as Datadog's profilers write it.
const LabelSampleTime = "end_timestamp_ns"
