package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

// Limits bound what one request may cost. 0 means no limit, except that DefaultNodes 0
// means 8192. Error messages use the names of the configuration file.
type Limits struct {
	// Ingest bounds each profile and label set of a push.
	Ingest ingest.Limits
	// MaxSeriesPerPush bounds the series of one push.
	MaxSeriesPerPush int
	// MaxFuture bounds how far a profile's time may be ahead of the clock.
	MaxFuture time.Duration
	// MaxAge bounds how far a profile's time may be behind the clock: retention would
	// drop older profiles at once. MaxAgeKey is the configuration key that an error
	// names.
	MaxAge    time.Duration
	MaxAgeKey string
	// MaxRequestBytes bounds a request's message, as sent and decompressed,
	// and the decompressed profiles in it together.
	MaxRequestBytes int64
	// MaxPushBytes bounds the estimated memory of all pushes that are being read and
	// stored. A single push may take more.
	MaxPushBytes int64
	// MaxQueryRange bounds the time range of a query.
	MaxQueryRange time.Duration
	// MaxConcurrentQueries bounds the queries that run at once.
	MaxConcurrentQueries int
	// MaxNodes bounds the max_nodes of a query. DefaultNodes is the number of nodes for
	// a query without max_nodes.
	MaxNodes, DefaultNodes int64
	// MaxPoints bounds the points of one series of an answer.
	MaxPoints int64
}

// keyRequestBytes is the configuration key of MaxRequestBytes.
const keyRequestBytes = "limits.max_request_bytes"

// series checks the number of a push's series.
func (l Limits) series(n int) error {
	if most := l.MaxSeriesPerPush; most > 0 && n > most {
		return fmt.Errorf("series: %d series are more than %d (limits.max_series_per_push)", n, most)
	}
	return nil
}

// profilesPerSeries is how many profiles a push may have for each series it may have.
const profilesPerSeries = 20

// profiles checks the number of a push's profiles.
func (l Limits) profiles(n int) error {
	if most := profilesPerSeries * l.MaxSeriesPerPush; most > 0 && n > most {
		return fmt.Errorf("series: %d profiles are more than %d (%d times limits.max_series_per_push)", n, most, profilesPerSeries)
	}
	return nil
}

// withReport returns the limits with a report for what is left out or corrected, and bounds
// the series that the labels of one profile's samples make by MaxSeriesPerPush.
func (l Limits) withReport(r *ingest.Report) Limits {
	l.Ingest.Report, l.Ingest.MaxSeries = r, l.MaxSeriesPerPush
	return l
}

// seriesOf counts the distinct series of profiles. A recording has many profiles of each
// series.
func seriesOf(ps []profile.Profile) int {
	seen := map[uint64]struct{}{}
	for _, p := range ps {
		seen[p.Labels.Hash()] = struct{}{}
	}
	return len(seen)
}

// within returns the limits for one profile of a request, of whose MaxRequestBytes left
// bytes remain. explain rewrites an error so that it names the limit that was exceeded.
func (l Limits) within(left int64) (out ingest.Limits, explain func(error) error) {
	out = l.Ingest
	if l.MaxRequestBytes == 0 || out.MaxProfileBytes > 0 && out.MaxProfileBytes <= left {
		return out, func(err error) error { return err }
	}
	out.MaxProfileBytes = max(left, 1) // 0 would be no limit
	return out, func(err error) error {
		if errors.Is(err, ingest.ErrTooLarge) {
			return fmt.Errorf("the profiles of the request have more than %d bytes in total after decompression (limits.max_request_bytes)", l.MaxRequestBytes)
		}
		return err
	}
}
