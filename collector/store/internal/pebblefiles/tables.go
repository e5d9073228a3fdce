package pebblefiles

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
func openTable(fs vfs.FS, dir, name string, keys KeyRange) (t *File, err error) {
	bad := guardfs.NewBadBlocks()
	f, err := bad.Open(fs, fs.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	src, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t = &File{name: name, keys: keys, Bytes: src.Size(), Next: func() *Entry { return nil }, Close: src.Close}
	var o pebble.Options
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), src, o.MakeReaderOptions())
	if err != nil {
		t.Unread(corruption.Gap{}, err)
		return t, nil
	}
	t.Close, t.Validate = r.Close, r.ValidateBlockChecksums
	t.readTombstones(r)
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		t.Unread(corruption.Gap{}, err)
		return t, nil
	}
	t.Close = func() error {
		if err := it.Close(); err != nil && !corruption.Unreadable(err) {
			return errors.Join(err, r.Close())
		}
		return r.Close()
	}
	kv := it.First()
	var e Entry
	t.Next = func() *Entry {
		for kv == nil {
			err := it.Error()
			if err == nil {
				return nil
			}
			bad.Find(fs, fs.PathJoin(dir, name))
			to := corruption.NextReadable(e.Key, corruption.LastKey, func(key []byte) bool { return it.SeekGE(key, 0) != nil || it.Error() == nil })
			t.Unread(corruption.Gap{From: e.Key, To: to}, err)
			if bytes.Equal(to, corruption.LastKey) {
				return nil
			}
			e.Key = to
			kv = it.SeekGE(to, 0)
		}
		value, _, err := kv.Value(nil)
		e = Entry{Key: bytes.Clone(kv.K.UserKey), seq: uint64(kv.SeqNum()), kind: kv.Kind(), Value: bytes.Clone(value)}
		if kv = it.Next(); err != nil {
			t.Unread(corruption.Gap{From: e.Key, To: e.Key}, err)
			return t.Next()
		}
		return &e
	}
	return t, nil
}

// A KeyRange are the keys of a table, both included.
type KeyRange struct{ first, last []byte }

// ListedTables lists the files of a database's tables. It fails if one is missing.
func ListedTables(p *pebble.DB) (map[string]KeyRange, error) {
	levels, err := p.SSTables()
	out := map[string]KeyRange{}
	for _, level := range levels {
		for _, t := range level {
			out[fmt.Sprintf("%06d.sst", uint64(t.BackingSSTNum))] = KeyRange{t.Smallest.UserKey, t.Largest.UserKey}
		}
	}
	return out, err
}

func (t *File) readTombstones(r *sstable.Reader) {
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
		t.Unread(corruption.Gap{}, fmt.Errorf("deletions of ranges: %w", err))
	}
}
