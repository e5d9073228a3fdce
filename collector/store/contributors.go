package store

import (
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

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

// An aggregateKey identifies an aggregate of an epoch.
type aggregateKey struct {
	partition  uint32
	definition string
}

// contributorLists are the streams of all aggregates of an epoch, by hour. Each hour's
// label index is read once, however many aggregates are asked for. They are for one run
// of merging, which leaves out what gets profiles meanwhile.
type contributorLists struct {
	epochs *epochSet
	epoch  *epoch
	hours  [layout.HoursPerEpoch]map[aggregateKey][]contributor // nil for hours that nobody asked for
}

func newContributorLists(e *epoch) *contributorLists {
	return &contributorLists{epochs: e.set, epoch: e}
}

// of lists the contributors of an aggregate's stream, hour by hour.
func (l *contributorLists) of(s *labelindex.Stream, from, to uint8) (*aggregate, error) {
	f := &aggregate{stream: s.ID, known: true}
	k := labelindex.NewKind(&s.Def)
	key := aggregateKey{s.Partition, string(k.Def.Append(nil))}
	for hour := from; hour < to; hour++ {
		if l.hours[hour] == nil {
			if err := l.read(hour); err != nil {
				return nil, err
			}
		}
		f.hours[hour] = l.hours[hour][key]
	}
	return f, nil
}

// read reads the label index of an hour.
func (l *contributorLists) read(hour uint8) error {
	lists := map[aggregateKey][]contributor{}
	err := l.epochs.eachTableOf(l.epoch, hour, func(t *labelindex.HourIndex) error {
		kinds := make([]string, len(t.Kinds))
		for i := range t.Kinds {
			kinds[i] = string(t.Kinds[i].Def.Append(nil))
		}
		for row, stream := range t.Streams {
			key := aggregateKey{t.Partitions[row], kinds[t.KindOf[row]]}
			lists[key] = append(lists[key], contributor{stream, t.Slots[row]})
		}
		return nil
	})
	if err == nil {
		l.hours[hour] = lists
	}
	return err
}
