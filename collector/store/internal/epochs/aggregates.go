// Package epochs keeps the days of a store: which there are, and of each its partitions, streams, label indexes and what of it is not merged yet, in memory and on disk.
package epochs

import "github.com/flameline/flameline/collector/store/internal/labelindex"

// An AggregateKey is what the streams of a partition that differ in labels alone have in
// common, and their aggregate's.
type AggregateKey struct {
	Partition  uint32
	Definition string // of the kind
}

// AggregateKeyOf is the key of a stream, or of an aggregate's.
func AggregateKeyOf(partition uint32, d *labelindex.Definition) AggregateKey {
	k := labelindex.NewKind(d)
	return AggregateKey{partition, string(k.Def.Append(nil))}
}

// aggregateStream returns the stream of the aggregate that a stream is part of. It
// creates one if there is none. The caller holds grow, and not the lock.
func (e *Epoch) aggregateStream(s *labelindex.Stream) (*labelindex.Stream, error) {
	e.Mu.RLock()
	f := s.Aggregate
	if f != nil {
		if live := e.Live[f.ID]; live != nil {
			f = live
		}
	}
	e.Mu.RUnlock()
	if f == nil {
		k := labelindex.NewKind(&s.Def)
		def := k.Aggregate(s.Def.Labels.Get(labelindex.LabelServiceName))
		var err error
		if f, err = e.lookUp(&def, s.Partition); err != nil {
			return nil, err
		}
	}
	if f != s.Aggregate {
		e.Mu.Lock()
		s.Aggregate = f
		e.Mu.Unlock()
	}
	return f, nil
}

// FindAggregate finds the stream of the aggregate of a kind, for a query.
func (es *Set) FindAggregate(epoch, partition uint32, k *labelindex.Kind) (id uint32, ok bool, err error) {
	u, err := es.Acquire(epoch)
	if err != nil {
		return 0, false, err
	}
	defer u.Release()
	e := u.Value
	e.Mu.Lock()
	defer e.Mu.Unlock()
	service, ok := e.services[partition]
	if !ok {
		return 0, false, nil
	}
	def := k.Aggregate(service)
	key := labelindex.AppendStream(nil, partition, &def)
	if f, ok := e.aggregates[string(key)]; ok {
		return f, true, nil
	}
	s, err := e.find(key)
	if s == nil || err != nil {
		return 0, false, err
	}
	e.aggregates[string(key)] = s.ID
	e.bytes += int64(len(key)) + 64
	return s.ID, true, nil
}
