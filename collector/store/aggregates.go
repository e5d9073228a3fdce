package store

import "github.com/flameline/flameline/collector/store/internal/labelindex"

// An aggregateKey identifies an aggregate of an epoch.
type aggregateKey struct {
	partition  uint32
	definition string
}

// aggregateKeyOf is the key of the aggregate that a partition's stream is part of.
func aggregateKeyOf(partition uint32, d *labelindex.Definition) aggregateKey {
	k := labelindex.NewKind(d)
	f := k.Aggregate(d.Labels.Get(labelindex.LabelServiceName))
	return aggregateKey{partition, string(f.Append(nil))}
}

// aggregateStream returns the stream of the aggregate that a stream is part of. It
// creates one if there is none. The caller holds grow, and not the lock.
func (e *epoch) aggregateStream(s *labelindex.Stream) (*labelindex.Stream, error) {
	e.mu.RLock()
	f := s.Aggregate
	if f != nil {
		if live := e.live[f.ID]; live != nil {
			f = live
		}
	}
	e.mu.RUnlock()
	if f == nil {
		k := labelindex.NewKind(&s.Def)
		def := k.Aggregate(s.Def.Labels.Get(labelindex.LabelServiceName))
		var err error
		if f, err = e.lookUp(&def, s.Partition); err != nil {
			return nil, err
		}
	}
	if f != s.Aggregate {
		e.mu.Lock()
		s.Aggregate = f
		e.mu.Unlock()
	}
	return f, nil
}

// findAggregate finds the stream of the aggregate of a kind, for a query.
func (es *epochSet) findAggregate(epoch, partition uint32, k *labelindex.Kind) (id uint32, ok bool, err error) {
	u, err := es.epoch(epoch)
	if err != nil {
		return 0, false, err
	}
	defer u.Release()
	e := u.Value
	e.mu.Lock()
	defer e.mu.Unlock()
	service, ok := e.services[partition]
	if !ok {
		return 0, false, nil
	}
	def := k.Aggregate(service)
	key := string(def.Append(nil))
	if f, ok := e.aggregates[aggregateKey{partition, key}]; ok {
		return f, true, nil
	}
	s, _, err := e.find(key, partition)
	if s == nil || err != nil {
		return 0, false, err
	}
	if e.aggregates == nil {
		e.aggregates = map[aggregateKey]uint32{}
	}
	e.aggregates[aggregateKey{partition, key}] = s.ID
	e.bytes += int64(len(key)) + 64
	return s.ID, true, nil
}
