package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// Repair makes a new store in a directory that is empty or missing, of all that
// can be read of the tables and logs of another, whatever its list of tables
// says. Nothing changes in the other. What cannot be read is returned.
func Repair(dir, to string, log *slog.Logger) (damage []Damage, err error) {
	o := Options{Logger: log, MaintenanceInterval: -1}
	o.setDefaults()
	lock, err := pebble.LockDirectory(dir, o.fs)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if names, err := o.fs.List(to); err == nil && len(names) > 0 {
		return nil, fmt.Errorf("%s is not empty", to)
	}
	db, err := Open(to, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f, err := listFiles(o.fs, dir)
	if err != nil {
		return nil, err
	}
	var scans []*tableScan
	defer func() {
		for _, s := range scans {
			err = errors.Join(err, s.close())
		}
	}()
	for _, name := range f.tables {
		s, err := openTable(o.fs, dir, name)
		if err != nil {
			return nil, err
		}
		scans = append(scans, s)
	}
	for _, name := range f.logs {
		s, err := openLog(db, dir, name)
		if err != nil {
			return nil, err
		}
		scans = append(scans, s)
	}
	path := o.fs.PathJoin(to, damagedDir, "repaired.sst")
	if err := o.fs.MkdirAll(o.fs.PathDir(path), 0o750); err != nil {
		return nil, err
	}
	epochs, err := writeSortedTable(o.fs, path, db.pebbleOptions, db.pebble.TableFormat(), newTableMerge(scans))
	if err != nil {
		return nil, err
	}
	for _, s := range scans {
		for _, d := range s.damage {
			damage = append(damage, d.Damage)
		}
	}
	if len(epochs) == 0 {
		return damage, o.fs.Remove(path)
	}
	if err := db.guard(func() error { return db.pebble.Ingest(context.Background(), []string{path}) }); err != nil {
		return damage, err
	}
	if err := o.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return damage, err
	}
	for _, id := range slices.Sorted(maps.Keys(epochs)) {
		if err := db.mend(id); err != nil {
			return damage, fmt.Errorf("mend epoch %d: %w", id, err)
		}
	}
	return damage, nil
}

// openLog reads a log as if it were a table.
func openLog(db *DB, dir, name string) (*tableScan, error) {
	fs := db.options.fs
	var log uint32
	if _, err := fmt.Sscanf(name, "%d.log", &log); err != nil {
		return nil, fmt.Errorf("%s: no number: %w", name, err)
	}
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return nil, err
	}
	data, err := readFile(fs, fs.PathJoin(dir, name))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	scan := scanLog(data, log)
	t := &tableScan{name: name, file: f, broken: true}
	for _, r := range scan.records {
		t.addBatch(r)
	}
	slices.SortStableFunc(t.block, func(a, b tableEntry) int { return bytes.Compare(a.key, b.key) })
	for _, g := range scan.gaps {
		t.note(g.from, g.to-g.from, errors.New("the log cannot be read here, though it goes on: writes are lost"))
	}
	if scan.torn >= 0 {
		t.note(scan.torn, int64(len(data))-scan.torn, errors.New("the log ends within a write, as a crash leaves it"))
	}
	return t, nil
}

// addBatch adds the entries of a record of a log.
func (t *tableScan) addBatch(batch []byte) {
	h, ok := batchrepr.ReadHeader(batch)
	if !ok {
		return
	}
	r := batchrepr.Read(batch)
	for seq := uint64(h.SeqNum); ; seq++ {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		if kind == pebble.InternalKeyKindRangeDelete {
			t.tombstones = append(t.tombstones, tombstone{key, value, seq})
			continue
		}
		t.block = append(t.block, tableEntry{key, seq, kind, value})
	}
}
