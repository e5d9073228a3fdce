package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A tableScan reads the entries of one sorted table in their order and goes on
// after blocks that cannot be read. Where the table's index cannot be read
// either, it finds the blocks by their checksums: each begins where the one
// before ends. It is not safe for concurrent use.
type tableScan struct {
	name string
	file vfs.File
	size int64
	// lo and hi bound the keys, both included; nil for none.
	lo, hi []byte
	// sequence is the number of all entries of a table that was ingested whole.
	sequence uint64
	// tombstones are the table's deletions of ranges.
	tombstones []tombstone
	// damage is what was found so far. What was lost has keys that bound it once
	// the entry after it was read, or the end.
	damage []tableDamage

	handles []block.Handle // of the data blocks, if the index was read
	at      int            // in handles
	offset  int64          // without handles
	broken  bool           // no block was found at offset

	iter    colblk.DataBlockIter
	decoder colblk.DataBlockDecoder
	raw     []byte

	block []tableEntry // what is left of the present block
	last  []byte       // the latest key
	gap   int          // in damage: from here on, the key after is not known yet
}

// A tableEntry is a version of a key.
type tableEntry struct {
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

// Pebble's default schema of keys, under which all tables are written.
func keySchema() *colblk.KeySchema {
	s := colblk.DefaultKeySchema(pebble.DefaultComparer, 16)
	return &s
}

const (
	// A block's custom header, before the one that all columnar blocks have, and
	// the columns of a data block, by which it is told from an index.
	dataBlockHeader  = 4
	dataBlockColumns = 7
	// The most that a block may have, to bound what damaged lengths allocate.
	maxBlockBytes = 64 << 20
)

// openTable opens a table. What of its index, its tombstones or its footer
// cannot be read is damage; only that there is no such file is an error.
func openTable(fs vfs.FS, dir, name string) (*tableScan, error) {
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t := &tableScan{name: name, file: f, size: info.Size()}
	t.iter.InitOnce(keySchema(), pebble.DefaultComparer, nil)
	if t.size == 0 {
		t.broken = true
		t.lost(0, 0, errors.New("the file is missing, or empty"))
		return t, nil
	}
	if err := t.readIndex(); err != nil {
		t.handles = nil
		t.note(0, 0, fmt.Errorf("its index cannot be read, so its blocks are searched for: %w", err))
	}
	return t, nil
}

// tableDamage is Damage with the keys themselves.
type tableDamage struct {
	Damage
	entries     bool // whether entries were lost
	first, last []byte
}

func (t *tableScan) close() error { return t.file.Close() }

// unowned keeps a reader from closing the file.
type unowned struct{ vfs.File }

func (unowned) Close() error { return nil }

// readIndex reads where the blocks are, and the tombstones.
func (t *tableScan) readIndex() (err error) {
	defer recoverDamage(&err)
	src, err := sstable.NewSimpleReadable(unowned{t.file})
	if err != nil {
		return err
	}
	ctx := context.Background()
	var o pebble.Options
	o.EnsureDefaults()
	r, err := sstable.NewReader(ctx, src, o.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, src.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	layout, err := r.Layout()
	if err != nil {
		return err
	}
	if !layout.Format.BlockColumnar() {
		return fmt.Errorf("table format %s has other blocks", layout.Format)
	}
	for _, h := range layout.Data {
		t.handles = append(t.handles, h.Handle)
	}
	if t.handles == nil {
		t.handles = []block.Handle{}
	}
	if err := t.readTombstones(ctx, r); err != nil {
		h := layout.RangeDel
		t.note(int64(h.Offset), int64(h.Length), fmt.Errorf("deletions of days cannot be read: %w", err))
	}
	// Blocks that serve reading alone: that they are damaged loses nothing.
	for _, h := range layout.Filter {
		if _, err := t.readBlock(h.Offset, h.Length); err != nil {
			t.note(int64(h.Offset), int64(h.Length), fmt.Errorf("filter: %w", err))
		}
	}
	return nil
}

func (t *tableScan) readTombstones(ctx context.Context, r *sstable.Reader) (err error) {
	defer recoverDamage(&err)
	it, err := r.NewRawRangeDelIter(ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return err
	}
	defer it.Close()
	s, err := it.First()
	for ; s != nil && err == nil; s, err = it.Next() {
		for _, k := range s.Keys {
			t.tombstones = append(t.tombstones, tombstone{bytes.Clone(s.Start), bytes.Clone(s.End), uint64(k.SeqNum())})
		}
	}
	return err
}

// recoverDamage makes an error of a panic over damaged bytes.
func recoverDamage(err *error) {
	if r := recover(); r != nil {
		*err = errors.Join(*err, fmt.Errorf("%w: %v", ErrCorrupt, r))
	}
}

// note records a part of the file that cannot be read but holds no entries.
func (t *tableScan) note(offset, length int64, err error) {
	t.damage = append(t.damage, tableDamage{Damage: Damage{File: t.name, Offset: offset, Bytes: length, Reason: oneLine(err)}})
}

// lost records a part of the file that held entries.
func (t *tableScan) lost(offset, length int64, err error) {
	t.note(offset, length, err)
	t.damage[len(t.damage)-1].entries = true
}

// readBlock reads a block, checks its checksum and unpacks it.
func (t *tableScan) readBlock(offset, length uint64) ([]byte, error) {
	if length > maxBlockBytes || int64(offset+length)+block.TrailerLen > t.size {
		return nil, fmt.Errorf("%w: the file ends at %d", ErrCorrupt, t.size)
	}
	t.raw = slices.Grow(t.raw[:0], int(length)+block.TrailerLen)[:int(length)+block.TrailerLen]
	if _, err := t.file.ReadAt(t.raw, int64(offset)); err != nil {
		return nil, err
	}
	if err := block.ValidateChecksum(block.ChecksumTypeCRC32c, t.raw, block.Handle{Length: length}); err != nil {
		return nil, err
	}
	return unpackBlock(t.raw[:length], block.CompressionIndicator(t.raw[length]))
}

func unpackBlock(packed []byte, how block.CompressionIndicator) (b []byte, err error) {
	defer recoverDamage(&err)
	if how == block.NoCompressionIndicator {
		return append(make([]byte, 0, max(len(packed), 64)), packed...), nil
	}
	n, err := block.DecompressedLen(how, packed)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxBlockBytes {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrCorrupt, n)
	}
	b = make([]byte, n, max(n, 64)) // aligned to 8 bytes, as columns have to be
	return b, block.DecompressInto(how, packed, b)
}

// load reads the next block that can be read into t.block.
func (t *tableScan) load() bool {
	for t.handles != nil && t.at < len(t.handles) {
		h := t.handles[t.at]
		t.at++
		b, err := t.readBlock(h.Offset, h.Length)
		if err == nil {
			err = t.decode(b)
		}
		if err == nil {
			return true
		}
		t.lost(int64(h.Offset), int64(h.Length), err)
	}
	if t.handles != nil {
		return false
	}
	for {
		b := t.search()
		if b == nil {
			return false
		}
		if len(b) <= dataBlockHeader+8 || colblk.DecodeHeader(b[dataBlockHeader:]).Columns != dataBlockColumns {
			t.broken = true // an index or a filter: the data ends before it
		} else if t.decode(b) == nil {
			return true
		}
	}
}

// decode reads a block's entries.
func (t *tableScan) decode(data []byte) (err error) {
	defer recoverDamage(&err)
	t.decoder = colblk.DataBlockDecoder{}
	t.decoder.Init(keySchema(), data)
	if err := t.iter.Init(&t.decoder, sstable.NoTransforms); err != nil {
		return err
	}
	var entries []tableEntry
	for kv := t.iter.First(); kv != nil; kv = t.iter.Next() {
		v, _, err := kv.Value(nil)
		if err != nil {
			return err
		}
		entries = append(entries, tableEntry{bytes.Clone(kv.K.UserKey), max(uint64(kv.SeqNum()), t.sequence), kv.Kind(), v})
	}
	t.block = entries
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// search finds the block at t.offset: the shortest stretch that is followed by
// its own checksum.
func (t *tableScan) search() []byte {
	if t.broken {
		return nil
	}
	for window := int64(1 << 20); ; window *= 2 {
		n := min(window, t.size-t.offset)
		t.raw = slices.Grow(t.raw[:0], int(n))[:n]
		if _, err := t.file.ReadAt(t.raw, t.offset); err != nil {
			t.lost(t.offset, t.size-t.offset, err)
			break
		}
		sum := ^uint32(0)
		for i := 0; i+block.TrailerLen <= len(t.raw); i++ {
			sum = castagnoli[byte(sum)^t.raw[i]] ^ sum>>8 // of all up to i, the byte of the kind included
			c := ^sum
			if binary.LittleEndian.Uint32(t.raw[i+1:]) != (c>>15|c<<17)+0xa282ead8 {
				continue
			}
			b, err := unpackBlock(t.raw[:i], block.CompressionIndicator(t.raw[i]))
			if err == nil {
				t.offset += int64(i) + block.TrailerLen
				return b
			}
		}
		if t.offset+n == t.size || n > maxBlockBytes {
			if t.offset < t.size {
				t.lost(t.offset, t.size-t.offset, fmt.Errorf("%w: no block follows", ErrCorrupt))
			}
			break
		}
	}
	t.broken = true
	return nil
}

// next returns the next entry, nil at the end.
func (t *tableScan) next() *tableEntry {
	for {
		if len(t.block) == 0 && !t.load() {
			t.bound(t.hi)
			return nil
		}
		if len(t.block) == 0 {
			continue
		}
		e := &t.block[0]
		t.block = t.block[1:]
		if t.hi != nil && bytes.Compare(e.key, t.hi) > 0 {
			t.bound(t.hi)
			return nil
		}
		t.bound(e.key)
		t.last = e.key
		if bytes.Compare(e.key, t.lo) >= 0 {
			return e
		}
	}
}

// bound tells the damage since the last entry that it ends before a key. What
// is outside of the table's bounds is none.
func (t *tableScan) bound(key []byte) {
	kept := t.damage[:t.gap]
	for _, d := range t.damage[t.gap:] {
		if d.entries {
			d.first, d.last = t.last, key
			if bytes.Compare(d.first, t.lo) < 0 {
				d.first = t.lo
			}
			if t.lo != nil && key != nil && bytes.Compare(key, t.lo) < 0 {
				continue
			}
			if d.first != nil && d.last != nil {
				d.Damage = d.Damage.span(d.first, d.last)
			}
		}
		kept = append(kept, d)
	}
	t.damage, t.gap = kept, len(kept)
}

// oneLine is an error's text without what Pebble adds on further lines, and
// without the bytes of damaged files that are no text.
func oneLine(err error) string {
	return strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "\uFFFD")
}

// A merge reads several tables as one: of each key the newest version, without
// what is deleted.
type tableMerge struct {
	tables     []*tableScan
	heads      []*tableEntry
	tombstones []tombstone
}

func newTableMerge(tables []*tableScan) *tableMerge {
	m := &tableMerge{tables: tables}
	for _, t := range tables {
		m.heads = append(m.heads, t.next())
		m.tombstones = append(m.tombstones, t.tombstones...)
	}
	return m
}

// each calls fn for every key in order.
func (m *tableMerge) each(fn func(key, value []byte) error) error {
	for {
		var newest *tableEntry
		for _, h := range m.heads {
			if h == nil {
				continue
			}
			if newest == nil {
				newest = h
				continue
			}
			if c := bytes.Compare(h.key, newest.key); c < 0 || c == 0 && h.seq > newest.seq {
				newest = h
			}
		}
		if newest == nil {
			return nil
		}
		for i, h := range m.heads {
			for h != nil && bytes.Equal(h.key, newest.key) {
				h = m.tables[i].next()
			}
			m.heads[i] = h
		}
		switch newest.kind {
		case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
		default:
			continue
		}
		if m.deleted(newest) {
			continue
		}
		if err := fn(newest.key, newest.value); err != nil {
			return err
		}
	}
}

func (m *tableMerge) deleted(e *tableEntry) bool {
	return slices.ContainsFunc(m.tombstones, func(t tombstone) bool {
		return t.seq > e.seq && bytes.Compare(t.start, e.key) <= 0 && bytes.Compare(e.key, t.end) < 0
	})
}
