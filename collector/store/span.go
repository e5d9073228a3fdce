package store

import (
	"math/bits"

	"github.com/flameline/flameline/collector/store/internal/layout"
)

// A span is the part of an epoch from a first to a last slot.
type span struct{ first, last uint16 }

// spanOf is the span of some slots of an hour, of which there is one at least.
func spanOf(hour uint8, slots uint16) span {
	base := uint16(hour) * layout.SlotsPerHour
	return span{base + uint16(bits.TrailingZeros16(slots)), base + uint16(bits.Len16(slots)) - 1}
}

func (s *span) join(o span) { s.first, s.last = min(s.first, o.first), max(s.last, o.last) }

// within narrows a range of an epoch, open at its start, to a span, but not so
// that hours or the day are cut for which there may be a window.
func (s *scanner) within(of span, lo, hi int64) (int64, int64) {
	base := layout.EpochStart(s.epoch)
	from, to := base+int64(of.first)*layout.SlotMs, base+int64(of.last+1)*layout.SlotMs
	if lo == base && hi == base+layout.DayMs && to-from > 3*layout.HourMs {
		return lo, hi
	}
	if h := from / layout.HourMs * layout.HourMs; h >= lo {
		from = h
	}
	if h := (to + layout.HourMs - 1) / layout.HourMs * layout.HourMs; h <= hi {
		to = h
	}
	if to <= s.dropped[layout.LevelHour] {
		to = layout.WindowEnd(layout.LevelDay, to) // there is no other row
	}
	return max(lo, from), min(hi, to)
}
