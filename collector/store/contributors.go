package store

import (
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/scan"
)

// contributorLists are the streams of all aggregates of an epoch, by hour. Each hour's
// label index is read once, however many aggregates are asked for. They are for one run
// of merging, which leaves out what gets profiles meanwhile.
type contributorLists struct {
	epoch *epochs.Epoch
	hours [layout.HoursPerEpoch]map[epochs.AggregateKey][]scan.Contributor // nil for hours that nobody asked for
}

// of lists the contributors of an aggregate's stream, hour by hour.
func (l *contributorLists) of(s *labelindex.Stream, from, to uint8) (*scan.Aggregate, error) {
	f := &scan.Aggregate{Stream: s.ID, Known: true}
	key := epochs.AggregateKeyOf(s.Partition, &s.Def)
	for hour := from; hour < to; hour++ {
		if l.hours[hour] == nil {
			if err := l.read(hour); err != nil {
				return nil, err
			}
		}
		f.Hours[hour] = l.hours[hour][key]
	}
	return f, nil
}

// read reads the label index of an hour.
func (l *contributorLists) read(hour uint8) error {
	lists := map[epochs.AggregateKey][]scan.Contributor{}
	err := l.epoch.Set.EachIndexOf(l.epoch, hour, func(t *labelindex.HourIndex) error {
		kinds := make([]string, len(t.Kinds))
		for i := range t.Kinds {
			kinds[i] = string(t.Kinds[i].Def.Append(nil))
		}
		for row, stream := range t.Streams {
			key := epochs.AggregateKey{Partition: t.Partitions[row], Definition: kinds[t.KindOf[row]]}
			lists[key] = append(lists[key], scan.Contributor{Stream: stream, Slots: t.Slots[row]})
		}
		return nil
	})
	if err == nil {
		l.hours[hour] = lists
	}
	return err
}
