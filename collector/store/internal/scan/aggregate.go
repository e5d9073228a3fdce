package scan

import (
	"cmp"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// An Aggregate is the sum over the streams of a partition that differ in labels alone:
// those of a service's CPU profiles, say. With its windows a query about the service
// reads as many rows for a thousand pods as for one. They have a stream number of their
// own, which has no profiles and is in no label index; there are none finer than a slot.
type Aggregate struct {
	Stream uint32 // of its windows
	Known  bool   // there is such a stream; else only its contributors can be read
	Hours  [layout.HoursPerEpoch][]Contributor
}

// A Contributor is a stream that has profiles in some slots of an hour.
type Contributor struct {
	Stream uint32
	Slots  uint16
}

// MinContributors is the number of streams in a window from which on their sum is
// stored: the row of one stream serves as well.
const MinContributors = 2

// Add adds slots of a contributor, which may come again for the same hour.
func (a *Aggregate) Add(hour uint8, stream uint32, slots uint16) {
	a.Hours[hour] = append(a.Hours[hour], Contributor{stream, slots})
}

// Active lists the streams that have profiles in a part of an epoch, in order,
// with the part of it from the first to the last of their slots.
func (a *Aggregate) Active(epoch uint32, lo, hi int64) (out []ActiveStream) {
	set := labelindex.SlotsBetween(epoch, lo+1, hi)
	for hour := range uint8(layout.HoursPerEpoch) {
		mask := set[hour]
		if mask == 0 {
			continue
		}
		for _, c := range a.Hours[hour] {
			if c.Slots&mask != 0 {
				out = append(out, ActiveStream{c.Stream, SpanOf(hour, c.Slots&mask)})
			}
		}
	}
	slices.SortFunc(out, func(a, b ActiveStream) int { return cmp.Compare(a.stream, b.stream) })
	n := 0
	for _, c := range out {
		if n > 0 && out[n-1].stream == c.stream {
			out[n-1].Join(c.Span)
			continue
		}
		out[n] = c
		n++
	}
	return out[:n]
}

// An ActiveStream is a stream with the span in which it has profiles.
type ActiveStream struct {
	stream uint32
	Span
}
