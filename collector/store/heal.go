package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// When a block of a table cannot be read, Pebble fails every read that touches
// it, and every compaction of the table. So the range of keys of the damaged
// table is written anew, from all blocks of all tables that can be read, and
// takes the place of what was there; the damaged file is set aside. Queries wait
// for it and are then asked again.

// sickTables are the tables that were found damaged and are not healed yet. They
// are safe for concurrent use.
type sickTables struct {
	mu    sync.Mutex
	files map[string]bool
	wake  chan struct{} // has room for one
}

// add is called by whatever read the damaged block. It reports whether the table was
// known already.
func (s *sickTables) add(name string) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known = s.files[name]
	s.files[name] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return known
}

const sickPause = 250 * time.Millisecond

func (s *sickTables) list() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]bool, len(s.files))
	for f := range s.files {
		out[f] = true
	}
	return out
}

func (s *sickTables) healed(files map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range files {
		delete(s.files, f)
	}
}

// dataCorruption is told by Pebble of a block that it could not read. Something that
// asks again and again, as a compaction does, is slowed down until the store is closed.
func (db *DB) dataCorruption(info pebble.DataCorruptionInfo) {
	if db.sick.add(db.disk.PathBase(info.Path)) {
		db.disk.pause(sickPause)
	}
}

// heal reports whether the error of a call is about a damaged table that has
// been healed meanwhile, so that the call can be made again. The caller is not
// between enter and leave.
func (db *DB) heal(err error) bool {
	if err == nil || !pebble.IsCorruptionError(err) || db.Err() != nil {
		return false
	}
	leave, closed := db.enterAlone()
	if closed != nil {
		return false
	}
	defer leave()
	if sick := db.sick.list(); len(sick) > 0 {
		if err := db.healTables(sick); err != nil {
			db.log.Error("heal damaged tables", "err", err)
			return false
		}
		return true
	}
	// Somebody else was faster, unless the damage is none of a table's.
	info := pebble.ExtractDataCorruptionInfo(err)
	if info == nil {
		return false
	}
	tables, err := db.tables()
	name := db.disk.PathBase(info.Path)
	return err == nil && !slices.ContainsFunc(tables, func(t sortedTable) bool { return t.name == name })
}

// healEvery heals what compactions find damaged, until ctx ends.
func (db *DB) healEvery(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-db.Failed():
			return // calls that are under way may not end
		case <-db.sick.wake:
		}
		leave, err := db.enterAlone()
		if err != nil {
			return
		}
		if sick := db.sick.list(); len(sick) > 0 {
			err = db.healTables(sick)
		}
		leave()
		if err != nil {
			db.log.Error("heal damaged tables", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(30 * time.Second):
				select {
				case db.sick.wake <- struct{}{}:
				default:
				}
			}
		}
	}
}

// A sortedTable is one sorted table of the database, or a part of one.
type sortedTable struct {
	name     string // of the file
	lo, hi   []byte // keys, both included
	size     uint64 // that the file should have, 0 if it is shared by several
	sequence uint64 // of all entries, if it was ingested
}

func (db *DB) tables() ([]sortedTable, error) { return tablesOf(db.pebble) }

func tablesOf(p *pebble.DB) (out []sortedTable, err error) {
	byLevel, err := p.SSTables()
	for _, level := range byLevel {
		for _, i := range level {
			t := sortedTable{
				name: fmt.Sprintf("%06d.sst", uint64(i.BackingSSTNum)),
				lo:   i.Smallest.UserKey, hi: i.Largest.UserKey, size: i.Size,
			}
			if i.Virtual {
				t.size = 0
			}
			if i.SmallestSeqNum == i.LargestSeqNum {
				t.sequence = uint64(i.SmallestSeqNum)
			}
			out = append(out, t)
		}
	}
	return out, err
}

func (t *sortedTable) overlaps(lo, hi []byte) bool {
	return bytes.Compare(t.lo, hi) <= 0 && bytes.Compare(lo, t.hi) <= 0
}

// cutTables are those whose file has not the size that it should have.
func (db *DB) cutTables() (map[string]bool, error) {
	tables, err := db.tables()
	bad := map[string]bool{}
	for _, t := range tables {
		info, err := db.disk.Stat(db.disk.PathJoin(db.dir, t.name))
		if err != nil {
			return nil, err
		}
		if info.Size() == 0 || t.size != 0 && info.Size() != int64(t.size) {
			bad[t.name] = true
		}
	}
	return bad, err
}

// healTables replaces damaged tables by what can be read of them. No call is
// under way.
func (db *DB) healTables(bad map[string]bool) (err error) {
	defer db.recovered(&err)
	asked := bad
	if err := db.guard(db.pebble.Flush); err != nil {
		return err
	}
	tables, err := db.tables()
	if err != nil {
		return err
	}
	for {
		var lo, hi []byte
		for _, t := range tables {
			if !bad[t.name] {
				continue
			}
			if lo == nil || bytes.Compare(t.lo, lo) < 0 {
				lo = t.lo
			}
			if hi == nil || bytes.Compare(t.hi, hi) > 0 {
				hi = t.hi
			}
		}
		if lo == nil {
			break // compacted away
		}
		found, err := db.rewrite(tables, bad, lo, hi)
		if err != nil {
			return err
		}
		if found == nil {
			break
		}
		for f := range found { // more than was known: its range has to go too
			bad[f] = true
		}
	}
	db.sick.healed(asked)
	db.sick.healed(bad)
	return nil
}

// rewrite puts what can be read of the keys from lo to hi in the place of what
// is there. If tables are damaged that are not in bad it does nothing and
// returns them.
func (db *DB) rewrite(tables []sortedTable, bad map[string]bool, lo, hi []byte) (found map[string]bool, err error) {
	var scans []*tableScan
	defer func() {
		for _, s := range scans {
			err = errors.Join(err, s.close())
		}
	}()
	for _, t := range tables {
		if !t.overlaps(lo, hi) {
			continue
		}
		s, err := openTable(db.disk, db.dir, t.name)
		if err != nil {
			return nil, err
		}
		s.lo, s.hi, s.sequence = t.lo, t.hi, t.sequence
		if bytes.Compare(s.lo, lo) < 0 {
			s.lo = lo
		}
		if bytes.Compare(s.hi, hi) > 0 {
			s.hi = hi
		}
		scans = append(scans, s)
	}
	temporary := db.disk.PathJoin(db.dir, damagedDir, "healed.sst")
	if err := db.disk.MkdirAll(db.disk.PathDir(temporary), 0o750); err != nil {
		return nil, err
	}
	seen, err := writeSortedTable(db.disk, temporary, db.pebbleOptions, db.pebble.TableFormat(), newTableMerge(scans))
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := db.disk.Remove(temporary); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	for _, s := range scans {
		if len(s.damage) > 0 && !bad[s.name] {
			if found == nil {
				found = map[string]bool{}
			}
			found[s.name] = true
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, db.replace(scans, bad, temporary, seen, lo, hi)
}

// replace is the part of rewrite that changes the database. The table has keys
// of the epochs in seen.
func (db *DB) replace(scans []*tableScan, bad map[string]bool, table string, seen map[uint32]bool, lo, hi []byte) error {
	epochs := map[uint32]bool{} // with keys that may be lost
	lost := func(first, last []byte) {
		if len(first) < 4 || len(last) < 4 {
			return
		}
		from, to := binary.BigEndian.Uint32(first), binary.BigEndian.Uint32(last)
		epochs[from], epochs[to] = true, true
		for id := range seen {
			if from <= id && id <= to {
				epochs[id] = true
			}
		}
	}
	var damage []Damage
	kept := map[string]string{}
	for _, s := range scans {
		if !bad[s.name] {
			continue
		}
		if kept[s.name] == "" {
			name, err := setAside(db.disk, db.dir, s.name)
			if err != nil {
				return err
			}
			kept[s.name] = name
		}
		for _, d := range s.damage {
			d.Kept = kept[s.name]
			damage = append(damage, d.Damage)
			if d.entries {
				lost(d.first, d.last)
			}
		}
	}
	if len(epochs) > 0 {
		if err := planMend(db.disk, db.dir, epochs); err != nil {
			return err
		}
	}
	var paths []string
	if len(seen) > 0 {
		paths = []string{table}
	}
	err := db.guard(func() error {
		_, err := db.pebble.IngestAndExcise(context.Background(), paths, nil, nil,
			pebble.KeyRange{Start: lo, End: append(bytes.Clone(hi), 0)})
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range damage {
		db.report(d)
	}
	return db.mendPlanned()
}

// writeSortedTable writes a table of what a merge gives, and returns the epochs that
// it has keys of.
func writeSortedTable(fs vfs.FS, path string, o *pebble.Options, format sstable.TableFormat, m *tableMerge) (epochs map[uint32]bool, err error) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), o.MakeWriterOptions(6, format))
	epochs = map[uint32]bool{}
	err = m.each(func(key, value []byte) error {
		if len(key) >= 4 {
			epochs[binary.BigEndian.Uint32(key)] = true
		}
		return w.Set(key, value)
	})
	return epochs, errors.Join(err, w.Close())
}
