package store

import (
	"math/bits"
	"slices"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
)

// longestMs is the longest time that a profile is taken to cover. A longer one is a
// mistake of its sender, and the profile then counts at its time.
const longestMs = layout.DayMs

// maxPartSamples bounds the samples of all parts of a profile together. Of one that
// would have more, each sample is in some parts only, chosen evenly.
const maxPartSamples = 1 << 20

// normalize corrects what a piece covers where conventions of senders would have it
// cover a millisecond of another slot or step.
func (p *piece) normalize() {
	if p.duration > longestMs {
		p.duration = 0
	}
	if !p.flows() || p.duration == 0 {
		return
	}
	// A window (s, s+5s] carries the time of its first millisecond, and so would end
	// 1 ms late.
	if p.duration >= 1000 && (p.time+p.duration)%1000 == 1 {
		p.duration--
	}
	// What begins at a slot's end belongs to the next slot.
	if p.time%layout.SlotMs == 0 {
		p.time++
		p.duration--
	}
}

// flows reports whether any value of the piece is spread over its duration.
func (p *piece) flows() bool {
	for c := range p.def.Types {
		if !p.state(c) {
			return true
		}
	}
	return false
}

// state reports whether a sample type is a state, see profile.Type.Cumulative.
func (p *piece) state(c int) bool { return c < 64 && p.source.States>>c&1 == 1 }

// eachPart calls fn with the piece, or with the parts that it is cut into at the ends
// of slots, in order. The first part has the states, the others go on with the flows.
// The parts are valid until fn returns.
func (p *piece) eachPart(fn func(*piece) error) error {
	end := p.time + p.duration
	if p.duration == 0 || !p.flows() || end <= layout.WindowEnd(layout.LevelSlot, p.time) {
		return fn(p)
	}
	parts := (end-1)/layout.SlotMs - (p.time-1)/layout.SlotMs + 1
	grains := int64(0) // in how many parts a sample may be; 0 for all
	if n := int64(len(p.samples)); n*parts > maxPartSamples {
		grains = max(maxPartSamples/n, 1)
	}
	units := p.units()
	for at := p.time; at < end; {
		next := min(layout.WindowEnd(layout.LevelSlot, at), end)
		if next == at { // at a slot's end
			next = min(at+layout.SlotMs, end)
		}
		part := *p
		part.time, part.duration, part.continues = at, next-at, at > p.time
		if part.continues {
			part.time++
			part.duration--
		}
		part.take(p, at-p.time, next-p.time, grains, units)
		if !part.continues || len(part.samples) > 0 {
			if err := fn(&part); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// units are what the values of each sample type are whole numbers of: the time that a
// sample stands for, where the period or a count of samples tells. Parts get whole
// units, so that their values pack as well as those of the whole: merged rows keep
// columns that are multiples of others.
func (p *piece) units() []int64 {
	units := make([]int64, len(p.def.Types))
	for c := range units {
		units[c] = 1
		if p.state(c) {
			continue
		}
		if period := p.source.Period; period > 1 && p.def.Types[c].Unit == p.def.Period.Unit && p.multiples(c, period) {
			units[c] = period
			continue
		}
		for of := range p.def.Types {
			if of == c || p.state(of) || p.def.Types[of].Unit != "count" {
				continue
			}
			ratio := int64(0)
			for _, s := range p.samples {
				if s.Value[of] > 0 {
					ratio = s.Value[c] / s.Value[of]
					break
				}
			}
			if ratio > 1 && !slices.ContainsFunc(p.samples, func(s *googlev1.Sample) bool {
				hi, lo := bits.Mul64(uint64(s.Value[of]), uint64(ratio))
				return hi != 0 || lo != uint64(s.Value[c])
			}) {
				units[c] = ratio
				break
			}
		}
	}
	return units
}

// sampleUnits are the units that are kept with a row: by them the number of samples is
// known. It is nil if a sample type counts them, or the profile has no period.
func (p *piece) sampleUnits() []int64 {
	if p.source.Period <= 1 || counted(p.def.Types) {
		return nil
	}
	return p.units()
}

// counted reports whether one of some sample types is a count.
func counted(types []labelindex.ValueType) bool {
	return slices.ContainsFunc(types, func(t labelindex.ValueType) bool { return t.Unit == "count" })
}

// multiples reports whether every value of a sample type is a multiple of a number.
func (p *piece) multiples(c int, of int64) bool {
	return !slices.ContainsFunc(p.samples, func(s *googlev1.Sample) bool { return s.Value[c]%of != 0 })
}

// take gives a part the samples of the whole for the time from..to since it began, in
// whole units.
func (p *piece) take(whole *piece, from, to, grains int64, units []int64) {
	p.samples, p.tags = nil, nil
	types := len(p.def.Types)
	samples := make([]googlev1.Sample, 0, len(whole.samples))
	values := make([]int64, len(whole.samples)*types)
	share := rowcodec.ShareOf(whole.duration, from, to)
	for i, s := range whole.samples {
		phase := rowcodec.PhaseOf(uint32(i))
		own := values[i*types : (i+1)*types : (i+1)*types]
		some := false
		for c, v := range s.Value {
			switch {
			case p.state(c) && p.continues:
				continue
			case p.state(c):
				own[c] = v
			case grains > 0 && v > grains:
				own[c] = share.OfGrains(v, grains, phase)
			default:
				own[c] = share.Of(v/units[c], phase) * units[c]
			}
			some = some || own[c] != 0
		}
		if !some {
			continue
		}
		samples = append(samples, googlev1.Sample{LocationId: s.LocationId, Value: own})
		p.samples = append(p.samples, &samples[len(samples)-1])
		if i < len(whole.tags) && whole.tags[i] != (rowcodec.Tag{}) {
			p.tag(whole.tags[i])
		}
	}
}
