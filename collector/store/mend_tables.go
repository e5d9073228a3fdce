package store

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
)

// readTables reads what the index has, and makes lost streams anew of it. A table
// that lacks a part goes.
func (m *mender) readTables() error {
	for hour := range uint8(hoursPerEpoch) {
		prefix := tableKey(m.id, hour, "")
		if (m.columns&^m.heads)>>hour&1 == 1 {
			if err := m.deleteAll(prefix); err != nil {
				return err
			}
		}
		if m.heads>>hour&1 == 0 {
			continue
		}
		t, err := m.db.loadTable(m.id, hour)
		if err != nil {
			return err
		}
		for _, name := range t.names {
			if _, err = t.column(name); err != nil {
				break
			}
		}
		switch {
		case errors.Is(err, ErrCorrupt):
			err = m.deleteAll(prefix)
			for row, n := range t.streams {
				m.active[hourID{n, hour}] |= t.slots[row]
			}
		case err == nil:
			err = m.readTable(t, hour)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) readTable(t *table, hour uint8) error {
	for row, n := range t.streams {
		m.hasStream(n)
		m.hasPartition(t.partitions[row])
		m.listed[hourID{n, hour}] = t.slots[row]
		s := m.stream(n)
		if s.readable {
			continue
		}
		def, err := t.definition(uint32(row))
		if err != nil {
			return err
		}
		s.known, s.readable, s.partition, s.def = true, true, t.partitions[row], def
		m.batch.Set(streamKey(m.id, n), appendStream(nil, s.partition, &def), nil)
	}
	return nil
}

// definition is that of a row's stream.
func (t *table) definition(row uint32) (def definition, err error) {
	k := &t.kinds[t.kindOf[row]].def
	b := labels.NewBuilder(k.labels)
	for _, name := range t.names {
		c, err := t.column(name)
		if err != nil {
			return def, err
		}
		b.Set(name, c.value(row))
	}
	return definition{labels: b.Labels(), period: k.period, types: k.types}, nil
}

// mendIndex makes streams be found by their definitions, and in the slots in
// which they have profiles.
func (m *mender) mendIndex() error {
	want := map[uint64][]uint32{}
	for n, s := range m.streams {
		if s.readable {
			hash := xxhash.Sum64(s.def.append(nil))
			want[hash] = append(want[hash], n)
		}
	}
	for hash, ids := range want {
		slices.Sort(ids)
		if !slices.Equal(ids, m.finds[hash]) {
			m.batch.Set(findKey(m.id, hash), appendStreams(nil, ids), nil)
		}
	}
	for hash := range m.finds {
		if want[hash] == nil {
			m.batch.Delete(findKey(m.id, hash), nil)
		}
	}
	for hour := range uint8(hoursPerEpoch) {
		for n, s := range m.streams {
			if !s.readable || s.def.isFamily() {
				continue
			}
			at := hourID{n, hour}
			slots := m.active[at]
			switch h := s.hours[hour]; {
			case h != nil && h.total() > 0:
				slots |= h.slotMask()
			case s.day && s.total() == 0:
				slots = allSlots // the day's window alone
			}
			if noted, listed := m.noted[at], m.listed[at]; slots&^(noted|listed) != 0 {
				slots = noted | slots&^listed
				m.batch.Set(pendingKey(m.id, hour, n), binary.AppendUvarint(nil, uint64(slots)), nil)
			}
		}
	}
	return nil
}
