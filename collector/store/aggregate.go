package store

import (
	"cmp"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// An aggregate is the sum over the streams of a partition that differ in labels alone:
// those of a service's CPU profiles, say. With its windows a query about the service
// reads as many rows for a thousand pods as for one. They have a stream number of their
// own, which has no profiles and is in no label index; there are none finer than a slot.
type aggregate struct {
	stream uint32 // of its windows
	known  bool   // there is such a stream; else only its contributors can be read
	hours  [layout.HoursPerEpoch][]contributor
}

// A contributor is a stream that has profiles in some slots of an hour.
type contributor struct {
	stream uint32
	slots  uint16
}

// minContributors is the number of streams in a window from which on their sum is
// stored: the row of one stream serves as well.
const minContributors = 2

// add adds slots of a contributor, which may come again for the same hour.
func (a *aggregate) add(hour uint8, stream uint32, slots uint16) {
	a.hours[hour] = append(a.hours[hour], contributor{stream, slots})
}

// active lists the streams that have profiles in a part of an epoch, in order,
// with the part of it from the first to the last of their slots.
func (a *aggregate) active(epoch uint32, lo, hi int64) (out []activeStream) {
	set := labelindex.SlotsBetween(epoch, lo+1, hi)
	for hour := range uint8(layout.HoursPerEpoch) {
		mask := set.Hour(hour)
		if mask == 0 {
			continue
		}
		for _, c := range a.hours[hour] {
			if c.slots&mask != 0 {
				out = append(out, activeStream{c.stream, spanOf(hour, c.slots&mask)})
			}
		}
	}
	slices.SortFunc(out, func(a, b activeStream) int { return cmp.Compare(a.stream, b.stream) })
	n := 0
	for _, c := range out {
		if n > 0 && out[n-1].stream == c.stream {
			out[n-1].join(c.span)
			continue
		}
		out[n] = c
		n++
	}
	return out[:n]
}

type activeStream struct {
	stream uint32
	span
}
