package store

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// errClosed marks a dictionary that does not grow any more: a repair found that segments
// of it or profiles are missing.
var errClosed = errors.New("the dictionary is closed: a part of the day could not be repaired")

// A partition is the dictionary of one service in one epoch.
type partition struct {
	epoch, id uint32
	damage    error // of a segment; what comes after it is left out

	// grow is held by whoever adds to the dictionary and writes what it added, mu
	// only while the dictionary changes: a write may wait for the disk for long.
	grow sync.Mutex
	mu   sync.RWMutex
	dict *dictionary
}

func (p *partition) size() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dict.bytes()
}

// view returns what the dictionary holds now, to read without a lock.
func (p *partition) view() view {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dict.view
}

// A use is a cached value in use.
type use[T cached] struct {
	value T
	entry *entry
	cache *cache
}

func (u use[T]) release() {
	if u.cache != nil { // else it is the caller's alone
		u.cache.release(u.entry)
	}
}

func acquire[T cached](c *cache, key cacheKey, load func() (cached, error)) (use[T], error) {
	e := c.acquire(key, load)
	if e.err != nil {
		c.release(e)
		return use[T]{}, e.err
	}
	return use[T]{e.value.(T), e, c}, nil
}

// partition returns a partition, read from disk if it is not in the cache.
func (db *DB) partition(epoch, id uint32) (use[*partition], error) {
	return acquire[*partition](db.cache, cacheKey{epoch: epoch, partition: id}, func() (cached, error) {
		return db.loadPartition(db.pebble, epoch, id)
	})
}

// partition returns a partition as of the scanner's snapshot, or later: if its
// epoch was dropped meanwhile, the snapshot still has it.
func (s *scanner) partition(id uint32) (use[*partition], error) {
	u, err := s.db.partition(s.epoch, id)
	if err != nil || s.db.hasEpoch(s.epoch) {
		return u, err
	}
	u.release()
	p, err := s.db.loadPartition(s.from, s.epoch, id)
	return use[*partition]{value: p}, err
}

// addPartition puts a partition that is new into the cache. It need not be read, which
// may be impossible where a table of the day is corrupt.
func (db *DB) addPartition(epoch, id uint32) error {
	u, err := acquire[*partition](db.cache, cacheKey{epoch: epoch, partition: id}, func() (cached, error) {
		p := newPartition(epoch, id)
		p.dict.lookup = nil
		return p, nil
	})
	if err == nil {
		u.release()
	}
	return err
}

func newPartition(epoch, id uint32) *partition {
	p := &partition{epoch: epoch, id: id, dict: newDictionary()}
	p.dict.lookup = &lookup{}
	p.dict.findCalls()
	return p
}

func (db *DB) loadPartition(r pebble.Reader, epoch, id uint32) (*partition, error) {
	p := newPartition(epoch, id)
	prefix := segmentPrefix(epoch, id)
	err := db.each(r, prefix, func(key, value []byte) error {
		if p.damage == nil && len(value) == 0 {
			p.damage = errClosed
		}
		if p.damage == nil {
			if err := p.dict.readSegment(value); err != nil {
				p.damage = fmt.Errorf("read segment %x: %w", key, err)
				db.corrupt(p.damage)
			}
		}
		return nil
	})
	if withoutGaps(err) != nil {
		return nil, fmt.Errorf("read partition %d of epoch %d: %w", id, epoch, err)
	}
	if p.damage == nil {
		p.damage = err
	}
	p.dict.lookup = nil
	return p, nil
}

// change runs fn, which adds to the dictionary, and returns how much the dictionary
// held before it and a segment of what it added, nil if nothing.
func (p *partition) change(fn func(*dictionary)) (from sizes, segment []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = p.dict.sizes()
	fn(p.dict)
	if p.dict.sizes() != from {
		segment = p.dict.appendSegment(nil, from)
	}
	return from, segment
}

// extend runs fn, which adds to the dictionary, and writes what it added. The
// write is in the log before any later one, but not synced.
func (db *DB) extend(p *partition, fn func(*dictionary)) error {
	p.grow.Lock()
	defer p.grow.Unlock()
	from, segment := p.change(fn)
	if segment == nil {
		return nil
	}
	err := db.guard(func() error {
		return db.pebble.Set(segmentKey(p.epoch, p.id, uint32(from.nodes)), segment, pebble.NoSync)
	})
	if err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	db.metrics.segmentBytes.Add(float64(len(segment)))
	return nil
}
