package store

import (
	"bytes"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
)

// A fileEntry is a version of a key.
type fileEntry struct {
	key   []byte
	seq   uint64
	kind  pebble.InternalKeyKind
	value []byte
}

// A tombstone deletes the keys from start up to end that are older than it.
type tombstone struct {
	start, end []byte
	seq        uint64
}

// entries are those of one file that can be read, in the order of their keys. They are
// not safe for concurrent use.
type entries struct {
	name       string
	keys       tableRange
	bytes      int64
	tombstones []tombstone
	damage     []corruption.Damage // what could not be read so far
	next       func() *fileEntry   // nil at the end; valid until the next call
	validate   func() error        // reads the blocks that next does not, nil if there are none
	close      func() error
}

// unread adds keys that cannot be read to the damage. Where a gap has no start or no end,
// it is that of the table, if it is known.
func (t *entries) unread(g corruption.Gap, err error) {
	if len(g.From) == 0 {
		g.From = t.keys.first
	}
	if t.keys.last != nil && (len(g.To) == 0 || bytes.Compare(g.To, t.keys.last) > 0) {
		g.To = t.keys.last
	}
	d := corruption.Damage{File: t.name, Reason: corruption.OneLine(err)}
	if len(g.From) > 0 && len(g.To) > 0 {
		d = d.Span(g.From, g.To)
	}
	t.damage = append(t.damage, d)
}

// mergeEntries calls fn for every key of several files, in order: with the newest value,
// if it is not deleted.
func mergeEntries(files []*entries, fn func(key, value []byte) error) error {
	heads := make([]*fileEntry, len(files))
	var tombstones []tombstone
	for i, f := range files {
		heads[i] = f.next()
		tombstones = append(tombstones, f.tombstones...)
	}
	slices.SortFunc(tombstones, func(a, b tombstone) int { return bytes.Compare(a.start, b.start) })
	var over []tombstone // those that have the present key in their range
	for {
		var newest *fileEntry
		for _, h := range heads {
			if h == nil {
				continue
			}
			if newest == nil {
				newest = h
			} else if c := bytes.Compare(h.key, newest.key); c < 0 || c == 0 && h.seq > newest.seq {
				newest = h
			}
		}
		if newest == nil {
			return nil
		}
		e := *newest
		for i := range heads {
			for heads[i] != nil && bytes.Equal(heads[i].key, e.key) {
				heads[i] = files[i].next()
			}
		}
		for len(tombstones) > 0 && bytes.Compare(tombstones[0].start, e.key) <= 0 {
			over, tombstones = append(over, tombstones[0]), tombstones[1:]
		}
		over = slices.DeleteFunc(over, func(t tombstone) bool { return bytes.Compare(t.end, e.key) <= 0 })
		if e.kind != pebble.InternalKeyKindSet && e.kind != pebble.InternalKeyKindSetWithDelete ||
			slices.ContainsFunc(over, func(t tombstone) bool { return t.seq > e.seq }) {
			continue
		}
		if err := fn(e.key, e.value); err != nil {
			return err
		}
	}
}
