package scan

import (
	"errors"
	"math"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A walk visits what a stream, or a service's aggregate, has in a range of time: the
// longest windows that fit into it, and between them finer ones, down to the rows of
// single profiles.
type walk struct {
	*Scanner
	kind      byte // layout.KindRow or KindPoints; of single profiles there are rows alone
	stream    uint32
	aggregate *Aggregate // whose windows the stream has; nil for a stream of profiles
	finest    int        // below it are no rows at the time that is walked through
	sign      int64
	strict    bool // rows that cannot be read are errors, see boundary
	visit     Visit
}

// Stream visits what a stream has at times in (lo, hi], in order of time and with
// windows of level top at most.
//
// Where retention dropped the finer rows, windows of the finest level that is
// left serve, also those above top. A row then counts if its window's end is in
// (lo, hi], so ranges that follow on one another count it once. Points hold
// their times: those of every window that overlaps (lo, hi] are visited, and
// the caller leaves out the times that are not in it.
func (s *Scanner) Stream(kind byte, top int, stream uint32, lo, hi int64, fn Visit) error {
	w := walk{Scanner: s, kind: kind, stream: stream, sign: 1, visit: fn}
	return w.levels(top, lo, hi)
}

// Service is stream for all streams of an aggregate: it visits the aggregate's windows
// and, where it has none, those of its streams.
func (s *Scanner) Service(a *Aggregate, kind byte, top int, lo, hi int64, fn Visit) error {
	w := walk{Scanner: s, kind: kind, stream: a.Stream, aggregate: a, sign: 1, visit: fn}
	if !a.Known {
		return w.fine(lo, hi)
	}
	return w.descend(top, lo, hi)
}

// Profiles visits the rows, or the spans, of single profiles of a stream at times
// in (lo, hi], in order of time. Those that are not in ids are passed over; nil
// means all.
func (s *Scanner) Profiles(kind byte, stream uint32, lo, hi int64, ids map[uint64]bool, fn Visit) error {
	if lo = max(lo, s.Dropped[layout.LevelFine]); lo >= hi {
		return nil
	}
	use := streamRows
	if kind == layout.KindSpans {
		use = spanRows
	}
	r, err := s.rows(use, kind, layout.LevelFine, stream, lo+1, hi, false)
	if err != nil {
		return err
	}
	for r.next() {
		id, ok := layout.KeyID(r.Key())
		if !ok {
			break
		}
		if ids != nil && !ids[id] {
			continue
		}
		value, err := r.value()
		if err != nil {
			return err
		}
		if err := fn(Window{End: r.end, ID: id, Value: value, Sign: 1, Clip: rowcodec.Clip{Hi: math.MaxInt64}}); err != nil {
			if !errors.Is(err, storeerr.ErrCorrupt) {
				return err
			}
			r.corrupt(err)
		}
	}
	return r.err
}

// TopOf is the level of the longest windows of a kind of keys.
func TopOf(kind byte) int {
	if kind == layout.KindPoints {
		return layout.LevelHour
	}
	return layout.LevelDay
}

// levels cuts a range where retention dropped rows of a level, and walks through each
// part with what is left there.
func (w *walk) levels(top int, lo, hi int64) error {
	coarsest := TopOf(w.kind)
	for w.finest = coarsest; w.finest >= layout.LevelFine; w.finest-- {
		from, to := lo, hi
		if w.finest < coarsest {
			from = max(lo, w.Dropped[w.finest])
		}
		if w.finest > layout.LevelFine {
			to = min(hi, w.Dropped[w.finest-1])
		}
		if err := w.descend(max(top, w.finest), from, to); err != nil {
			return err
		}
	}
	return nil
}

// descend visits (lo, hi] by windows of the longest level up to top that fits in.
func (w *walk) descend(top int, lo, hi int64) error {
	if lo >= hi {
		return nil
	}
	for ; top > w.finest; top-- {
		if ms := layout.WindowMs[top]; (lo+ms-1)/ms*ms+ms <= hi {
			break
		}
	}
	if top == layout.LevelFine {
		return w.ends(lo, hi)
	}
	return w.windows(top, lo, hi)
}

// windows visits the windows of a level, or the profiles, and what is between them.
func (w *walk) windows(level int, lo, hi int64) error {
	kind, ms := w.kind, layout.WindowMs[level]
	first, last := lo+1, hi
	switch {
	case level == layout.LevelFine:
		kind = layout.KindRow
		// No row covers the end of a slot.
		first = max(lo-w.Longest, layout.WindowEnd(layout.LevelSlot, lo+1)-layout.SlotMs) + 1
	case level > w.finest:
		first = (lo+ms-1)/ms*ms + ms
	case kind == layout.KindPoints:
		last = layout.WindowEnd(level, hi)
	}
	// In the place of a window that cannot be read, finer rows serve.
	whole := level == w.finest && (w.Complete || w.strict)
	r, err := w.rows(w.use(kind), kind, level, w.stream, first, last, whole)
	if err != nil {
		return err
	}
	at := lo
	for r.next() {
		value, err := r.value()
		if err != nil {
			return err
		}
		if level > w.finest {
			if err := w.descend(level-1, at, r.end-ms); err != nil {
				return err
			}
			at = r.end
		}
		err = w.visit(Window{Level: level, End: r.end, Value: value, Sign: w.sign, Clip: rowcodec.Clip{Lo: lo, Hi: hi}})
		if err == nil {
			continue
		}
		switch {
		case errors.Is(err, storeerr.ErrCorrupt) && !w.strict:
			r.corrupt(err)
		case errors.Is(err, rowcodec.ErrOverflowed) && level > w.finest:
		default:
			return err
		}
		if level > w.finest {
			if err := w.descend(level-1, r.end-ms, r.end); err != nil {
				return err
			}
		}
	}
	if r.err != nil || level == w.finest {
		return r.err
	}
	return w.descend(level-1, at, hi)
}

func (w *walk) use(kind byte) int {
	switch {
	case w.aggregate != nil && kind == layout.KindPoints:
		return servicePoints
	case w.aggregate != nil:
		return serviceRows
	case kind == layout.KindPoints:
		return streamPoints
	}
	return streamRows
}

// fine visits what is finer than a slot: profiles or, of an aggregate, what its streams
// have.
func (w *walk) fine(lo, hi int64) error {
	if lo >= hi {
		return nil
	}
	if w.aggregate == nil {
		return w.windows(layout.LevelFine, lo, hi)
	}
	one := walk{Scanner: w.Scanner, kind: w.kind, sign: w.sign, strict: w.strict, visit: w.visit}
	for _, a := range w.aggregate.Active(w.Epoch, w.Dropped.FirstContributing(lo+1)-1, hi) {
		from, to := w.Within(a.Span, lo, hi)
		one.stream = a.stream
		if err := one.levels(TopOf(w.kind), from, to); err != nil {
			return err
		}
	}
	return nil
}

// ends visits what is in (lo, hi], where no window fits in, slot by slot at its ends.
func (w *walk) ends(lo, hi int64) error {
	if !w.Subtract || w.strict {
		return w.fine(lo, hi)
	}
	first, last := layout.WindowEnd(layout.LevelSlot, lo+1), layout.WindowEnd(layout.LevelSlot, hi)
	err := w.boundary(first, lo, min(first, hi))
	if err == nil {
		err = w.fine(first, last-layout.SlotMs)
	}
	if err == nil && first < last {
		err = w.boundary(last, last-layout.SlotMs, hi)
	}
	return err
}

// boundary visits the part (lo, hi] of the slot that ends at end. If that is most of
// the slot, it visits the profiles of the slot that are not in the part, which are fewer,
// with the sign -1, and then the slot's window.
//
// Where rows are missing, as a corrupt or closed dictionary says, the window may have
// what was in them, wherever it was; then Scanner.Subtract has to be off.
func (w *walk) boundary(end, lo, hi int64) error {
	start := end - layout.SlotMs
	if length := hi - lo; length <= layout.SlotMs*3/5 || length == layout.SlotMs || start < w.Dropped[layout.LevelFine] {
		return w.fine(lo, hi)
	}
	r, err := w.rows(boundaryRows, layout.KindRow, layout.LevelSlot, w.stream, end, end, false)
	if err != nil {
		return err
	}
	if !r.next() {
		if r.err != nil {
			return r.err
		}
		return w.fine(lo, hi)
	}
	value, err := r.value()
	if err != nil {
		return err
	}
	rest := func(sign int64) error {
		others := *w
		others.sign, others.strict = sign, true
		err := others.fine(start, lo)
		if err == nil {
			err = others.fine(hi, end)
		}
		return err
	}
	if err = rest(-1); err == nil {
		if err = w.visit(Window{Level: layout.LevelSlot, End: end, Value: value, Sign: 1}); err == nil {
			return nil
		}
		if errors.Is(err, storeerr.ErrCorrupt) {
			r.corrupt(err)
		}
	}
	if !errors.Is(err, storeerr.ErrCorrupt) && !errors.Is(err, rowcodec.ErrOverflowed) {
		return err
	}
	// A row that cannot be read cannot be taken off, nor has a window then what was taken
	// off. Undo it: the same rows come again, up to that one.
	if again := rest(1); again != nil && !errors.Is(again, storeerr.ErrCorrupt) {
		return again
	}
	return w.fine(lo, hi)
}
