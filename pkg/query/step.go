package query

import (
	"math"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// maxPoints bounds the steps of a series. A server is asked for both ends and one step
// before, and Flameline's limit is 11,000 points.
const maxPoints = 10_998

// A grid is the steps of a series: points at start, start+step, ... end, where the point
// at t covers (t-step, t]. All are multiples of step since the epoch, so that a refresh
// does not move points.
type grid struct {
	start, end, step int64 // Unix milliseconds; end < start: no step is complete
}

// newGrid returns the steps of a time range. The step is the largest of the panel's, the
// query's and the settings', rounded up to a multiple of minStep, so that every step has
// the same number of profiles.
//
// As in Prometheus, both ends are moved back to multiples of the step, so that the first
// step is complete. The last step ended at least minStep ago: a profile has the time at
// which it began and arrives when it has ended, and an incomplete step would look like a
// dip.
func newGrid(tr backend.TimeRange, now time.Time, interval, wanted, minStep time.Duration) grid {
	least := max(minStep, time.Millisecond)
	step := min(max(interval, wanted, least, tr.To.Sub(tr.From)/maxPoints), math.MaxInt64-least) // so that rounding up cannot overflow
	if rest := step % least; rest != 0 {
		step += least - rest
	}
	to := tr.To
	if complete := now.Add(-least); to.After(complete) {
		to = complete
	}
	ms := step.Milliseconds()
	return grid{start: floor(tr.From.UnixMilli(), ms), end: floor(to.UnixMilli(), ms), step: ms}
}

// floor returns the largest multiple of step up to t.
func floor(t, step int64) int64 {
	if rest := t % step; rest < 0 {
		return t - rest - step
	} else {
		return t - rest
	}
}

func (g grid) empty() bool { return g.end < g.start }

func (g grid) duration() time.Duration { return time.Duration(g.step) * time.Millisecond }
