package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A scanner reads the rows or points of streams of an epoch over time, from the
// longest windows that fit in and from finer rows elsewhere. It is not safe for
// concurrent use.
type scanner struct {
	db    *DB
	ctx   context.Context
	from  *snapshot
	epoch uint32
	gone  horizon
	iters [2][layout.Levels]*gapIterator // of rows, of points
	key   []byte
	seen  int   // values
	bytes int64 // of them

	windows [2][layout.Levels]*gapIterator // of families
	spans   *gapIterator

	// complete makes rows that cannot be read an error, which wraps ErrCorrupt, instead
	// of leaving them out: of some profiles no window is to be made.
	complete bool

	edges   edges
	longest int64               // how far before a range a row may begin that covers a part of it, ms
	hold    *budget.Reservation // whose memory is used, nil for none
	clip    rowcodec.Clip       // the range that the visited profile is to be cut to
}

func (db *DB) newScanner(ctx context.Context, from *snapshot, epoch uint32) *scanner {
	return &scanner{db: db, ctx: ctx, from: from, epoch: epoch, gone: from.horizons[epoch]}
}

func (s *scanner) close() (err error) {
	s.db.metrics.readRows.Add(float64(s.seen))
	s.db.metrics.readBytes.Add(float64(s.bytes))
	for _, its := range append(s.iters[:], s.windows[:]...) {
		for _, it := range its {
			if it != nil {
				err = errors.Join(err, it.Close())
			}
		}
	}
	for _, it := range []*gapIterator{s.spans, s.edges.slots} {
		if it != nil {
			err = errors.Join(err, it.Close())
		}
	}
	return err
}

// iter returns one of the iterators of streams, or of families.
func (s *scanner) iter(of *[2][layout.Levels]*gapIterator, kind byte, level int) (*gapIterator, error) {
	if kind == layout.KindPoints {
		return s.open(&of[1][level], kind, level)
	}
	return s.open(&of[0][level], kind, level)
}

// open returns an iterator over the keys of a level, which it makes if there is none.
func (s *scanner) open(at **gapIterator, kind byte, level int) (_ *gapIterator, err error) {
	if *at == nil {
		prefix := layout.LevelPrefix(s.epoch, kind, level)
		*at, err = s.db.kv.newGapIterator(s.from, prefix, layout.After(prefix), nil)
	}
	return *at, err
}

// A visit handles a value that holds what the stream has in a window, or at a
// time if level is layout.LevelFine. If it returns an error that wraps ErrCorrupt, the
// window is read from finer rows, and so it is if it returns rowcodec.ErrOverflowed. The value
// is valid during the call only. A profile may begin before the range, or end after
// it: scanner.clip is what counts of it.
type visit func(level int, end int64, value []byte) error

// cover visits what a stream has at times in (lo, hi], in order of time and with
// windows of level top at most. Values of kind layout.KindPoints end at layout.LevelFine, where
// rows serve.
//
// Where retention dropped the finer rows, windows of the finest level that is
// left serve, also those above top. A row then counts if its window's end is in
// (lo, hi], so ranges that follow on one another count it once. Points hold
// their times: those of every window that overlaps (lo, hi] are visited, and
// the caller leaves out the times that are not in it.
func (s *scanner) cover(kind byte, top int, stream uint32, lo, hi int64, fn visit) error {
	coarsest := layout.LevelDay
	if kind == layout.KindPoints {
		coarsest = layout.LevelHour
	}
	for finest := coarsest; finest >= layout.LevelFine; finest-- {
		from, to := lo, hi
		if finest < coarsest {
			from = max(lo, s.gone[finest])
		}
		if finest > layout.LevelFine {
			to = min(hi, s.gone[finest-1])
		}
		if err := s.descend(kind, max(top, finest), finest, stream, from, to, fn); err != nil {
			return err
		}
	}
	return nil
}

// descend is cover for times of which there are rows of level finest and above.
func (s *scanner) descend(kind byte, top, finest int, stream uint32, lo, hi int64, fn visit) error {
	if lo >= hi {
		return nil
	}
	w := layout.WindowMs[top]
	if top > finest && (lo+w-1)/w*w+w > hi {
		return s.descend(kind, top-1, finest, stream, lo, hi, fn)
	}
	if top == layout.LevelFine {
		return s.coverEdges(stream, lo, hi, func(lo, hi int64) error { return s.coverWindows(layout.KindRow, top, finest, stream, lo, hi, fn) }, fn)
	}
	return s.coverWindows(kind, top, finest, stream, lo, hi, fn)
}

// coverWindows visits the windows of a level, or the profiles, and what is between
// them.
func (s *scanner) coverWindows(kind byte, top, finest int, stream uint32, lo, hi int64, fn visit) error {
	w := layout.WindowMs[top]
	first, last := lo+1, hi
	switch {
	case top == layout.LevelFine:
		// No row covers the end of a slot.
		first = max(lo-s.longest, layout.WindowEnd(layout.LevelSlot, lo+1)-layout.SlotMs) + 1
	case top > finest:
		first = (lo+w-1)/w*w + w
	case kind == layout.KindPoints:
		last = layout.WindowEnd(top, hi)
	}
	it, err := s.iter(&s.iters, kind, top)
	if err != nil {
		return err
	}
	// In the place of a window that cannot be read, finer rows serve.
	it.complete = top == finest && (s.complete || s.edges.strict)
	s.key = layout.AppendWindowKey(s.key[:0], s.epoch, kind, top, stream, first)
	at := lo
	for ok := it.SeekGE(s.key); ok; ok = it.Next() {
		key := it.Key()
		if len(key) < 18 || layout.KeyStream(key) != stream {
			break
		}
		end, _ := layout.WindowTime(key)
		if end > last {
			break
		}
		if s.seen++; s.seen%64 == 0 && s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read row %x: %w", key, err)
		}
		s.bytes += int64(len(value))
		if top > finest {
			if err := s.descend(kind, top-1, finest, stream, at, end-w, fn); err != nil {
				return err
			}
			at = end
		}
		s.clip = rowcodec.Clip{Lo: lo, Hi: hi}
		if err := fn(top, end, value); err != nil {
			switch {
			case errors.Is(err, storeerr.ErrCorrupt) && !s.edges.strict:
				s.db.kv.corrupt(fmt.Errorf("read row %x: %w", key, err))
			case errors.Is(err, rowcodec.ErrOverflowed) && top > finest:
			default:
				return err
			}
			if top > finest {
				if err := s.descend(kind, top-1, finest, stream, end-w, end, fn); err != nil {
					return err
				}
			}
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if top == finest {
		return nil
	}
	return s.descend(kind, top-1, finest, stream, at, hi, fn)
}
