package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// When a block of a table is corrupt, Pebble fails every read that touches it. The
// other keys can be read: an iterator that is placed behind the block goes on. Pebble
// does not tell which keys a block has, so the first position that can be read again
// is searched for.

// get is Get of Pebble, with errors about unreadable data that wrap ErrCorrupt.
func (db *kvDB) get(key []byte) ([]byte, io.Closer, error) {
	value, closer, err := db.pebble.Get(key)
	if err != nil && corruption.Unreadable(err) {
		db.unreadableKeys(corruption.Gap{From: key, To: key}, err)
		err = fmt.Errorf("%w: %w", storeerr.ErrCorrupt, err)
	}
	return value, closer, err
}

// has reports whether there is a key that can be read.
func (db *kvDB) has(key []byte) (bool, error) {
	_, closer, err := db.get(key)
	if errors.Is(err, pebble.ErrNotFound) || errors.Is(err, storeerr.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %x: %w", key, err)
	}
	return true, closer.Close()
}

// A gapIterator iterates over the keys of a database that can be read. Of Pebble's
// methods SeekGE, Next, Error and Close are replaced.
type gapIterator struct {
	*pebble.Iterator
	upper    []byte // bound of the keys
	known    *gaps
	found    func(g corruption.Gap, err error) // called with every gap that is passed over
	complete bool                              // a gap is an error, which wraps ErrCorrupt

	last []byte // the key that the latest read began from
	err  error
}

// newGapIterator returns an iterator over the keys from lower up to, but not, upper.
// With found it is told of gaps, which the database reports.
func (db *kvDB) newGapIterator(r pebble.Reader, lower, upper []byte, found func(corruption.Gap, error)) (*gapIterator, error) {
	return newIterator(r, lower, upper, &db.gaps, func(g corruption.Gap, err error) {
		db.unreadableKeys(g, err)
		if found != nil {
			found(g, err)
		}
	})
}

// newIterator returns an iterator over the keys from lower up to, but not, upper. It knows
// some gaps, and calls found with each that it passes over.
func newIterator(r pebble.Reader, lower, upper []byte, known *gaps, found func(corruption.Gap, error)) (*gapIterator, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &gapIterator{Iterator: it, upper: upper, known: known, found: found}, nil
}

func (it *gapIterator) SeekGE(key []byte) bool {
	it.err = nil
	it.last = append(it.last[:0], key...)
	return it.passGaps(it.Iterator.SeekGE(key))
}

func (it *gapIterator) Next() bool {
	it.last = append(it.last[:0], it.Key()...)
	return it.passGaps(it.Iterator.Next())
}

func (it *gapIterator) Error() error { return it.err }

// Close does not repeat the errors that gaps are.
func (it *gapIterator) Close() error {
	if err := it.Iterator.Close(); err != nil && !corruption.Unreadable(err) {
		return err
	}
	return nil
}

func (it *gapIterator) passGaps(ok bool) bool {
	for !ok {
		err := it.Iterator.Error()
		if err == nil {
			return false
		}
		if !corruption.Unreadable(err) {
			it.err = err
			return false
		}
		to := it.known.end(it.last)
		if to == nil || bytes.Compare(to, it.upper) > 0 {
			to = corruption.NextReadable(it.last, it.upper, func(key []byte) bool {
				return it.Iterator.SeekGE(key) || it.Iterator.Error() == nil
			})
		}
		it.found(corruption.Gap{From: it.last, To: to}, err)
		if it.complete {
			it.err = fmt.Errorf("%w: %w", storeerr.ErrCorrupt, err)
			return false
		}
		if bytes.Equal(to, it.upper) {
			return false
		}
		it.last = append(it.last[:0], to...)
		ok = it.Iterator.SeekGE(to)
	}
	return true
}

// A gapError says that some keys of a range could not be read. All others were.
type gapError struct {
	corruption.Gap      // from the start of the first gap to the end of the last
	open           bool // the last keys of the range are among them
	err            error
}

func (e *gapError) Error() string {
	return fmt.Sprintf("%v: keys cannot be read: %v", storeerr.ErrCorrupt, e.err)
}

func (e *gapError) Unwrap() []error { return []error{storeerr.ErrCorrupt, e.err} }

// withoutGaps is an error unless it is a gapError.
func withoutGaps(err error) error {
	var g *gapError
	if errors.As(err, &g) {
		return nil
	}
	return err
}

// each calls fn for every key with a prefix. Key and value are valid during the call
// only. If some keys cannot be read, it ends with a gapError after the others.
func (db *kvDB) each(prefix []byte, fn func(key, value []byte) error) error {
	return db.eachIn(db.pebble, prefix, layout.After(prefix), fn)
}

// eachBetween is each for the keys from lower up to, but not, upper.
func (db *kvDB) eachBetween(lower, upper []byte, fn func(key, value []byte) error) error {
	return db.eachIn(db.pebble, lower, upper, fn)
}

// eachIn is eachBetween for the keys of a snapshot.
func (db *kvDB) eachIn(r pebble.Reader, lower, upper []byte, fn func(key, value []byte) error) (err error) {
	var gaps *gapError
	it, err := db.newGapIterator(r, lower, upper, func(g corruption.Gap, err error) {
		if gaps == nil {
			gaps = &gapError{Gap: corruption.Gap{From: bytes.Clone(g.From)}, err: err}
		}
		gaps.To, gaps.open = g.To, bytes.Equal(g.To, upper)
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

// gaps are those that were found, so that they are searched for once. They are safe
// for concurrent use.
type gaps struct {
	mu  sync.Mutex
	all []corruption.Gap
}

// end returns the end of the gap that a key lies in, nil if none is known.
func (g *gaps) end(key []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.all {
		if bytes.Compare(o.From, key) <= 0 && bytes.Compare(key, o.To) < 0 {
			return o.To
		}
	}
	return nil
}

// add reports whether the gap is a new one.
func (g *gaps) add(found corruption.Gap) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.all {
		if bytes.Compare(o.From, found.From) <= 0 && bytes.Compare(found.To, o.To) <= 0 {
			return false
		}
	}
	if len(g.all) < maxGaps {
		g.all = append(g.all, corruption.Gap{From: bytes.Clone(found.From), To: bytes.Clone(found.To)})
	}
	return true
}

const maxGaps = 1000
