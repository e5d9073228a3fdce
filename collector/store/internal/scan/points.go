package scan

import (
	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
)

// A PointReader reads points of one sample type out of windows of points, and out of
// the rows of single profiles.
type PointReader struct {
	row  rowcodec.PackedRow
	list rowcodec.PointList
	one  rowcodec.PointValues
}

// Read returns the points of a window that are in (lo, hi], or that of a profile. They
// are valid until the next call.
func (p *PointReader) Read(w Window, sampleType int, lo, hi int64) (rowcodec.PointValues, error) {
	if w.Level != layout.LevelFine {
		err := p.list.Decode(w.Value, w.End-layout.WindowMs[w.Level], sampleType)
		if err != nil {
			return rowcodec.PointValues{}, err
		}
		return p.list.Within(lo, hi), nil
	}
	if err := p.row.DecodeHead(&bitpack.Decoder{Data: w.Value}); err != nil {
		return rowcodec.PointValues{}, err
	}
	v, err := p.row.Total(w.Level, sampleType)
	if err != nil {
		return rowcodec.PointValues{}, err
	}
	p.one = p.one.Empty()
	p.one.Add(w.End, v, p.row.Covers())
	return p.one, nil
}
