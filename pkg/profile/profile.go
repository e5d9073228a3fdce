// Package profile holds the plain data that the plugin and the collector
// share: profile types, selectors, call trees, their difference and their
// flame-graph encodings. It opens no file, no connection and no clock.
package profile

import (
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
)

// A Profile is one pprof profile with the labels of its series, as sources
// hand it on and the store accepts it. One pprof profile with n sample types
// becomes n series.
type Profile struct {
	// ID is the sender's identifier of this profile, usually a UUID. Profiles
	// of one series with the same ID are stored once; an empty ID is never a
	// duplicate.
	ID string
	// Labels identify the series. They hold __name__ (the first part of the
	// profile type, such as process_cpu) and service_name, but none of the
	// labels that follow from the sample type.
	Labels labels.Labels
	// Pprof holds the samples. TimeNanos is the start of the profile and
	// DurationNanos its length. The receiver owns it from then on.
	Pprof *googlev1.Profile
}
