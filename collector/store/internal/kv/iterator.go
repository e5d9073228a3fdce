package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// When a block of a table is corrupt, Pebble fails every read that touches it. The
// other keys can be read: those before the table by an iterator whose bound is its first
// key, and those behind the block by one that is placed there. Pebble does not tell which
// keys a block has, so the first position that can be read again is searched for.

// Get is Get of Pebble, with errors about unreadable data that wrap ErrCorrupt.
func (db *DB) Get(key []byte) ([]byte, io.Closer, error) {
	value, closer, err := db.Pebble.Get(key)
	if err != nil && corruption.Unreadable(err) {
		db.unreadableKeys(corruption.Gap{From: key, To: key}, err)
		err = fmt.Errorf("%w: %w", storeerr.ErrCorrupt, err)
	}
	return value, closer, err
}

// Has reports whether there is a key that can be read.
func (db *DB) Has(key []byte) (bool, error) {
	_, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) || errors.Is(err, storeerr.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %x: %w", key, err)
	}
	return true, closer.Close()
}

// An Iterator iterates over the keys of a database that can be read. Of Pebble's
// methods SeekGE, Next, Error and Close are replaced.
type Iterator struct {
	*pebble.Iterator
	lower    []byte // bounds of the keys
	upper    []byte
	found    func(g corruption.Gap, err error) // called with every gap that is passed over
	Complete bool                              // a gap is an error, which wraps ErrCorrupt

	last  []byte // the key that the latest read began from
	after bool   // and that it is not to return
	// stop is the first key of a corrupt table, and Pebble's bound until that is
	// reached; empty if there is none.
	stop []byte
	err  error
}

// NewIterator returns an iterator over the keys from lower up to, but not, upper, which
// calls found with each gap that it passes over.
func NewIterator(r pebble.Reader, lower, upper []byte, found func(corruption.Gap, error)) (*Iterator, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &Iterator{Iterator: it, lower: lower, upper: upper, found: found}, nil
}

// NewIterator is NewIterator for the keys of the database, or of a snapshot. It reports gaps.
func (db *DB) NewIterator(r pebble.Reader, lower, upper []byte) (*Iterator, error) {
	return NewIterator(r, lower, upper, db.unreadableKeys)
}

// SeekGE goes to the first key from key on that can be read.
func (it *Iterator) SeekGE(key []byte) bool {
	it.err = nil
	return it.passGaps(it.seek(key))
}

// Next goes to the next key that can be read.
func (it *Iterator) Next() bool {
	it.last, it.after = append(it.last[:0], it.Key()...), true
	return it.passGaps(it.Iterator.Next())
}

// seek is SeekGE of Pebble.
func (it *Iterator) seek(key []byte) bool {
	it.last, it.after = append(it.last[:0], key...), false
	if len(it.stop) > 0 && bytes.Compare(key, it.stop) >= 0 {
		it.stop = it.stop[:0]
		it.SetBounds(it.lower, it.upper)
	}
	return it.Iterator.SeekGE(it.last)
}

// readUpTo repeats the latest read with another bound.
func (it *Iterator) readUpTo(stop []byte) bool {
	it.stop = append(it.stop[:0], stop...)
	it.SetBounds(it.lower, it.stop)
	ok := it.Iterator.SeekGE(it.last)
	if ok && it.after && bytes.Equal(it.Key(), it.last) {
		ok = it.Iterator.Next()
	}
	return ok
}

func (it *Iterator) Error() error { return it.err }

// Close does not repeat the errors that gaps are.
func (it *Iterator) Close() error {
	if err := it.Iterator.Close(); err != nil && !corruption.Unreadable(err) {
		return err
	}
	return nil
}

func (it *Iterator) passGaps(ok bool) bool {
	for !ok {
		err := it.Iterator.Error()
		if err == nil {
			if len(it.stop) == 0 {
				return false
			}
			ok = it.seek(bytes.Clone(it.stop))
			continue
		}
		if !corruption.Unreadable(err) {
			it.err = err
			return false
		}
		if first := firstOfTable(err); bytes.Compare(first, it.last) > 0 && (len(it.stop) == 0 || bytes.Compare(first, it.stop) < 0) {
			ok = it.readUpTo(first)
			continue
		}
		limit := it.upper
		if len(it.stop) > 0 {
			limit = it.stop
		}
		to := corruption.NextReadable(it.last, limit, func(key []byte) bool {
			return it.Iterator.SeekGE(key) || it.Iterator.Error() == nil || bytes.Compare(firstOfTable(it.Iterator.Error()), key) > 0
		})
		it.found(corruption.Gap{From: it.last, To: to}, err)
		if it.Complete {
			it.err = fmt.Errorf("%w: %w", storeerr.ErrCorrupt, err)
			return false
		}
		if bytes.Equal(to, it.upper) {
			return false
		}
		ok = it.seek(to)
	}
	return true
}

// firstOfTable returns the first key of the table that an error is about, nil if it is not
// known.
func firstOfTable(err error) []byte {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return info.Bounds.Start
	}
	return nil
}

// A GapError says that some keys of a range could not be read. All others were.
type GapError struct {
	corruption.Gap      // from the start of the first gap to the end of the last
	Open           bool // the last keys of the range are among them
	err            error
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%v: keys cannot be read: %v", storeerr.ErrCorrupt, e.err)
}

func (e *GapError) Unwrap() []error { return []error{storeerr.ErrCorrupt, e.err} }

// WithoutGaps is an error unless it is a GapError.
func WithoutGaps(err error) error {
	var g *GapError
	if errors.As(err, &g) {
		return nil
	}
	return err
}

// Each calls fn for every key with a prefix. Key and value are valid during the call
// only. If some keys cannot be read, it ends with a GapError after the others.
func (db *DB) Each(prefix []byte, fn func(key, value []byte) error) error {
	return db.EachIn(db.Pebble, prefix, layout.After(prefix), fn)
}

// EachIn is Each for the keys of the database, or of a snapshot, from lower up to, but
// not, upper.
func (db *DB) EachIn(r pebble.Reader, lower, upper []byte, fn func(key, value []byte) error) (err error) {
	var gaps *GapError
	it, err := NewIterator(r, lower, upper, func(g corruption.Gap, err error) {
		db.unreadableKeys(g, err)
		if gaps == nil {
			gaps = &GapError{Gap: corruption.Gap{From: bytes.Clone(g.From)}, err: err}
		}
		gaps.To, gaps.Open = g.To, bytes.Equal(g.To, upper)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.SeekGE(lower); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(it.Key(), value); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if gaps != nil {
		return gaps
	}
	return nil
}
