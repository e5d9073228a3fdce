package store

import "math/bits"

// A span is the part of an epoch from a first to a last slot.
type span struct{ first, last uint16 }

// spanOf is the span of some slots of an hour, of which there is one at least.
func spanOf(hour uint8, slots uint16) span {
	base := uint16(hour) * slotsPerHour
	return span{base + uint16(bits.TrailingZeros16(slots)), base + uint16(bits.Len16(slots)) - 1}
}

func (s *span) join(o span) { s.first, s.last = min(s.first, o.first), max(s.last, o.last) }

// within narrows a range of an epoch, open at its start, to a span, but not so
// that hours or the day are cut for which there may be a window.
func (s span) within(by *scanner, lo, hi int64) (int64, int64) {
	base := epochStart(by.epoch)
	from, to := base+int64(s.first)*slotMs, base+int64(s.last+1)*slotMs
	if lo == base && hi == base+dayMs && to-from > 3*hourMs {
		return lo, hi
	}
	if h := from / hourMs * hourMs; h >= lo {
		from = h
	}
	if h := (to + hourMs - 1) / hourMs * hourMs; h <= hi {
		to = h
	}
	if to <= by.gone[levelHour] {
		to = windowEnd(levelDay, to) // there is no other row
	}
	return max(lo, from), min(hi, to)
}
