package scrape

import (
	"math"
	"slices"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// cumulative tells, by profile, which sample types count from the start of the
// process. What is stored of them is the growth since the scrape before. The
// other types of the same profile are states, and are kept as they are.
func cumulative(name string) func(sampleType string) bool {
	switch name {
	case nameMemory:
		return func(typ string) bool { return typ == "alloc_objects" || typ == "alloc_space" }
	case nameMutex, nameBlock:
		return func(string) bool { return true }
	}
	return nil
}

// A delta turns cumulative values into growth. It is not safe for concurrent
// use.
//
// It holds the counters of one profile: 8 bytes for each value and some 20 for
// each distinct sample. The limits on a profile bound them.
type delta struct {
	cumulative func(sampleType string) bool
	counting   counting
	last       *snapshot // nil before the first profile
}

func newDelta(cumulative func(string) bool) *delta {
	return &delta{cumulative: cumulative, counting: newCounting()}
}

// A reading is a profile as a target gave it, with what the target says of it.
type reading struct {
	profile *googlev1.Profile
	kind    kind
	// taken is when its counters and states were read, in Unix ns, and answered
	// when the answer was there, with the reading of the monotonic clock.
	taken    int64
	answered time.Time
	// duration is what the profile itself says; 0 if it says nothing.
	duration int64
}

// A kind says what the values of a cumulative sample type are.
type kind int

const (
	// counters count from the start of the process, unless the duration of the
	// profile says otherwise.
	counters kind = iota
	// growth is what was added since the target was asked before; states are as
	// ever. This is what godeltaprof serves.
	growth
	// difference is that of two profiles, states included, which are none any
	// more. This is what net/http/pprof serves where it is asked for seconds.
	difference
)

// apply returns what a reading says in terms of the store, and the snapshot that
// the next reading has to be compared with once the growth is safe: see commit.
// The results are, and nil if there is nothing to say,
//
//   - state: a profile of the states, with the time at which they held and
//     duration 0, and
//   - flow: a profile of the cumulative types, whose values are the growth over
//     its time and duration.
//
// They are two, for a profile has but one time: a state that was read after a gap
// of ten minutes did not hold for all of them. Samples without values are left
// out, and so is a profile without samples. apply takes the reading over.
//
// A process that started anew since the reading before has all its values from
// the time between. Of the first reading only the states are known, unless it
// says how long it is.
func (d *delta) apply(r reading) (state, flow *googlev1.Profile, next *snapshot) {
	p := r.profile
	flows, states := d.columns(p)
	next = d.counting.snapshot(p, flows)
	next.time, next.answered = r.taken, r.answered
	begin, known := d.since(r)
	known = known && len(flows) > 0
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

// columns tells the cumulative sample types of a profile from its states.
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

// continues reports whether a reading is of the process that a snapshot is of,
// which has not started anew since. It leaves the reading as it is.
func (d *delta) continues(before *snapshot, r reading) bool {
	flows, _ := d.columns(r.profile)
	now := d.counting.snapshot(r.profile, flows)
	return before.time < r.taken && before.period == now.period && !restarted(before, now)
}

// commit makes a snapshot the one that the next reading is compared with.
func (d *delta) commit(next *snapshot) { d.last = next }

// maxGap is the most time between two readings over which growth is spread. A
// profile of more than a day would be taken for a mistake.
const maxGap = 24 * time.Hour

// since returns when the reading before was taken, in Unix ns, and false if there
// was none within maxGap. Where the wall clock was set back between them, the
// monotonic clock says how long ago that was.
func (d *delta) since(r reading) (begin int64, ok bool) {
	if d.last == nil || r.taken-d.last.time > int64(maxGap) {
		return 0, false
	}
	if d.last.time < r.taken {
		return d.last.time, true
	}
	return r.taken - max(int64(r.answered.Sub(d.last.answered)), 1), true
}

// clockSlack is how much the clocks of target and scraper may differ over the
// time between two scrapes, in ns.
const clockSlack = 1e9

// coversItself reports whether a profile says that it began after the reading
// before: its values are then growth over its own duration, be it since that or
// since the start of the process.
func (d *delta) coversItself(r reading) bool {
	return d.last != nil && r.duration > 0 && r.taken-r.duration >= d.last.time-clockSlack
}

// subtract replaces counters by their growth since a snapshot. It reports false
// if that cannot be known: the target counts in other steps than before.
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
				continue // counted with the sample before
			}
			s.Value[c] = now.at(row)[j]
			if before != nil {
				if old, ok := before.index[now.keys[row]]; ok {
					s.Value[c] -= before.at(old)[j]
				}
			}
		}
		seen[row] = true
	}
	return true
}

// restarted reports whether counters fell or vanished, or are those of another
// program: all of this happens in a new process only.
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
			if now.at(i)[j] < old {
				return true
			}
		}
	}
	return false
}

// project keeps some of a profile's sample types, and the samples that have a
// value of them. It changes the profile, and returns nil if nothing is left.
func project(p *googlev1.Profile, columns []int) *googlev1.Profile {
	if len(columns) == 0 {
		return nil
	}
	kept := p.Sample[:0]
	for _, s := range p.Sample {
		any := false
		for j, c := range columns { // c is never before j
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

// addCounts adds two counters. A sum that is too large stays at the largest
// number, so that growth does not become negative.
func addCounts(a, b int64) int64 {
	if sum := a + b; a <= 0 || b <= 0 || sum > 0 {
		return sum
	}
	return math.MaxInt64
}
