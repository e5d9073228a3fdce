package server

import (
	"time"

	"github.com/flameline/flameline/collector/ingest"
)

// Limits bound what one request may cost. A zero field is no limit, except
// DefaultNodes, which then is 8192. The names in messages are those of the
// configuration file.
type Limits struct {
	// Ingest bounds each profile and label set of a push.
	Ingest ingest.Limits
	// MaxSeriesPerPush bounds the series of one push.
	MaxSeriesPerPush int
	// MaxFuture bounds how far a profile's time may be ahead of the clock.
	MaxFuture time.Duration
	// MaxAge bounds how far it may be behind: older profiles would be dropped
	// at once. MaxAgeKey is the key of the configuration file that says so.
	MaxAge    time.Duration
	MaxAgeKey string
	// MaxRequestBytes bounds a request's message, as sent and decompressed,
	// and the decompressed profiles in it together.
	MaxRequestBytes int64
	// MaxQueryRange bounds the time range of a query.
	MaxQueryRange time.Duration
	// MaxConcurrentQueries bounds the queries that run at once.
	MaxConcurrentQueries int
	// MaxNodes bounds the max_nodes that a query may ask for. DefaultNodes
	// stands in where it does not ask.
	MaxNodes, DefaultNodes int64
	// MaxPoints bounds the points of one series of an answer.
	MaxPoints int64
}
