// Package scan reads what streams, and the sums over a service's streams, have in a range
// of time: the longest windows that fit into the range, and finer rows elsewhere.
//
// What is to be read, and what becomes of it, is up to the packages above.
package scan

import (
	"context"
	"errors"
	"fmt"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// A Scanner reads rows and points of an epoch over time: walk.go has the way through
// the levels. It is not safe for concurrent use.
type Scanner struct {
	kv      *kv.DB
	Ctx     context.Context
	From    *epochs.Snapshot
	Epoch   uint32
	Dropped watermark.Watermark

	Longest  int64 // how far before a range a row may begin that covers a part of it, ms
	Subtract bool  // visitors heed Window.Sign, see walk.boundary
	// Complete makes rows that cannot be read an error, which wraps ErrCorrupt, instead
	// of leaving them out: of some profiles no window is to be made.
	Complete bool

	iters [iteratorUses][layout.Levels]*kv.Iterator
	key   []byte
	Seen  int   // values
	bytes int64 // of them
}

// What a scanner has iterators for, one for each level: while a walk is at a window,
// others go through what is between that and the one before.
const (
	streamRows = iota
	streamPoints
	serviceRows
	servicePoints
	spanRows
	boundaryRows
	iteratorUses
)

// A Window is what a stream, or a service's aggregate, has in a window of time, or one
// profile's row. It is valid during a visit only.
type Window struct {
	Level int
	End   int64  // of the window, or the profile's time, ms
	ID    uint64 // of the profile, where single profiles are asked for
	Value []byte
	Sign  int64         // 1, or -1 for a profile that is to be taken off again
	Clip  rowcodec.Clip // what counts of a profile: it may begin before the range, or end after it
}

// A Visit handles a window. If it returns an error that wraps ErrCorrupt or is
// rowcodec.ErrOverflowed, the window is read from finer rows; a profile with a corrupt
// row is left out.
type Visit func(w Window) error

// New returns a scanner of an epoch as a snapshot has it. The caller closes it.
func New(ctx context.Context, kv *kv.DB, from *epochs.Snapshot, epoch uint32) *Scanner {
	return &Scanner{kv: kv, Ctx: ctx, From: from, Epoch: epoch, Dropped: from.Watermarks[epoch].Watermark(epoch)}
}

// Close closes the iterators, and counts what was read.
func (s *Scanner) Close() (err error) {
	s.kv.Metrics.ReadRows.Add(float64(s.Seen))
	s.kv.Metrics.ReadBytes.Add(float64(s.bytes))
	for _, levels := range s.iters {
		for _, it := range levels {
			if it != nil {
				err = errors.Join(err, it.Close())
			}
		}
	}
	return err
}

// rows go through the values of a stream at one level, in order of time.
type rows struct {
	*kv.Iterator
	s      *Scanner
	stream uint32
	last   int64
	end    int64 // of the current window, or the profile's time, ms
	placed bool
	err    error // what ended it early
}

// rows returns the values of a stream whose windows end, or whose profiles are, at
// first to last. With complete a value that cannot be read is an error; else it is
// left out. There is one for each use and level at a time.
func (s *Scanner) rows(use int, kind byte, level int, stream uint32, first, last int64, complete bool) (rows, error) {
	it := s.iters[use][level]
	if it == nil {
		prefix := layout.LevelPrefix(s.Epoch, kind, level)
		var err error
		if it, err = s.kv.NewIterator(s.From, prefix, layout.After(prefix)); err != nil {
			return rows{}, err
		}
		s.iters[use][level] = it
	}
	it.Complete = complete
	s.key = layout.AppendWindowKey(s.key[:0], s.Epoch, kind, level, stream, first)
	return rows{Iterator: it, s: s, stream: stream, last: last}, nil
}

// next goes to the next value, and reports whether there is one. The first call comes
// right after rows.
func (r *rows) next() bool {
	var ok bool
	if r.placed {
		ok = r.Next()
	} else {
		ok, r.placed = r.SeekGE(r.s.key), true
	}
	if !ok {
		r.err = r.Error()
		return false
	}
	end, ok := layout.WindowTime(r.Key())
	if !ok || layout.KeyStream(r.Key()) != r.stream || end > r.last {
		return false
	}
	r.end = end
	if r.s.Seen++; r.s.Seen%64 == 0 {
		r.err = r.s.Ctx.Err()
	}
	return r.err == nil
}

// value is valid until the next call of next.
func (r *rows) value() ([]byte, error) {
	value, err := r.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("read row %x: %w", r.Key(), err)
	}
	r.s.bytes += int64(len(value))
	return value, nil
}

// corrupt reports that the current value cannot be decoded.
func (r *rows) corrupt(err error) { r.s.kv.Corrupt(fmt.Errorf("read row %x: %w", r.Key(), err)) }
