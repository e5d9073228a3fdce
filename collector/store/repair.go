package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/verify"
)

// Repair makes a new store in a directory that is empty or missing, of all that can be
// read of the tables and logs of another, which no process may have open. Tables that are
// not in its list of tables, if that can be read, were compacted and are left out. Nothing changes in the other. It returns what cannot be read, and
// what of the rest is left out as it refers to that.
func Repair(ctx context.Context, dir, to string, log *slog.Logger) (damage []corruption.Damage, err error) {
	before, err := Verify(ctx, dir) // names tables that are missing, and the keys of others
	if err != nil {
		return nil, err
	}
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
	if err := db.copyEntries(ctx, dir, lock); err != nil {
		return before.Damage, err
	}
	after, err := db.rebuildAll(ctx)
	return append(before.Damage, after...), err
}

// copyEntries copies all that can be read of a store's files into an empty one.
func (db *DB) copyEntries(ctx context.Context, dir string, lock *pebble.Lock) (err error) {
	fs := db.options.fs
	f, err := pebblefiles.List(fs, dir)
	if err != nil {
		return err
	}
	var files []*pebblefiles.File
	defer func() {
		for _, e := range files {
			err = errors.Join(err, e.Close())
		}
	}()
	listed := listedTables(fs, dir, lock)
	for _, name := range f.Used(listed) {
		e, err := pebblefiles.Open(fs, dir, name, listed[name])
		if err != nil {
			return err
		}
		files = append(files, e)
	}
	out := tableWriter{db: db, path: fs.PathJoin(db.kv.Dir, "repaired.sst")}
	err = pebblefiles.Merge(files, func(key, value []byte) error {
		if string(key) == string(layout.FormatKey()) {
			return nil // the new store has it
		}
		return errors.Join(ctx.Err(), out.add(key, value))
	})
	return errors.Join(err, out.finish())
}

// listedTables are the tables of a store, nil if its list of tables cannot be read, or
// names some that are missing.
func listedTables(fs vfs.FS, dir string, lock *pebble.Lock) map[string]pebblefiles.KeyRange {
	p, tables, err := kv.OpenReadOnly(fs, dir, lock, func(pebble.DataCorruptionInfo) {})
	if err != nil || p.Close() != nil {
		return nil
	}
	return tables
}

// A tableWriter writes keys that come in order as tables of a database.
type tableWriter struct {
	db   *DB
	path string
	w    *sstable.Writer
}

const repairedTable = 64 << 20 // bytes of a table, before compression

func (t *tableWriter) add(key, value []byte) error {
	if t.w == nil {
		f, err := t.db.kv.FS.Create(t.path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		o := t.db.kv.Options.MakeWriterOptions(6, t.db.kv.Pebble.TableFormat())
		t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)
	}
	if err := t.w.Set(key, value); err != nil {
		return err
	}
	if t.w.Raw().EstimatedSize() >= repairedTable {
		return t.finish()
	}
	return nil
}

// finish hands the present table over to the database.
func (t *tableWriter) finish() error {
	if t.w == nil {
		return nil
	}
	err := t.w.Close()
	if t.w = nil; err != nil {
		return err
	}
	return t.db.kv.Guard(func() error { return t.db.kv.Pebble.Ingest(context.Background(), []string{t.path}) })
}

// rebuildAll makes all epochs of the store whole, and returns what was left out for it.
func (db *DB) rebuildAll(ctx context.Context) ([]corruption.Damage, error) {
	if err := db.epochs.FindEpochs(); err != nil {
		return nil, err
	}
	for _, id := range db.epochs.Between(0, 1<<62) {
		if err := db.recoverStreams(id); err != nil {
			return nil, err
		}
	}
	return verify.Rebuild(ctx, db.kv, db.options.Now())
}

// recoverStreams writes the streams of an epoch that are missing, and that a table of the
// index has.
func (db *DB) recoverStreams(id uint32) error {
	b := db.kv.Pebble.NewBatch()
	defer b.Close()
	for hour := range uint8(layout.HoursPerEpoch) {
		t, err := db.epochs.LoadIndex(id, hour)
		if err != nil {
			return err
		}
		for row, n := range t.Streams {
			known, err := db.kv.Has(layout.StreamKey(id, n))
			if err != nil {
				return err
			}
			if known {
				continue
			}
			def, err := t.Definition(uint32(row))
			if errors.Is(err, storeerr.ErrCorrupt) {
				break // a column is missing
			}
			if err != nil {
				return err
			}
			b.Set(layout.StreamKey(id, n), labelindex.AppendStream(nil, t.Partitions[row], &def), nil)
		}
	}
	return db.kv.Commit(b, pebble.Sync)
}
