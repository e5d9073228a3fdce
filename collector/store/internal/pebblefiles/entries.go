package pebblefiles

import (
	"bytes"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
)

// An Entry is a version of a key.
type Entry struct {
	Key   []byte
	seq   uint64
	kind  pebble.InternalKeyKind
	Value []byte
}

// A tombstone deletes the keys from start up to end that are older than it.
type tombstone struct {
	start, end []byte
	seq        uint64
}

// File are those of one file that can be read, in the order of their keys. They are
// not safe for concurrent use.
type File struct {
	name       string
	keys       KeyRange
	Bytes      int64
	tombstones []tombstone
	Damage     []corruption.Damage // what could not be read so far
	Next       func() *Entry       // nil at the end; valid until the next call
	Validate   func() error        // reads the blocks that next does not, nil if there are none
	Close      func() error
}

// Open opens a table or a log. What of it cannot be read is damage; only that there is no
// such file is an error. keys are those that the list of tables says, if it is known.
func Open(fs vfs.FS, dir, name string, keys KeyRange) (*File, error) {
	if strings.HasSuffix(name, tableSuffix) {
		return openTable(fs, dir, name, keys)
	}
	return openLog(fs, dir, name)
}

// Unread adds keys that cannot be read to the damage. Where a gap has no start or no end,
// it is that of the table, if it is known.
func (t *File) Unread(g corruption.Gap, err error) {
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
	t.Damage = append(t.Damage, d)
}

// Merge calls fn for every key of several files, in order: with the newest value,
// if it is not deleted.
func Merge(files []*File, fn func(key, value []byte) error) error {
	heads := make([]*Entry, len(files))
	var tombstones []tombstone
	for i, f := range files {
		heads[i] = f.Next()
		tombstones = append(tombstones, f.tombstones...)
	}
	slices.SortFunc(tombstones, func(a, b tombstone) int { return bytes.Compare(a.start, b.start) })
	var over []tombstone // those that have the present key in their range
	for {
		var newest *Entry
		for _, h := range heads {
			if h == nil {
				continue
			}
			if newest == nil {
				newest = h
			} else if c := bytes.Compare(h.Key, newest.Key); c < 0 || c == 0 && h.seq > newest.seq {
				newest = h
			}
		}
		if newest == nil {
			return nil
		}
		e := *newest
		for i := range heads {
			for heads[i] != nil && bytes.Equal(heads[i].Key, e.Key) {
				heads[i] = files[i].Next()
			}
		}
		for len(tombstones) > 0 && bytes.Compare(tombstones[0].start, e.Key) <= 0 {
			over, tombstones = append(over, tombstones[0]), tombstones[1:]
		}
		over = slices.DeleteFunc(over, func(t tombstone) bool { return bytes.Compare(t.end, e.Key) <= 0 })
		if e.kind != pebble.InternalKeyKindSet && e.kind != pebble.InternalKeyKindSetWithDelete ||
			slices.ContainsFunc(over, func(t tombstone) bool { return t.seq > e.seq }) {
			continue
		}
		if err := fn(e.Key, e.Value); err != nil {
			return err
		}
	}
}
