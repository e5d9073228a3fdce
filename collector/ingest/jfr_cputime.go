package ingest

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"
)

// chooseCPU decides per chunk which events are its CPU time: JDK 25's sampler (JEP 509),
// if the chunk has such events, or if other chunks do and this one's threads did not
// run; else jdk.ExecutionSample, which samples the same time.
func (r *recording) chooseCPU() {
	some := false
	for _, c := range r.chunks {
		for _, e := range c.own {
			c.cpuTimed = c.cpuTimed || e.event == jfrCPUTimeSample || e.event == jfrCPUTimeSamplesLost
		}
		some = some || c.cpuTimed
	}
	for _, c := range r.chunks {
		enabled := c.settings[jfrSetting{jfrCPUTimeSample, "enabled"}]
		if some && enabled != "false" {
			c.cpuTimed = true
		}
	}
}

// cpuTimePeriod returns the CPU time between two samples of this chunk, in ns: the
// average of the samples' periods, since the sampler slows down when it cannot keep up,
// else the setting's.
func (r *recording) cpuTimePeriod() int64 {
	sum, n := 0.0, 0.0
	for _, e := range r.chunk.own {
		if e.event == jfrCPUTimeSample {
			sum, n = sum+float64(r.chunk.nanos(e.value)), n+1
		}
	}
	if mean := math.Round(sum / n); mean >= 1 && mean <= float64(jfrLongest) {
		return int64(mean)
	}
	// The setting is a time per sample, or a rate for all threads together.
	throttle := strings.ReplaceAll(r.chunk.settings[jfrSetting{jfrCPUTimeSample, "throttle"}], " ", "")
	if d, err := time.ParseDuration(throttle); err == nil && d > 0 && d <= jfrLongest {
		return int64(d)
	}
	return r.period(jfrExecutionSample)
}

// addOwn adds the chunk's events that the parser does not know.
func (r *recording) addOwn() error {
	native := r.period(jfrNativeMethodSample)
	for _, e := range r.chunk.own {
		at := r.interval(e.at, 0)
		var err error
		switch e.event {
		case jfrNativeMethodSample:
			err = r.add(jfrWall, correlation{}, e.stacktrace, at, native)
		case jfrCPUTimeSample:
			took := cmp.Or(r.chunk.nanos(e.value), r.cpu)
			err = r.add(jfrCPU, correlation{}, e.stacktrace, at, took)
		case jfrCPUTimeSamplesLost:
			// Lost samples found the buffer full; their threads and stacktraces are
			// unknown.
			took, ok := times(int64(e.value&math.MaxInt64), r.cpu)
			if !ok || e.value > math.MaxInt64 {
				return fmt.Errorf("event %s: %d samples of %d ns are too many", e.event, e.value, r.cpu)
			}
			d := r.draft(jfrCPU)
			err = r.addTo(d, []uint64{d.location(frameLost, 0)}, correlation{}, at, took)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
