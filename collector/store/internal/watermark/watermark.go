// Package watermark says which rows retention has dropped from an epoch.
package watermark

import (
	"encoding/binary"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// A Watermark is, for each level, the time in ms up to which retention has dropped the
// rows of an epoch; 0 if all are there. It is a multiple of an hour, and no finer level
// has an earlier one. The day's row is dropped with the epoch.
type Watermark [layout.Levels]int64

// FirstContributing is the start of the finest window that still exists at t: what is
// read from t on includes profiles from there on.
func (at Watermark) FirstContributing(t int64) int64 {
	for level := layout.LevelDay; level > layout.LevelFine; level-- {
		if t <= at[level-1] {
			return layout.WindowEnd(level, t) - layout.WindowMs[level] + 1
		}
	}
	return t
}

// Hours is a watermark in whole hours of its epoch, as it is stored.
type Hours [layout.LevelDay]uint8

// Max is the later of two watermarks, level by level.
func (h Hours) Max(o Hours) Hours {
	for level := range h {
		h[level] = max(h[level], o[level])
	}
	return h
}

// Watermark is the watermark of an epoch.
func (h Hours) Watermark(epoch uint32) (at Watermark) {
	for level, n := range h {
		if n > 0 {
			at[level] = layout.EpochStart(epoch) + int64(n)*layout.HourMs
		}
	}
	return at
}

// Append appends the encoding: a varint for each level.
func (h Hours) Append(b []byte) []byte {
	for _, n := range h {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// Read reads what Append wrote.
func Read(value []byte) (h Hours, err error) {
	r := bitpack.Decoder{Data: value}
	for level := range h {
		h[level] = uint8(r.Below(layout.HoursPerEpoch+1, "hours"))
		if level > 0 && h[level] > h[level-1] {
			r.Fail("hours of a coarser level")
		}
	}
	return h, r.End()
}
