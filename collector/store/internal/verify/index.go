package verify

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A tableCheck is the index's table whose columns are coming.
type tableCheck struct {
	hour    uint8
	table   *labelindex.HourIndex // nil if there is none, or it cannot be read
	head    []byte                // its key
	columns int
}

// findable checks that every stream is found by its hash, or another one that has it.
func (e *epochCheck) findable() {
	for hash, n := range e.finds {
		if s := e.streams[n]; s == nil || s.Hash() != hash {
			e.wrong(layout.FindKey(e.id, hash), fmt.Errorf("%w: stream %d is not known by its hash", storeerr.ErrCorrupt, n))
			delete(e.finds, hash)
		}
	}
	for n, s := range e.streams {
		hash := s.Hash()
		if _, ok := e.finds[hash]; !ok {
			key := layout.FindKey(e.id, hash)
			e.checker.wrong(key, fmt.Errorf("%w: stream %d is not found by its hash", storeerr.ErrCorrupt, n))
			e.rebuild.set(key, binary.AppendUvarint(nil, uint64(n)))
			e.finds[hash] = n
		}
	}
}

// tableValue reads the head or a column of an hour's table, after the streams.
func (e *epochCheck) tableValue(hour uint8, name string, value []byte) error {
	err := e.readTable(hour, name, value)
	if err != nil {
		e.rebuild.dropTable(e, hour)
	}
	return err
}

func (e *epochCheck) readTable(hour uint8, name string, value []byte) error {
	if name == "" {
		e.tableEnd()
		e.index = tableCheck{hour: hour, head: layout.TableKey(e.id, hour, "")}
		t, err := labelindex.DecodeTable(value)
		if err != nil {
			return err
		}
		e.index.table = t
		return e.tableStreams(hour, t)
	}
	if e.index.head == nil || e.index.hour != hour {
		return fmt.Errorf("%w: a column of a table that is missing", storeerr.ErrCorrupt)
	}
	t := e.index.table
	if t == nil {
		return nil // its head was reported
	}
	if _, ok := slices.BinarySearch(t.Names, name); !ok {
		return fmt.Errorf("%w: the table has no label %q", storeerr.ErrCorrupt, name)
	}
	e.index.columns++
	c, err := labelindex.DecodeLabelColumn(value, len(t.Streams))
	if err != nil {
		return err
	}
	for row, n := range t.Streams {
		s := e.streams[n]
		if s == nil {
			continue
		}
		if got, want := c.Value(uint32(row)), s.Def.Labels.Get(name); got != want {
			return fmt.Errorf("%w: stream %d has label %s=%q, the table %q", storeerr.ErrCorrupt, n, name, want, got)
		}
	}
	return nil
}

// tableStreams compares a table's head with the streams.
func (e *epochCheck) tableStreams(hour uint8, t *labelindex.HourIndex) error {
	for row, n := range t.Streams {
		e.listed[epochs.StreamHour{Stream: n, Hour: hour}] |= t.Slots[row]
		s := e.streams[n]
		if s == nil || s.aggregate {
			return fmt.Errorf("%w: stream %d is not known", storeerr.ErrCorrupt, n)
		}
		k := labelindex.NewKind(&s.Def)
		if s.Partition != t.Partitions[row] || string(k.Def.Append(nil)) != string(t.Kinds[t.KindOf[row]].Def.Append(nil)) {
			return fmt.Errorf("%w: stream %d has another service or other sample types", storeerr.ErrCorrupt, n)
		}
		var missing string
		s.Def.Labels.Range(func(l labels.Label) {
			if _, ok := slices.BinarySearch(t.Names, l.Name); !ok && !labelindex.Follows(l.Name) && l.Name != labelindex.LabelServicePrivate {
				missing = l.Name
			}
		})
		if missing != "" {
			return fmt.Errorf("%w: stream %d has label %s, the table has not", storeerr.ErrCorrupt, n, missing)
		}
	}
	return nil
}

// tableEnd checks that all columns of a table came.
func (e *epochCheck) tableEnd() {
	if t := e.index.table; t != nil && e.index.columns != len(t.Names) {
		e.wrong(e.index.head, fmt.Errorf("%w: %d of %d labels of the table are there", storeerr.ErrCorrupt, e.index.columns, len(t.Names)))
		e.rebuild.dropTable(e, e.index.hour)
	}
	e.index = tableCheck{}
}
