package pebblefiles

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// A logFile is what can be read of a log of writes.
type logFile struct {
	bytes   int64
	records [][]byte            // batches
	damage  []corruption.Damage // records that cannot be read, though others follow
}

// entries are those of the log's batches and their tombstones, as they were written.
func (l *logFile) entries() (all []Entry, deleted []tombstone) {
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
				deleted = append(deleted, tombstone{key, value, seq})
				continue
			}
			all = append(all, Entry{key, seq, kind, value})
		}
	}
	return all, deleted
}

// readLog reads a log by Pebble's reader, and goes on at the next record after some that
// cannot be read. Pebble takes these for what a crash leaves, unless it finds in a later
// block that they were synced.
func readLog(fs vfs.FS, dir, name string) (l logFile, err error) {
	data, err := ReadFile(fs, fs.PathJoin(dir, name))
	if err != nil {
		return l, err
	}
	return parseLog(data, name), nil
}

// parseLog reads the batches of a log, as far as they are in order, and finds records
// behind what is corrupt.
func parseLog(data []byte, name string) (l logFile) {
	l.bytes = int64(len(data))
	readable := int64(0) // where the latest record ends
	for at := int64(0); at >= 0; at = findRecord(data, max(readable, at+1), name) {
		r := logReader(data, at, name)
		for first := true; ; first = false {
			b, err := nextRecord(r)
			if err != nil {
				break
			}
			if first && at > 0 {
				d := corruption.Damage{File: name, Offset: readable, Bytes: at - readable, Reason: "records of the log cannot be read, though others follow"}
				l.damage = append(l.damage, l.spanOfLost(d, b))
			}
			l.records = append(l.records, b)
			readable = at/logBlock*logBlock + r.Offset()
		}
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
	number := numberAs(pebble.SSTableInfo{}.BackingSSTNum, FileNumber(name))
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
	number := binary.LittleEndian.AppendUint32(nil, uint32(FileNumber(name)))
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

// spanOfLost names what records that cannot be read may have held: profiles of the days of
// those before them and of the next one.
func (l *logFile) spanOfLost(d corruption.Damage, next []byte) corruption.Damage {
	around := logFile{records: append(slices.Clip(l.records), next)}
	all, _ := around.entries()
	all = slices.DeleteFunc(all, func(e Entry) bool { return len(e.Key) < 6 || e.Key[4] != layout.KindRow })
	if len(all) == 0 {
		return d
	}
	byKey := func(a, b Entry) int { return bytes.Compare(a.Key, b.Key) }
	return d.Span(slices.MinFunc(all, byKey).Key[:4], slices.MaxFunc(all, byKey).Key[:4])
}

func openLog(fs vfs.FS, dir, name string) (*File, error) {
	l, err := readLog(fs, dir, name)
	if err != nil {
		return nil, err
	}
	all, deleted := l.entries()
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(b.seq, a.seq)) })
	next := func() (next *Entry) {
		if len(all) > 0 {
			next, all = &all[0], all[1:]
		}
		return next
	}
	return &File{name: name, Bytes: l.bytes, tombstones: deleted, Damage: l.damage, Next: next, Close: func() error { return nil }}, nil
}
