package store

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/symdb"
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
	dict *symdb.Dictionary
}

func (p *partition) Size() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dict.Bytes()
}

// view returns what the dictionary holds now, to read without a lock.
func (p *partition) view() symdb.View {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dict.View
}

// partition returns a partition, read from disk if it is not in the cache.
func (es *epochSet) partition(epoch, id uint32) (budget.Ref[*partition], error) {
	return budget.Acquire[*partition](es.cache, budget.Key{Epoch: epoch, Partition: id}, func() (budget.Item, error) {
		return es.loadPartition(es.kv.Pebble, epoch, id)
	})
}

// partitionAt returns a partition as of a snapshot, or later: if its epoch was dropped
// meanwhile, the snapshot still has it.
func (es *epochSet) partitionAt(from *snapshot, epoch, id uint32) (budget.Ref[*partition], error) {
	u, err := es.partition(epoch, id)
	if err != nil || es.hasEpoch(epoch) {
		return u, err
	}
	u.Release()
	p, err := es.loadPartition(from, epoch, id)
	return budget.Ref[*partition]{Value: p}, err
}

// serviceOf is the service of a partition, "" if it has no name.
func (es *epochSet) serviceOf(epoch, partition uint32) (string, error) {
	e, err := es.epoch(epoch)
	if err != nil {
		return "", err
	}
	defer e.Release()
	e.Value.mu.RLock()
	defer e.Value.mu.RUnlock()
	return e.Value.services[partition], nil
}

// addPartition puts a partition that is new into the cache. It need not be read, which
// may be impossible where a table of the day is corrupt.
func (es *epochSet) addPartition(epoch, id uint32) error {
	u, err := budget.Acquire[*partition](es.cache, budget.Key{Epoch: epoch, Partition: id}, func() (budget.Item, error) {
		p := newPartition(epoch, id)
		p.dict.Lookup = nil
		return p, nil
	})
	if err == nil {
		u.Release()
	}
	return err
}

func newPartition(epoch, id uint32) *partition {
	p := &partition{epoch: epoch, id: id, dict: symdb.NewDictionary()}
	p.dict.Lookup = &symdb.Lookup{}
	p.dict.FindCalls()
	return p
}

func (es *epochSet) loadPartition(r pebble.Reader, epoch, id uint32) (*partition, error) {
	p := newPartition(epoch, id)
	prefix := layout.SegmentPrefix(epoch, id)
	err := es.kv.EachIn(r, prefix, layout.After(prefix), func(key, value []byte) error {
		if p.damage == nil && len(value) == 0 {
			p.damage = errClosed
		}
		if p.damage == nil {
			if err := p.dict.ReadSegment(value); err != nil {
				p.damage = fmt.Errorf("read segment %x: %w", key, err)
				es.kv.Corrupt(p.damage)
			}
		}
		return nil
	})
	if kv.WithoutGaps(err) != nil {
		return nil, fmt.Errorf("read partition %d of epoch %d: %w", id, epoch, err)
	}
	if p.damage == nil {
		p.damage = err
	}
	p.dict.Lookup = nil
	return p, nil
}

// change runs fn, which adds to the dictionary, and returns how much the dictionary
// held before it and a segment of what it added, nil if nothing.
func (p *partition) change(fn func(*symdb.Dictionary)) (from symdb.Sizes, segment []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = p.dict.Sizes()
	fn(p.dict)
	if p.dict.Sizes() != from {
		segment = p.dict.AppendSegment(nil, from)
	}
	return from, segment
}

// extend runs fn, which adds to the dictionary, and writes what it added. The
// write is in the log before any later one, but not synced.
func (es *epochSet) extend(p *partition, fn func(*symdb.Dictionary)) error {
	p.grow.Lock()
	defer p.grow.Unlock()
	from, segment := p.change(fn)
	if segment == nil {
		return nil
	}
	err := es.kv.Set(layout.SegmentKey(p.epoch, p.id, uint32(from.Nodes)), segment, pebble.NoSync)
	if err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	es.kv.Metrics.SegmentBytes.Add(float64(len(segment)))
	return nil
}
