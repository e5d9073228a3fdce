package rowcodec

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// TickMs is the precision, in ms, to which the times of single samples are kept. Tick n is
// the time from n · TickMs, which is not in it, to (n+1) · TickMs.
const TickMs = 20

// TickOf is the tick of a time in Unix ns, above 0.
func TickOf(ns int64) int64 { return (ns - 1) / (TickMs * 1e6) }

// A Stamp is when a sample was taken.
type Stamp struct {
	Time   int64 // Unix ns
	Sample *googlev1.Sample
}

// Times are what the samples of a profile have by tick, less the tick that the profile
// begins in.
type Times struct {
	Ticks  []uint32  // ascending
	Values [][]int64 // [sample type][index in Ticks]
}

// NewTimes returns the times of samples of some sample types, of a row that begins at t and
// covers d, in ms. Samples at other times are left out. If none is left, it returns nil.
func NewTimes(stamps []Stamp, types int, t, d int64) *Times {
	first, last := TickOf(t*1e6), TickOf(min(t+d, math.MaxInt64/1_000_000)*1e6)
	order := make([]uint64, 0, len(stamps))
	for i, s := range stamps {
		if n := TickOf(s.Time); s.Time > 0 && n >= first && n <= last {
			order = append(order, uint64(n-first)<<32|uint64(i))
		}
	}
	if len(order) == 0 {
		return nil
	}
	slices.Sort(order)
	ts := &Times{Values: make([][]int64, types)}
	ts.Ticks = appendSums(nil, ts.Values, order, func(i uint32) []int64 { return stamps[i].Sample.Value })
	return ts
}

// timesFollow is the byte after the values of a row that has times.
const timesFollow = 1

// append appends the encoding, which FORMAT.md describes.
func (t *Times) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, timesFollow), uint64(len(t.Ticks)))
	tmp := appendGaps(make([]uint64, 0, len(t.Ticks)), t.Ticks)
	return appendTypes(bitpack.AppendColumn(b, tmp), t.Values, nil, tmp)
}

// maxTicks is more than the ticks of the longest time that a profile covers.
const maxTicks = layout.DayMs/TickMs + 2

// Times decodes the times of a decoded row into to, whose memory it reuses. It reports
// whether there are any.
func (p *PackedRow) Times(to *PackedRow) (bool, error) {
	if len(p.times) == 0 {
		return false, nil
	}
	r := bitpack.Decoder{Data: p.times, Off: 1}
	if to.Count = r.Rows("tick count"); to.Count == 0 {
		r.Fail("tick count")
		return false, r.Err
	}
	to.Nodes = r.Column("ticks")
	if err := to.decodeTypes(&r, len(p.Totals)); err != nil {
		return false, err
	}
	return true, r.End()
}

// EachTick calls fn with every tick of times, which PackedRow.Times decoded, and its value
// of one sample type, unless that is 0. If there is an error, it calls it with none.
func (p *PackedRow) EachTick(sampleType int, s *Scratch, fn func(tick uint32, v int64)) error {
	return p.each(sampleType, maxTicks, s, fn)
}

// CheckTimes checks the times of a decoded row: there is at most what the row has.
func (p *PackedRow) CheckTimes(level int) error {
	var times PackedRow
	some, err := p.Times(&times)
	if err != nil || !some {
		return err
	}
	if level != layout.LevelFine {
		return fmt.Errorf("%w: times of samples of several profiles", storeerr.ErrCorrupt)
	}
	var tmp Scratch
	for c, total := range p.Totals {
		sum := int64(0)
		if err := times.EachTick(c, &tmp, func(_ uint32, v int64) { sum += v }); err != nil {
			return err
		}
		if sum < 0 || sum > total {
			return fmt.Errorf("%w: total %d of sample type %d, its samples with times have %d", storeerr.ErrCorrupt, total, c, sum)
		}
	}
	return nil
}

// DropTimes forgets the times, which refer to the value's bytes.
func (p *PackedRow) DropTimes() { p.times = nil }

// checkTimes checks what follows the values of a row.
func checkTimes(tail []byte) error {
	if len(tail) > 0 && tail[0] != timesFollow {
		return fmt.Errorf("%w: %d bytes too many", storeerr.ErrCorrupt, len(tail))
	}
	return nil
}
