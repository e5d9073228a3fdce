package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
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
	damage     []Damage          // what could not be read so far
	next       func() *fileEntry // nil at the end; valid until the next call
	validate   func() error      // reads the blocks that next does not, nil if there are none
	close      func() error
}

// openTable reads a table by Pebble's reader and passes over blocks that are corrupt.
// What of the file cannot be read is damage; only that there is no such file is an error.
// keys are those that the list of tables says, if it is known.
func openTable(fs vfs.FS, dir, name string, keys tableRange) (t *entries, err error) {
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	bad := newBadBlocks()
	src, err := sstable.NewSimpleReadable(&tableFile{f, name, bad})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t = &entries{name: name, keys: keys, bytes: src.Size(), next: func() *fileEntry { return nil }, close: src.Close}
	var o pebble.Options
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), src, o.MakeReaderOptions())
	if err != nil {
		t.unread(gap{}, err)
		return t, nil
	}
	t.close, t.validate = r.Close, r.ValidateBlockChecksums
	t.readTombstones(r)
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		t.unread(gap{}, err)
		return t, nil
	}
	t.close = func() error {
		if err := it.Close(); err != nil && !unreadable(err) {
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
			bad.find(fs, fs.PathJoin(dir, name))
			to := nextReadable(e.key, lastKey, func(key []byte) bool { return it.SeekGE(key, 0) != nil || it.Error() == nil })
			t.unread(gap{e.key, to}, err)
			if bytes.Equal(to, lastKey) {
				return nil
			}
			e.key = to
			kv = it.SeekGE(to, 0)
		}
		value, _, err := kv.Value(nil)
		e = fileEntry{key: bytes.Clone(kv.K.UserKey), seq: uint64(kv.SeqNum()), kind: kv.Kind(), value: bytes.Clone(value)}
		if kv = it.Next(); err != nil {
			t.unread(gap{e.key, e.key}, err)
			return t.next()
		}
		return &e
	}
	return t, nil
}

// lastKey is above all keys.
var lastKey = bytes.Repeat([]byte{0xff}, gapBytes)

// unread adds keys that cannot be read to the damage. Where a gap has no start or no end,
// it is that of the table, if it is known.
func (t *entries) unread(g gap, err error) {
	if len(g.from) == 0 {
		g.from = t.keys.first
	}
	if t.keys.last != nil && (len(g.to) == 0 || bytes.Compare(g.to, t.keys.last) > 0) {
		g.to = t.keys.last
	}
	d := Damage{File: t.name, Reason: oneLine(err)}
	if len(g.from) > 0 && len(g.to) > 0 {
		d = d.span(g.from, g.to)
	}
	t.damage = append(t.damage, d)
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
		t.unread(gap{}, fmt.Errorf("deletions of ranges: %w", err))
	}
}

// A logFile is what can be read of a log of writes.
type logFile struct {
	bytes   int64
	records [][]byte // batches
	damage  []Damage // records that cannot be read, though others follow
	// end is where its end cannot be read, as a crash leaves it; -1 if it can.
	end int64
}

// readLog reads a log by Pebble's reader, and goes on at the next record after some that
// cannot be read. Pebble takes these for what a crash leaves, unless it finds in a later
// block that they were synced.
func readLog(fs vfs.FS, dir, name string) (l logFile, err error) {
	data, err := readFile(fs, fs.PathJoin(dir, name))
	if err != nil {
		return l, err
	}
	return parseLog(data, name), nil
}

func parseLog(data []byte, name string) (l logFile) {
	l.bytes, l.end = int64(len(data)), -1
	readable, clean := int64(0), true // where the latest record ends, and whether the log does
	for at := int64(0); at >= 0; at = findRecord(data, max(readable, at+1), name) {
		r := logReader(data, at, name)
		for first := true; ; first = false {
			b, err := nextRecord(r)
			if err != nil {
				clean = errors.Is(err, io.EOF)
				break
			}
			if first && at > 0 {
				d := Damage{File: name, Offset: readable, Bytes: at - readable, Reason: "records of the log cannot be read, though others follow"}
				l.damage = append(l.damage, d.between(l.records, b))
			}
			l.records = append(l.records, b)
			readable = at/logBlock*logBlock + r.Offset()
		}
	}
	if !clean && len(bytes.TrimLeft(data[readable:], "\x00")) > 0 {
		l.end = readable
	}
	return l
}

// The blocks in which Pebble writes logs, and where the number of the log is in what
// begins a record; see its package record.
const (
	logBlock   = 32 << 10
	logNumber  = 7
	fillerHead = 7 // what begins a record of record.Writer
)

// logReader reads a log from a record on. Pebble's reader begins at a block, so a record
// takes the place of what is before it in the block.
func logReader(data []byte, at int64, name string) *record.Reader {
	number := numberAs(pebble.SSTableInfo{}.BackingSSTNum, fileNumber(name))
	before := at % logBlock
	if before < fillerHead {
		return record.NewReader(bytes.NewReader(data[at-before:]), number)
	}
	var filler bytes.Buffer
	w := record.NewWriter(&filler)
	_, err := w.WriteRecord(make([]byte, before-fillerHead))
	if errors.Join(err, w.Close()) != nil || int64(filler.Len()) != before {
		return record.NewReader(bytes.NewReader(nil), number)
	}
	r := record.NewReader(io.MultiReader(&filler, bytes.NewReader(data[at:])), number)
	if _, err := nextRecord(r); err != nil {
		return record.NewReader(bytes.NewReader(nil), number)
	}
	return r
}

// findRecord returns where the next record of a log is, from an offset on; -1 if there is
// none.
func findRecord(data []byte, from int64, name string) int64 {
	number := binary.LittleEndian.AppendUint32(nil, uint32(fileNumber(name)))
	for from < int64(len(data)) {
		i := bytes.Index(data[min(from+logNumber, int64(len(data))):], number)
		if i < 0 {
			return -1
		}
		at := from + int64(i)
		block := data[:min(int64(len(data)), (at/logBlock+1)*logBlock)] // what follows is not looked at
		if _, err := logReader(block, at, name).Next(); err == nil {
			return at
		}
		from = at + 1
	}
	return -1
}

func nextRecord(r *record.Reader) ([]byte, error) {
	rec, err := r.Next()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(rec)
}

// numberAs converts a number to the type of another, which is Pebble's own.
func numberAs[T ~uint64](_ T, n uint64) T { return T(n) }

// between names what records that cannot be read may have held: what was written after
// the latest row before them, and before the next one.
func (d Damage) between(records [][]byte, next []byte) Damage {
	after := rowOf(next)
	var before []byte
	for i := len(records) - 1; i >= 0 && before == nil; i-- {
		before = rowOf(records[i])
	}
	switch {
	case before == nil && after == nil:
		return d
	case before == nil:
		return d.span(after[:4], after)
	case after == nil:
		return d.span(before, before[:4])
	case bytes.Compare(before, after) > 0: // late profiles
		return d.span(after[:4], before[:4])
	}
	return d.span(before, after)
}

// rowOf is the key of the first row in a batch, nil if there is none.
func rowOf(batch []byte) []byte {
	l := logFile{records: [][]byte{batch}}
	for _, e := range l.entries().all {
		if len(e.key) >= 6 && e.key[4] == kindRow {
			return e.key
		}
	}
	return nil
}

// batchEntries are those of some batches, and their tombstones.
type batchEntries struct {
	all        []fileEntry
	tombstones []tombstone
}

// entries are those of the log's batches, as they were written.
func (l *logFile) entries() (out batchEntries) {
	for _, batch := range l.records {
		h, ok := batchrepr.ReadHeader(batch)
		if !ok {
			continue
		}
		r := batchrepr.Read(batch)
		for seq := uint64(h.SeqNum); ; seq++ {
			kind, key, value, ok, err := r.Next()
			if !ok || err != nil {
				break
			}
			if kind == pebble.InternalKeyKindRangeDelete {
				out.tombstones = append(out.tombstones, tombstone{key, value, seq})
				continue
			}
			out.all = append(out.all, fileEntry{key, seq, kind, value})
		}
	}
	return out
}

// openLog reads a log as openTable reads a table.
func openLog(fs vfs.FS, dir, name string, _ tableRange) (*entries, error) {
	l, err := readLog(fs, dir, name)
	if err != nil {
		return nil, err
	}
	b := l.entries()
	slices.SortFunc(b.all, func(a, b fileEntry) int { return cmp.Or(bytes.Compare(a.key, b.key), cmp.Compare(b.seq, a.seq)) })
	e := &entries{name: name, bytes: l.bytes, tombstones: b.tombstones, damage: l.damage, close: func() error { return nil }}
	e.next = func() (next *fileEntry) {
		if len(b.all) > 0 {
			next, b.all = &b.all[0], b.all[1:]
		}
		return next
	}
	return e, nil
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
