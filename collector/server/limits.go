package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
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
	// MaxPushBytes bounds the memory of all pushes that are being read and stored, as
	// estimated. One alone may take more.
	MaxPushBytes int64
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

// keyRequestBytes is the key of MaxRequestBytes.
const keyRequestBytes = "limits.max_request_bytes"

// series holds the number of a push's series to the limit.
func (l Limits) series(n int) error {
	if most := l.MaxSeriesPerPush; most > 0 && n > most {
		return fmt.Errorf("series: %d series are more than %d (limits.max_series_per_push)", n, most)
	}
	return nil
}

// noting returns the limits with a report of what is left out or corrected. The
// labels of one profile's samples may make as many series as a push may have.
func (l Limits) noting(r *ingest.Report) Limits {
	l.Ingest.Report, l.Ingest.MaxSeries = r, l.MaxSeriesPerPush
	return l
}

// seriesOf counts the series of profiles: a recording has many profiles of each.
func seriesOf(ps []profile.Profile) int {
	seen := map[uint64]struct{}{}
	for _, p := range ps {
		seen[p.Labels.Hash()] = struct{}{}
	}
	return len(seen)
}

// within returns the limits of a profile in a request whose profiles may have
// left more bytes together. explain names the limit that an error is about.
func (l Limits) within(left int64) (out ingest.Limits, explain func(error) error) {
	out = l.Ingest
	if l.MaxRequestBytes == 0 || out.MaxProfileBytes > 0 && out.MaxProfileBytes <= left {
		return out, func(err error) error { return err }
	}
	out.MaxProfileBytes = max(left, 1) // 0 would be no limit
	return out, func(err error) error {
		if errors.Is(err, ingest.ErrTooLarge) {
			return fmt.Errorf("the profiles of the request have more than %d bytes together after decompression (limits.max_request_bytes)", l.MaxRequestBytes)
		}
		return err
	}
}
