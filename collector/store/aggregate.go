package store

import (
	"cmp"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
)

// A family is the streams of a partition that are of one kind: those of a
// service's CPU profiles, say. Its windows hold the sums over all its streams, so
// that a query about the service reads as many rows for a thousand pods as for
// one. They are kept under the number of a stream of their own, which has no
// profiles and is in no table; finer than a slot are only the members' own rows.
type aggregate struct {
	stream uint32 // of its windows
	known  bool   // there is such a stream
	hours  [layout.HoursPerEpoch][]member
}

// A member is a stream that has profiles in some slots of an hour.
type member struct {
	stream uint32
	slots  uint16
}

// minFamily is the number of streams in a window from which on their sum is kept.
const minFamily = 2

// familyOf is the definition of the family of streams of a kind and a service.
func familyOf(k *labelindex.Kind, service string) labelindex.Definition {
	b := labels.NewBuilder(k.Def.Labels)
	b.Set(labelindex.LabelServiceName, service)
	b.Set(labelindex.FamilyLabel, "1")
	return labelindex.Definition{Labels: b.Labels(), Period: k.Def.Period, Types: k.Def.Types}
}

// familyKeyOf is what the family of a partition's stream is found by.
func familyKeyOf(partition uint32, d *labelindex.Definition) familyKey {
	k := labelindex.NewKind(d)
	f := familyOf(&k, d.Labels.Get(labelindex.LabelServiceName))
	return familyKey{partition, string(f.Append(nil))}
}

// familyStream returns the stream of a stream's family, which it makes if there
// is none. The caller holds grow, and not the lock.
func (e *epoch) familyStream(db *DB, s *labelindex.Stream) (*labelindex.Stream, error) {
	e.mu.RLock()
	f := s.Family
	if f != nil {
		if live := e.live[f.ID]; live != nil {
			f = live
		}
	}
	e.mu.RUnlock()
	if f == nil {
		k := labelindex.NewKind(&s.Def)
		def := familyOf(&k, s.Def.Labels.Get(labelindex.LabelServiceName))
		var err error
		if f, err = e.lookUp(db, &def, s.Partition); err != nil {
			return nil, err
		}
	}
	if f != s.Family {
		e.mu.Lock()
		s.Family = f
		e.mu.Unlock()
	}
	return f, nil
}

// findFamily finds the stream of a kind's family for a query.
func (db *DB) findFamily(epoch, partition uint32, k *labelindex.Kind) (id uint32, ok bool, err error) {
	u, err := db.epoch(epoch)
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
	def := familyOf(k, service)
	key := string(def.Append(nil))
	if f, ok := e.families[familyKey{partition, key}]; ok {
		return f, true, nil
	}
	s, _, err := e.find(db, key, partition)
	if s == nil || err != nil {
		return 0, false, err
	}
	if e.families == nil {
		e.families = map[familyKey]uint32{}
	}
	e.families[familyKey{partition, key}] = s.ID
	e.bytes += int64(len(key)) + 64
	return s.ID, true, nil
}

type familyKey struct {
	partition  uint32
	definition string
}

// memberLists are the members of all families of an epoch, by hour. Each hour's tables
// are read once, however many families are asked for. It is for one run of merging,
// which does not merge what gets profiles meanwhile.
type memberLists struct {
	db    *DB
	epoch *epoch
	hours [layout.HoursPerEpoch]map[familyKey][]member // nil for hours that nobody asked for
}

func newMemberLists(db *DB, e *epoch) *memberLists { return &memberLists{db: db, epoch: e} }

// of lists the members of a family's stream, hour by hour.
func (l *memberLists) of(s *labelindex.Stream, from, to uint8) (*aggregate, error) {
	f := &aggregate{stream: s.ID, known: true}
	k := labelindex.NewKind(&s.Def)
	key := familyKey{s.Partition, string(k.Def.Append(nil))}
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

// read reads the tables of an hour.
func (l *memberLists) read(hour uint8) error {
	lists := map[familyKey][]member{}
	err := l.db.eachTableOf(l.epoch, hour, func(t *labelindex.HourIndex) error {
		kinds := make([]string, len(t.Kinds))
		for i := range t.Kinds {
			kinds[i] = string(t.Kinds[i].Def.Append(nil))
		}
		for row, stream := range t.Streams {
			key := familyKey{t.Partitions[row], kinds[t.KindOf[row]]}
			lists[key] = append(lists[key], member{stream, t.Slots[row]})
		}
		return nil
	})
	if err == nil {
		l.hours[hour] = lists
	}
	return err
}

// add notes slots of a member. A stream may come again for the same hour.
func (f *aggregate) add(hour uint8, stream uint32, slots uint16) {
	f.hours[hour] = append(f.hours[hour], member{stream, slots})
}

// active lists the streams that have profiles in a part of an epoch, in order,
// with the part of it from the first to the last of their slots.
func (f *aggregate) active(epoch uint32, lo, hi int64) (out []activeStream) {
	set := labelindex.SlotsBetween(epoch, lo+1, hi)
	for hour := range uint8(layout.HoursPerEpoch) {
		mask := set.Hour(hour)
		if mask == 0 {
			continue
		}
		for _, m := range f.hours[hour] {
			if m.slots&mask != 0 {
				out = append(out, activeStream{m.stream, spanOf(hour, m.slots&mask)})
			}
		}
	}
	slices.SortFunc(out, func(a, b activeStream) int { return cmp.Compare(a.stream, b.stream) })
	n := 0
	for _, a := range out {
		if n > 0 && out[n-1].stream == a.stream {
			out[n-1].join(a.span)
			continue
		}
		out[n] = a
		n++
	}
	return out[:n]
}

type activeStream struct {
	stream uint32
	span
}

// mergeFamily is merge for a family's stream. It writes nothing if so few streams
// have profiles in the window that their own rows serve as well.
func (m *merger) mergeFamily(s *scanner, f *aggregate, b *pebble.Batch, level int, lo, hi int64) (bool, error) {
	if len(f.active(m.epoch, lo, hi)) < minFamily {
		return false, nil
	}
	out := m.begin()
	err := s.service(f, layout.KindRow, level-1, lo, hi, func(w window) error { return m.add(&out, w) })
	if err != nil || out.Profiles == 0 {
		return false, err
	}
	if level < layout.LevelDay {
		var list rowcodec.PointList
		err := s.service(f, layout.KindPoints, level-1, lo, hi, func(w window) error { return m.addPoints(&list, w) })
		if err != nil {
			return false, err
		}
		m.sortPoints()
	}
	return true, m.write(b, &out, level, lo, hi)
}

// addPoints adds a member's points, or a profile's row.
func (m *merger) addPoints(list *rowcodec.PointList, w window) error {
	if w.level == layout.LevelFine {
		if err := m.row.DecodeHead(&bitpack.Decoder{Data: w.value}); err != nil {
			return err
		}
		if err := m.row.Single(); err != nil {
			return err
		}
		return m.addPoint(w.end)
	}
	for c := range m.totals {
		if err := list.Decode(w.value, w.end-layout.WindowMs[w.level], c); err != nil {
			for before := range c {
				m.totals[before] = m.totals[before][:len(m.times)]
			}
			return err
		}
		m.totals[c] = append(m.totals[c], list.Values...)
	}
	m.times, m.covers = append(m.times, list.Times...), append(m.covers, list.Covers...)
	return nil
}

// sortPoints brings the points into the order of their times.
func (m *merger) sortPoints() {
	if slices.IsSorted(m.times) {
		return
	}
	order := make([]int, len(m.times))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.times[a], m.times[b]) })
	for _, list := range append([][]int64{m.times}, m.totals...) {
		sorted := make([]int64, len(list))
		for i, from := range order {
			sorted[i] = list[from]
		}
		copy(list, sorted)
	}
	covers := make([]uint64, len(order))
	for i, from := range order {
		covers[i] = m.covers[from]
	}
	copy(m.covers, covers)
}
