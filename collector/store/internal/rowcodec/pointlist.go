// Package rowcodec encodes what the store keeps of profiles: rows, which have values by node, spans and points.
package rowcodec

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A PointList holds the times and the totals of the profiles in a window.
type PointList struct {
	Times  []int64
	Values []int64 // of one sample type
	// Covers are the times that the profiles cover, twice in ms, plus 1 for one that
	// goes on with a profile from an earlier slot.
	Covers []uint64
	tmp    []uint64
}

// AppendPoints encodes points of several sample types: totals[c][i] is at
// times[i], of a profile that covers covers[i], as in pointList. Times are ascending
// and after start.
func AppendPoints(b []byte, start int64, times []int64, totals [][]int64, covers []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(totals)))
	b = binary.AppendUvarint(b, uint64(len(times)))
	tmp := make([]uint64, 0, len(times))
	last := start
	for _, t := range times {
		tmp, last = append(tmp, uint64(t-last)), t
	}
	b = bitpack.AppendColumn(b, tmp)
	for _, vs := range totals {
		d := commonDivisor(vs)
		b = binary.AppendUvarint(b, uint64(d))
		tmp = tmp[:0]
		for _, v := range vs {
			tmp = append(tmp, uint64(v/d))
		}
		b = bitpack.AppendColumn(b, tmp)
	}
	return appendCovers(b, covers, tmp)
}

// appendCovers appends what the profiles cover: 1 and the number that all share, or
// 0 and a column of the differences, zigzag, from each to the next, the first from 0.
func appendCovers(b []byte, covers, tmp []uint64) []byte {
	if len(covers) == 0 {
		return b
	}
	if !slices.ContainsFunc(covers, func(c uint64) bool { return c != covers[0] }) {
		return binary.AppendUvarint(append(b, 1), covers[0])
	}
	tmp = tmp[:0]
	last := int64(0)
	for _, c := range covers {
		d := int64(c) - last
		tmp, last = append(tmp, uint64(d<<1)^uint64(d>>63)), int64(c)
	}
	return bitpack.AppendColumn(append(b, 0), tmp)
}

// decodeCovers reads what appendCovers wrote. Points of earlier programs have
// nothing there, and profiles without a duration.
func (l *PointList) decodeCovers(r *bitpack.Decoder, n int) error {
	l.Covers = reuse.Grow(l.Covers, n)
	if r.Err != nil || r.Off == len(r.Data) {
		clear(l.Covers)
		return r.End()
	}
	switch mode := r.Byte("duration mode"); mode {
	case 1:
		c := r.Uvarint("duration")
		if c > 2*layout.DayMs+1 {
			r.Fail("duration")
		}
		for i := range l.Covers {
			l.Covers[i] = c
		}
		return r.End()
	case 0:
	default:
		r.Off--
		r.Fail("duration mode")
	}
	column := r.Column("durations")
	if err := r.End(); err != nil {
		return err
	}
	l.tmp = reuse.Grow(l.tmp, n)
	if !column.Decode(l.tmp) {
		return fmt.Errorf("%w: durations end early", storeerr.ErrCorrupt)
	}
	last := int64(0)
	for i, d := range l.tmp {
		if last += int64(d>>1) ^ -int64(d&1); last < 0 || last > 2*layout.DayMs+1 {
			return fmt.Errorf("%w: a duration of %d ms", storeerr.ErrCorrupt, last>>1)
		}
		l.Covers[i] = uint64(last)
	}
	return nil
}

// Within returns the points at times in (lo, hi].
func (l *PointList) Within(lo, hi int64) PointValues {
	first := sort.Search(len(l.Times), func(i int) bool { return l.Times[i] > lo })
	end := sort.Search(len(l.Times), func(i int) bool { return l.Times[i] > hi })
	return PointValues{l.Times[first:end], l.Values[first:end], l.Covers[first:end]}
}

// Decode reads the points of one sample type of a window that begins at start.
func (l *PointList) Decode(value []byte, start int64, sampleType int) error {
	r := bitpack.Decoder{Data: value}
	types := r.Count(2, "sample type count")
	n := r.Rows("point count")
	times := r.Column("times")
	var values bitpack.Column
	divisor := uint64(1)
	for c := range types {
		d := r.Uvarint("divisor")
		col := r.Column("totals")
		if c == sampleType {
			divisor, values = d, col
		}
	}
	if r.Err != nil {
		return r.Err
	}
	if sampleType >= types || divisor == 0 || divisor > math.MaxInt64 {
		return fmt.Errorf("%w: sample type %d of %d", storeerr.ErrCorrupt, sampleType, types)
	}
	if err := l.decodeCovers(&r, n); err != nil {
		return err
	}
	l.tmp, l.Times, l.Values = reuse.Grow(l.tmp, n), slices.Grow(l.Times[:0], n)[:n], slices.Grow(l.Values[:0], n)[:n]
	if !times.Decode(l.tmp) {
		return fmt.Errorf("%w: times end early", storeerr.ErrCorrupt)
	}
	t := start
	for i, d := range l.tmp {
		if d > layout.DayMs {
			return fmt.Errorf("%w: time %d ms after the one before", storeerr.ErrCorrupt, d)
		}
		t += int64(d)
		l.Times[i] = t
	}
	if !values.Decode(l.tmp) {
		return fmt.Errorf("%w: totals end early", storeerr.ErrCorrupt)
	}
	for i, v := range l.tmp {
		l.Values[i] = int64(v * divisor)
	}
	return nil
}

// PointValues are the values of profiles at times, with what each covers.
type PointValues struct {
	Times, Values []int64
	Covers        []uint64
}

// Empty returns no values, with the memory of v.
func (v PointValues) Empty() PointValues {
	return PointValues{v.Times[:0], v.Values[:0], v.Covers[:0]}
}

// Add adds a point.
func (v *PointValues) Add(t, value int64, covers uint64) {
	v.Times, v.Values, v.Covers = append(v.Times, t), append(v.Values, value), append(v.Covers, covers)
}
