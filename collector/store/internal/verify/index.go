package verify

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

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

// tableValue reads an hour's table with its head, after the streams. Of columns it checks
// that there is a table that has them.
func (e *epochCheck) tableValue(hour uint8, name string) error {
	var err error
	if name == "" {
		e.columns[hour], err = e.table(hour)
	} else if names, ok := e.columns[hour]; !ok || names != nil && !slices.Contains(names, name) {
		err = fmt.Errorf("%w: the hour has no table with label %q", storeerr.ErrCorrupt, name)
	}
	if err != nil {
		e.rebuild.dropTable(e, hour)
	}
	return err
}

// table compares an hour's table with the streams, and returns its columns.
func (e *epochCheck) table(hour uint8) (columns []string, err error) {
	t, err := epochs.ReadIndex(e.pebble.Get, e.id, hour)
	if err != nil {
		return nil, err
	}
	for row, n := range t.Streams {
		e.listed[epochs.StreamHour{Stream: n, Hour: hour}] |= t.Slots[row]
	}
	for row, n := range t.Streams {
		s := e.streams[n]
		if s == nil || s.aggregate {
			return t.Names, fmt.Errorf("%w: stream %d is not known", storeerr.ErrCorrupt, n)
		}
		def, err := t.Definition(uint32(row))
		if err != nil {
			return t.Names, err
		}
		if !s.Is(labelindex.AppendStream(nil, t.Partitions[row], &def)) {
			return t.Names, fmt.Errorf("%w: stream %d has other labels or sample types than the table says", storeerr.ErrCorrupt, n)
		}
	}
	return t.Names, nil
}
