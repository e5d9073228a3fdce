package epochs

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

// A Partition is the dictionary of one service in one epoch.
type Partition struct {
	epoch, id uint32
	Damage    error // of a segment; what comes after it is left out

	// grow is held by whoever adds to the dictionary and writes what it added, mu
	// only while the dictionary changes: a write may wait for the disk for long.
	grow sync.Mutex
	mu   sync.RWMutex
	dict *symdb.Dictionary
}

// Size is the memory of the dictionary in bytes.
func (p *Partition) Size() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dict.Bytes()
}

// View returns what the dictionary holds now, to read without a lock.
func (p *Partition) View() symdb.View {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.dict.View
}

// AcquirePartition returns a partition, read from disk if it is not in the cache.
func (es *Set) AcquirePartition(epoch, id uint32) (budget.Ref[*Partition], error) {
	return budget.Acquire[*Partition](es.Cache, budget.Key{Epoch: epoch, Partition: id}, func() (budget.Item, error) {
		return es.loadPartition(es.KV.Pebble, epoch, id)
	})
}

// AcquirePartitionAt returns a partition as of a snapshot, or later: if its epoch was dropped
// meanwhile, the snapshot still has it.
func (es *Set) AcquirePartitionAt(from *Snapshot, epoch, id uint32) (budget.Ref[*Partition], error) {
	u, err := es.AcquirePartition(epoch, id)
	if err != nil || es.Has(epoch) {
		return u, err
	}
	u.Release()
	p, err := es.loadPartition(from, epoch, id)
	return budget.Ref[*Partition]{Value: p}, err
}

// ServiceOf is the service of a partition, "" if it has no name.
func (es *Set) ServiceOf(epoch, partition uint32) (string, error) {
	e, err := es.Acquire(epoch)
	if err != nil {
		return "", err
	}
	defer e.Release()
	e.Value.Mu.RLock()
	defer e.Value.Mu.RUnlock()
	return e.Value.services[partition], nil
}

// addPartition puts a partition that is new into the cache. It need not be read, which
// may be impossible where a table of the day is corrupt.
func (es *Set) addPartition(epoch, id uint32) error {
	u, err := budget.Acquire[*Partition](es.Cache, budget.Key{Epoch: epoch, Partition: id}, func() (budget.Item, error) {
		return newPartition(epoch, id), nil
	})
	if err == nil {
		u.Release()
	}
	return err
}

func newPartition(epoch, id uint32) *Partition {
	return &Partition{epoch: epoch, id: id, dict: symdb.NewDictionary()}
}

func (es *Set) loadPartition(r pebble.Reader, epoch, id uint32) (*Partition, error) {
	p := newPartition(epoch, id)
	prefix := layout.SegmentPrefix(epoch, id)
	err := es.KV.EachIn(r, prefix, layout.After(prefix), func(key, value []byte) error {
		if p.Damage == nil && len(value) == 0 {
			p.Damage = errClosed
		}
		if p.Damage == nil {
			if err := p.dict.ReadSegment(value); err != nil {
				p.Damage = fmt.Errorf("read segment %x: %w", key, err)
				es.KV.Corrupt(p.Damage)
			}
		}
		return nil
	})
	if kv.WithoutGaps(err) != nil {
		return nil, fmt.Errorf("read partition %d of epoch %d: %w", id, epoch, err)
	}
	if p.Damage == nil {
		p.Damage = err
	}
	p.dict.Trim()
	return p, nil
}

// change runs fn, which adds to the dictionary, and returns how much the dictionary
// held before it and a segment of what it added, nil if nothing.
func (p *Partition) change(fn func(*symdb.Dictionary)) (from symdb.Sizes, segment []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = p.dict.Sizes()
	fn(p.dict)
	if p.dict.Sizes() != from {
		segment = p.dict.AppendSegment(nil, from)
	}
	return from, segment
}

// Extend runs fn, which adds to the dictionary, and writes what it added. The
// write is in the log before any later one, but not synced.
func (es *Set) Extend(p *Partition, fn func(*symdb.Dictionary)) error {
	p.grow.Lock()
	defer p.grow.Unlock()
	from, segment := p.change(fn)
	if segment == nil {
		return nil
	}
	err := es.KV.Set(layout.SegmentKey(p.epoch, p.id, uint32(from.Nodes)), segment, pebble.NoSync)
	if err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	es.KV.Metrics.SegmentBytes.Add(float64(len(segment)))
	return nil
}
