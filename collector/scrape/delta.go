package scrape

import (
	"encoding/binary"
	"hash/maphash"
	"math"

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
type delta struct {
	cumulative func(sampleType string) bool
	seed       maphash.Seed
	before     map[uint64][]int64 // by stacktrace; nil before the first profile
	time       int64              // TimeNanos of the profile before
}

func newDelta(cumulative func(string) bool) *delta {
	return &delta{cumulative: cumulative, seed: maphash.MakeSeed()}
}

// apply replaces the cumulative values of a profile, which it takes over, by
// their growth, and drops samples that are left without values. A process that
// started anew since the profile before has all its values from the time
// between. It returns nil if nothing can be said yet.
//
// A profile of nothing but growth starts where the one before was taken. One
// with states as well keeps its time, which is when they held.
func (d *delta) apply(p *googlev1.Profile) *googlev1.Profile {
	var columns []int
	for i, t := range p.SampleType {
		if d.cumulative(p.StringTable[t.Type]) {
			columns = append(columns, i)
		}
	}
	now := make(map[uint64][]int64, len(p.Sample))
	keys := make([]uint64, len(p.Sample))
	addresses := addressesOf(p)
	for i, s := range p.Sample {
		keys[i] = d.key(s, addresses)
		values := now[keys[i]]
		if values == nil {
			values = make([]int64, len(columns))
			now[keys[i]] = values
		}
		for j, c := range columns {
			sum := values[j] + s.Value[c]
			if values[j] > 0 && s.Value[c] > 0 && sum < 0 {
				sum = math.MaxInt64
			}
			values[j] = sum
		}
	}
	before, first, since := d.before, d.before == nil, d.time
	d.before, d.time = now, p.TimeNanos
	if restarted(before, now) {
		before = nil
	}

	kept := p.Sample[:0]
	seen := make(map[uint64]bool, len(now))
	for i, s := range p.Sample {
		key := keys[i]
		for j, c := range columns {
			s.Value[c] = 0
			if first || seen[key] {
				continue // unknown, or counted with the sample before
			}
			s.Value[c] = now[key][j]
			if old, ok := before[key]; ok {
				s.Value[c] -= old[j]
			}
		}
		seen[key] = true
		if !allZero(s.Value) {
			kept = append(kept, s)
		}
	}
	clear(p.Sample[len(kept):])
	p.Sample = kept
	onlyGrowth := len(columns) == len(p.SampleType)
	if first {
		if onlyGrowth {
			return nil
		}
		return p
	}
	if length := p.TimeNanos - since; length > 0 {
		p.DurationNanos = length
		if onlyGrowth {
			p.TimeNanos = since
		}
	}
	return p
}

// restarted reports whether counters fell or vanished, which they do only in a
// new process.
func restarted(before, now map[uint64][]int64) bool {
	for key, old := range before {
		values := now[key]
		if len(values) != len(old) {
			return true
		}
		for j := range old {
			if values[j] < old[j] {
				return true
			}
		}
	}
	return false
}

func allZero(values []int64) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}

// addressesOf returns the addresses of locations by ID, which, unlike IDs, are
// the same in every profile of a process.
func addressesOf(p *googlev1.Profile) map[uint64]uint64 {
	out := make(map[uint64]uint64, len(p.Location))
	for _, l := range p.Location {
		out[l.Id] = l.Address
	}
	return out
}

// key identifies a sample by the addresses of its stacktrace and its numeric
// labels: Go tells allocations of different sizes apart by one.
func (d *delta) key(s *googlev1.Sample, addresses map[uint64]uint64) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	var b [8]byte
	for _, id := range s.LocationId {
		binary.LittleEndian.PutUint64(b[:], addresses[id])
		h.Write(b[:])
	}
	for _, l := range s.Label {
		binary.LittleEndian.PutUint64(b[:], uint64(l.Num))
		h.Write(b[:])
	}
	return h.Sum64()
}
