package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/guardfs"
)

// openTable reads a table by Pebble's reader and passes over blocks that are corrupt.
// What of the file cannot be read is damage; only that there is no such file is an error.
// keys are those that the list of tables says, if it is known.
func openTable(fs vfs.FS, dir, name string, keys tableRange) (t *entries, err error) {
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	bad := guardfs.NewBadBlocks()
	src, err := sstable.NewSimpleReadable(bad.Wrap(f, name))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t = &entries{name: name, keys: keys, bytes: src.Size(), next: func() *fileEntry { return nil }, close: src.Close}
	var o pebble.Options
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), src, o.MakeReaderOptions())
	if err != nil {
		t.unread(corruption.Gap{}, err)
		return t, nil
	}
	t.close, t.validate = r.Close, r.ValidateBlockChecksums
	t.readTombstones(r)
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		t.unread(corruption.Gap{}, err)
		return t, nil
	}
	t.close = func() error {
		if err := it.Close(); err != nil && !corruption.Unreadable(err) {
			return errors.Join(err, r.Close())
		}
		return r.Close()
	}
	kv := it.First()
	var e fileEntry
	t.next = func() *fileEntry {
		for kv == nil {
			err := it.Error()
			if err == nil {
				return nil
			}
			bad.Find(fs, fs.PathJoin(dir, name))
			to := corruption.NextReadable(e.key, corruption.LastKey, func(key []byte) bool { return it.SeekGE(key, 0) != nil || it.Error() == nil })
			t.unread(corruption.Gap{From: e.key, To: to}, err)
			if bytes.Equal(to, corruption.LastKey) {
				return nil
			}
			e.key = to
			kv = it.SeekGE(to, 0)
		}
		value, _, err := kv.Value(nil)
		e = fileEntry{key: bytes.Clone(kv.K.UserKey), seq: uint64(kv.SeqNum()), kind: kv.Kind(), value: bytes.Clone(value)}
		if kv = it.Next(); err != nil {
			t.unread(corruption.Gap{From: e.key, To: e.key}, err)
			return t.next()
		}
		return &e
	}
	return t, nil
}

// A tableRange are the keys of a table, both included.
type tableRange struct{ first, last []byte }

// tablesOf lists the files of a database's tables. It fails if one is missing.
func tablesOf(p *pebble.DB) (map[string]tableRange, error) {
	levels, err := p.SSTables()
	out := map[string]tableRange{}
	for _, level := range levels {
		for _, t := range level {
			out[fmt.Sprintf("%06d.sst", uint64(t.BackingSSTNum))] = tableRange{t.Smallest.UserKey, t.Largest.UserKey}
		}
	}
	return out, err
}

func (t *entries) readTombstones(r *sstable.Reader) {
	it, err := r.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err == nil && it != nil {
		defer it.Close()
		s, next := it.First()
		for ; s != nil && next == nil; s, next = it.Next() {
			for _, k := range s.Keys {
				t.tombstones = append(t.tombstones, tombstone{bytes.Clone(s.Start), bytes.Clone(s.End), uint64(k.SeqNum())})
			}
		}
		err = next
	}
	if err != nil {
		t.unread(corruption.Gap{}, fmt.Errorf("deletions of ranges: %w", err))
	}
}
