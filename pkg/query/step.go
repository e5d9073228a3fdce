package query

import (
	"math"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// maxPoints bounds the points of a series, as Prometheus does.
const maxPoints = 11000

// A grid is the steps of a series: points at start, start+step, ... end, the
// one at t for the interval (t-step, t]. All are multiples of step since the
// epoch, so that a refresh moves no point.
type grid struct {
	start, end, step int64 // Unix milliseconds; end < start: no step is complete
}

// newGrid lays steps over a time range. The step is the largest of what the
// panel, the query and the settings ask for, rounded up to a multiple of
// minStep, so that every step holds the same number of profiles.
//
// As in Prometheus, the range is moved to the multiples of the step that lie
// before its ends; so the first step is whole. The last one ends at least
// minStep ago: a profile carries the time at which it began and arrives when
// it has ended, and a step that still waits for profiles would look like a dip.
func newGrid(tr backend.TimeRange, now time.Time, interval, wanted, minStep time.Duration) grid {
	least := max(minStep, time.Millisecond)
	step := min(max(interval, wanted, least, tr.To.Sub(tr.From)/maxPoints), math.MaxInt64-least) // a multiple can be made of it
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

// floor is the largest multiple of step that is not above t.
func floor(t, step int64) int64 {
	if rest := t % step; rest < 0 {
		return t - rest - step
	} else {
		return t - rest
	}
}

func (g grid) empty() bool { return g.end < g.start }

func (g grid) duration() time.Duration { return time.Duration(g.step) * time.Millisecond }
