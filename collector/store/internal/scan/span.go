package scan

import (
	"math/bits"

	"github.com/flameline/flameline/collector/store/internal/layout"
)

// A Span is the part of an epoch from a first to a last slot.
type Span struct{ First, Last uint16 }

// SpanOf is the span of some slots of an hour, of which there is one at least.
func SpanOf(hour uint8, slots uint16) Span {
	base := uint16(hour) * layout.SlotsPerHour
	return Span{base + uint16(bits.TrailingZeros16(slots)), base + uint16(bits.Len16(slots)) - 1}
}

// Join widens the span to have another one too.
func (s *Span) Join(o Span) { s.First, s.Last = min(s.First, o.First), max(s.Last, o.Last) }

// Within narrows a range of an epoch, open at its start, to a span, but not so
// that hours or the day are cut for which there may be a window.
func (s *Scanner) Within(of Span, lo, hi int64) (int64, int64) {
	base := layout.EpochStart(s.Epoch)
	from, to := base+int64(of.First)*layout.SlotMs, base+int64(of.Last+1)*layout.SlotMs
	if lo == base && hi == base+layout.DayMs && to-from > 3*layout.HourMs {
		return lo, hi
	}
	if h := from / layout.HourMs * layout.HourMs; h >= lo {
		from = h
	}
	if h := (to + layout.HourMs - 1) / layout.HourMs * layout.HourMs; h <= hi {
		to = h
	}
	if to <= s.Dropped[layout.LevelHour] {
		to = layout.WindowEnd(layout.LevelDay, to) // there is no other row
	}
	return max(lo, from), min(hi, to)
}
