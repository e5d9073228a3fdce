package store

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
)

// A tableCheck is the index's table whose columns are coming.
type tableCheck struct {
	hour    uint8
	table   *table // nil if there is none, or it cannot be read
	head    []byte // its key
	columns int
}

// find reads which streams have a hash.
func (e *epochCheck) find(hash uint64, value []byte) error {
	r := reader{data: value}
	var ids []uint32
	for range r.count(1, "stream count") {
		ids = append(ids, r.below(epochItself, "stream"))
	}
	e.finds[hash] = ids
	return r.end()
}

// findable checks that every stream is found by its definition.
func (e *epochCheck) findable() {
	e.rebuild.findable(e)
	for n, s := range e.streams {
		if hash := xxhash.Sum64(s.def.append(nil)); !slices.Contains(e.finds[hash], n) {
			e.checker.wrong(findKey(e.id, hash), fmt.Errorf("%w: stream %d is not found by its definition", ErrCorrupt, n))
		}
	}
	for hash, ids := range e.finds {
		for _, n := range ids {
			if e.streams[n] == nil {
				e.checker.wrong(findKey(e.id, hash), fmt.Errorf("%w: stream %d is not known", ErrCorrupt, n))
			}
		}
	}
}

// tableValue reads the head or a column of an hour's table, after the streams.
func (e *epochCheck) tableValue(hour uint8, name string, value []byte) error {
	err := e.readTable(hour, name, value)
	if err != nil {
		e.dropTable(hour)
	}
	return err
}

// dropTable leaves out a table that is not as it should be.
func (e *epochCheck) dropTable(hour uint8) {
	if e.rebuild.dropTable(e, hour); e.rebuild != nil && e.index.hour == hour {
		e.index.table = nil
	}
}

func (e *epochCheck) readTable(hour uint8, name string, value []byte) error {
	if name == "" {
		e.tableEnd()
		e.index = tableCheck{hour: hour, head: tableKey(e.id, hour, "")}
		t, err := decodeTable(value)
		if err != nil {
			return err
		}
		e.index.table = t
		return e.tableStreams(hour, t)
	}
	if e.index.head == nil || e.index.hour != hour {
		return fmt.Errorf("%w: a column of a table that is missing", ErrCorrupt)
	}
	t := e.index.table
	if t == nil {
		return nil // its head was reported
	}
	if _, ok := slices.BinarySearch(t.names, name); !ok {
		return fmt.Errorf("%w: the table has no label %q", ErrCorrupt, name)
	}
	e.index.columns++
	c, err := decodeLabelColumn(value, len(t.streams))
	if err != nil {
		return err
	}
	for row, n := range t.streams {
		s := e.streams[n]
		if s == nil {
			continue
		}
		if got, want := c.value(uint32(row)), s.def.labels.Get(name); got != want {
			return fmt.Errorf("%w: stream %d has label %s=%q, the table %q", ErrCorrupt, n, name, want, got)
		}
	}
	return nil
}

// tableStreams compares a table's head with the streams.
func (e *epochCheck) tableStreams(hour uint8, t *table) error {
	for row, n := range t.streams {
		e.listed[hourID{n, hour}] |= t.slots[row]
		s := e.streams[n]
		if s == nil || s.family {
			return fmt.Errorf("%w: stream %d is not known", ErrCorrupt, n)
		}
		k := newKind(&s.def)
		if s.partition != t.partitions[row] || string(k.def.append(nil)) != string(t.kinds[t.kindOf[row]].def.append(nil)) {
			return fmt.Errorf("%w: stream %d has another service or other sample types", ErrCorrupt, n)
		}
		var missing string
		s.def.labels.Range(func(l labels.Label) {
			if _, ok := slices.BinarySearch(t.names, l.Name); !ok && !follows(l.Name) && l.Name != labelServicePrivate {
				missing = l.Name
			}
		})
		if missing != "" {
			return fmt.Errorf("%w: stream %d has label %s, the table has not", ErrCorrupt, n, missing)
		}
	}
	return nil
}

// tableEnd checks that all columns of a table came.
func (e *epochCheck) tableEnd() {
	if t := e.index.table; t != nil && e.index.columns != len(t.names) {
		e.wrong(e.index.head, fmt.Errorf("%w: %d of %d labels of the table are there", ErrCorrupt, e.index.columns, len(t.names)))
		e.dropTable(e.index.hour)
	}
	e.index = tableCheck{}
}
