package store

import (
	"errors"
	"fmt"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// edges are how a scanner reads the ends of a time range, where no window fits in.
type edges struct {
	// less says that rows may be taken off: of a slot that is in the range for the
	// most part, the merged row is visited, and then, with the sign -1, what is not
	// in the range. That is fewer rows than those that are. Visits heed the sign.
	// Where rows are missing, as a corrupt or closed dictionary says, a merged row may
	// have what was in them, wherever it was.
	less   bool
	sign   int64
	strict bool // rows that cannot be read are errors
	slots  *gapIterator
}

// coverEdges visits the profiles of a stream, or a family, in (lo, hi] by direct, or
// where it is shorter, windows less other profiles.
func (s *scanner) coverEdges(stream uint32, lo, hi int64, direct func(lo, hi int64) error, fn visit) error {
	if !s.edges.less || s.edges.strict {
		return direct(lo, hi)
	}
	first, last := layout.WindowEnd(layout.LevelSlot, lo+1), layout.WindowEnd(layout.LevelSlot, hi)
	if first == last {
		return s.coverEdge(stream, last, lo, hi, direct, fn)
	}
	if err := s.coverEdge(stream, first, lo, first, direct, fn); err != nil {
		return err
	}
	last -= layout.SlotMs
	if first < last {
		if err := direct(first, last); err != nil {
			return err
		}
	}
	return s.coverEdge(stream, last+layout.SlotMs, last, hi, direct, fn)
}

// coverEdge is coverEdges within a slot, which ends at end.
func (s *scanner) coverEdge(stream uint32, end, lo, hi int64, direct func(lo, hi int64) error, fn visit) error {
	start := end - layout.SlotMs
	if length := hi - lo; length <= layout.SlotMs*3/5 || length == layout.SlotMs || start < s.gone[layout.LevelFine] {
		return direct(lo, hi)
	}
	value, err := s.slotRow(stream, end)
	if err != nil {
		return err
	}
	if value == nil {
		return direct(lo, hi)
	}
	if err := fn(layout.LevelSlot, end, value); err != nil {
		switch {
		case errors.Is(err, storeerr.ErrCorrupt):
			s.db.kv.corrupt(fmt.Errorf("read row of stream %d: %w", stream, err))
		case errors.Is(err, rowcodec.ErrOverflowed):
		default:
			return err
		}
		return direct(lo, hi)
	}
	rest := func(sign int64) error {
		s.edges.sign, s.edges.strict = sign, true
		defer func() { s.edges.sign, s.edges.strict = 1, false }()
		err := direct(start, lo)
		if err == nil {
			err = direct(hi, end)
		}
		return err
	}
	err = rest(-1)
	if !errors.Is(err, storeerr.ErrCorrupt) {
		return err
	}
	// A row that cannot be read cannot be taken off. Undo it: the same rows come
	// again, up to that one.
	if again := rest(1); !errors.Is(again, storeerr.ErrCorrupt) {
		return errors.Join(again, err)
	}
	s.edges.sign = -1
	err = fn(layout.LevelSlot, end, value)
	s.edges.sign = 1
	if err != nil {
		return err
	}
	return direct(lo, hi)
}

// slotRow is the row of a slot, or nil if there is none. It is valid until the next
// call.
func (s *scanner) slotRow(stream uint32, end int64) ([]byte, error) {
	it, err := s.open(&s.edges.slots, layout.KindRow, layout.LevelSlot)
	if err != nil {
		return nil, err
	}
	key := layout.WindowKey(s.epoch, layout.KindRow, layout.LevelSlot, stream, end)
	if !it.SeekGE(key) || string(it.Key()) != string(key) {
		return nil, it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("read row %x: %w", key, err)
	}
	s.seen++
	s.bytes += int64(len(value))
	return value, nil
}
