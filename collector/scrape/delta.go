package scrape

import (
	"math"
	"slices"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// cumulative returns a function that reports which sample types of a profile count from
// the start of the process. Of these the growth since the scrape before is stored. Other
// types of the profile are states, and stored unchanged.
func cumulative(name string) func(sampleType string) bool {
	switch name {
	case nameMemory:
		return func(typ string) bool { return typ == "alloc_objects" || typ == "alloc_space" }
	case nameMutex, nameBlock:
		return func(string) bool { return true }
	}
	return nil
}

// A delta turns cumulative values into growth. It is not safe for concurrent use.
//
// It holds the counters of one profile: 8 bytes per value and some 20 per distinct
// sample. The limits on a profile bound them.
type delta struct {
	cumulative func(sampleType string) bool
	counting   counting
	last       *snapshot // nil before the first profile
}

func newDelta(cumulative func(string) bool) *delta {
	return &delta{cumulative: cumulative, counting: newCounting()}
}

// A reading is a profile as a target sent it, with its kind and times.
type reading struct {
	profile *googlev1.Profile
	kind    kind
	// taken is when the counters and states were read, in Unix ns; answered is when the
	// answer arrived, with a monotonic clock reading.
	taken    int64
	answered time.Time
	// duration is the profile's own, in ns; 0 if it has none.
	duration int64
}

// A kind is the meaning of the values of a cumulative sample type.
type kind int

const (
	// counters count from the start of the process, unless the profile's duration says
	// otherwise.
	counters kind = iota
	// growth is what was added since the scrape before; states are absolute. godeltaprof
	// serves this.
	growth
	// difference is the difference of two profiles, also for states, which are then
	// useless. net/http/pprof serves this if the request has the parameter seconds.
	difference
)

// apply converts a reading to profiles for the store, and returns the snapshot to
// compare the next reading with once the growth is stored: see commit. The results,
// which may be nil, are
//
//   - state: a profile of the states, with the time at which they were read and duration 0, and
//   - flow: a profile of the cumulative types, whose values are the growth over its time and duration.
//
// They are two profiles since a profile has one time: a state that was read after a gap
// of ten minutes did not hold all that time. Samples without values are left out, and so
// is a profile without samples. apply takes ownership of the reading.
//
// All counters of a process that restarted since the reading before are growth since
// that reading. Of a first reading only the states are known, unless it has a duration.
func (d *delta) apply(r reading) (state, flow *googlev1.Profile, next *snapshot) {
	p := r.profile
	flows, states := d.columns(p)
	next = d.counting.snapshot(p, flows)
	next.time, next.answered = r.taken, r.answered
	begin, known := d.since(r)
	// gperftools leaves out its counters while they equal what is in use, so that a
	// reading without them does not say what they were.
	known = known && len(flows) > 0 && len(d.last.types) > 0
	if r.kind == growth || r.kind == difference || d.coversItself(r) {
		if r.duration > 0 {
			begin, known = r.taken-r.duration, true
		}
	} else if known {
		known = subtract(p, flows, next, d.last)
	}

	if r.kind != difference {
		if state = project(p.CloneVT(), states); state != nil {
			state.TimeNanos, state.DurationNanos = r.taken, 0
		}
	}
	if known {
		if flow = project(p, flows); flow != nil {
			flow.TimeNanos, flow.DurationNanos = begin, r.taken-begin
		}
	}
	next.rows = nil
	return state, flow, next
}

// columns returns the indexes of a profile's cumulative sample types and of its states.
func (d *delta) columns(p *googlev1.Profile) (flows, states []int) {
	for i, t := range p.SampleType {
		if d.cumulative(p.StringTable[t.Type]) {
			flows = append(flows, i)
		} else {
			states = append(states, i)
		}
	}
	return flows, states
}

// continues reports whether a reading comes from the same run of a process as a
// snapshot. It does not change the reading.
func (d *delta) continues(before *snapshot, r reading) bool {
	flows, _ := d.columns(r.profile)
	now := d.counting.snapshot(r.profile, flows)
	return before.time < r.taken && before.period == now.period && !restarted(before, now)
}

// commit sets the snapshot with which the next reading is compared.
func (d *delta) commit(next *snapshot) { d.last = next }

// maxGap is the longest time between two readings over which growth is spread. A profile
// longer than a day would be corrected as a mistake.
const maxGap = 24 * time.Hour

// since returns when the reading before was taken, in Unix ns, and false if there was
// none within maxGap. If the wall clock was set back between the two, it computes the
// time from the monotonic clock.
func (d *delta) since(r reading) (begin int64, ok bool) {
	if d.last == nil || r.taken-d.last.time > int64(maxGap) {
		return 0, false
	}
	if d.last.time < r.taken {
		return d.last.time, true
	}
	return r.taken - max(int64(r.answered.Sub(d.last.answered)), 1), true
}

// clockSlack is the tolerated difference, in ns, between the clocks of target and
// scraper over one interval.
const clockSlack = 1e9

// coversItself reports whether a profile says that it began after the reading before.
// Its values are then growth over its own duration, since that reading or since the
// start of the process.
func (d *delta) coversItself(r reading) bool {
	return d.last != nil && r.duration > 0 && r.taken-r.duration >= d.last.time-clockSlack
}

// subtract replaces counters by their growth since a snapshot. It reports false if the
// growth is unknown because the target's sampling period has changed.
func subtract(p *googlev1.Profile, flows []int, now, before *snapshot) bool {
	if restarted(before, now) {
		before = nil
	} else if before.period != now.period {
		return false
	}
	seen := make([]bool, now.len())
	for i, s := range p.Sample {
		row := now.rows[i]
		for j, c := range flows {
			s.Value[c] = 0
			if seen[row] {
				continue // counted with an earlier sample
			}
			s.Value[c] = now.at(row)[j]
			if before != nil {
				if old, ok := before.index[now.keys[row]]; ok {
					s.Value[c] -= before.at(old)[j]
				}
				s.Value[c] = max(s.Value[c], 0) // an estimate may have fallen
			}
		}
		seen[row] = true
	}
	return true
}

// restarted reports whether counters fell, vanished, or belong to another program, which
// happens only in a new process.
func restarted(before, now *snapshot) bool {
	if before.ended || !slices.Equal(before.types, now.types) || before.buildID != "" && now.buildID != "" && before.buildID != now.buildID {
		return true
	}
	for row, key := range before.keys {
		i, ok := now.index[key]
		if !ok {
			if slices.Max(before.at(int32(row))) > 0 {
				return true
			}
			continue
		}
		for j, old := range before.at(int32(row)) {
			if now.at(i)[j] < old && !now.estimated[j] {
				return true
			}
		}
	}
	return false
}

// project keeps the given sample types of a profile, and the samples that have a value
// of them. It changes the profile, and returns nil if no sample is left.
func project(p *googlev1.Profile, columns []int) *googlev1.Profile {
	if len(columns) == 0 {
		return nil
	}
	kept := p.Sample[:0]
	for _, s := range p.Sample {
		any := false
		for j, c := range columns { // c >= j
			s.Value[j] = s.Value[c]
			any = any || s.Value[j] != 0
		}
		if any {
			s.Value = s.Value[:len(columns)]
			kept = append(kept, s)
		}
	}
	clear(p.Sample[len(kept):])
	p.Sample = kept
	if len(kept) == 0 {
		return nil
	}
	types := make([]*googlev1.ValueType, len(columns))
	usual := false
	for j, c := range columns {
		types[j] = p.SampleType[c]
		usual = usual || types[j].Type == p.DefaultSampleType
	}
	p.SampleType = types
	if !usual {
		p.DefaultSampleType = 0
	}
	return p
}

// addCounts adds two counters. An overflowing sum becomes math.MaxInt64, so that growth
// does not become negative.
func addCounts(a, b int64) int64 {
	if sum := a + b; a <= 0 || b <= 0 || sum > 0 {
		return sum
	}
	return math.MaxInt64
}
