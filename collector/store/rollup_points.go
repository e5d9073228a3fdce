package store

import (
	"cmp"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
)

// addPoints adds a stream's points, or a profile's row.
func (m *merger) addPoints(list *rowcodec.PointList, w scan.Window) error {
	if w.Level == layout.LevelFine {
		if err := m.row.DecodeHead(&bitpack.Decoder{Data: w.Value}); err != nil {
			return err
		}
		if err := m.row.Single(); err != nil {
			return err
		}
		return m.addPoint(w.End)
	}
	for c := range m.totals {
		if err := list.Decode(w.Value, w.End-layout.WindowMs[w.Level], c); err != nil {
			for before := range c {
				m.totals[before] = m.totals[before][:len(m.times)]
			}
			return err
		}
		m.totals[c] = append(m.totals[c], list.Values...)
	}
	m.times, m.covers = append(m.times, list.Times...), append(m.covers, list.Covers...)
	return nil
}

// sortPoints brings the points into the order of their times.
func (m *merger) sortPoints() {
	if slices.IsSorted(m.times) {
		return
	}
	order := make([]int, len(m.times))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.times[a], m.times[b]) })
	for _, list := range append([][]int64{m.times}, m.totals...) {
		sorted := make([]int64, len(list))
		for i, from := range order {
			sorted[i] = list[from]
		}
		copy(list, sorted)
	}
	covers := make([]uint64, len(order))
	for i, from := range order {
		covers[i] = m.covers[from]
	}
	copy(m.covers, covers)
}
