package ingest

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// A Push is what a request says of the profile in its body, where the format of
// the body does not say it itself: the parameters of Pyroscope's /ingest.
type Push struct {
	// Labels identify the series, with service_name and without __name__, which
	// follows from what the body holds.
	Labels labels.Labels
	// From and Until are when the profile began and ended.
	From, Until time.Time
	// SampleRate is in samples per second, 0 if the request does not say.
	SampleRate int64
	// SpyName is the sender's name, such as gospy or javaspy.
	SpyName string
	// Units and AggregationType are those of values, such as samples and sum;
	// empty if the request does not say.
	Units, AggregationType string
}
