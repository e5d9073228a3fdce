package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
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
	known := listedTables(fs, dir, lock)
	var files []*pebblefiles.File
	defer func() {
		for _, e := range files {
			err = errors.Join(err, e.Close())
		}
	}()
	for _, name := range slices.Concat(f.Tables, f.Logs) {
		open := pebblefiles.OpenLog
		if strings.HasSuffix(name, ".sst") {
			if _, listed := known[name]; known != nil && !listed {
				continue // it was compacted
			}
			open = pebblefiles.OpenTable
		}
		e, err := open(fs, dir, name, known[name])
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
	o := readOnlyOptions(readOnlyFS{fs, guardfs.NewBadBlocks()}, func(pebble.DataCorruptionInfo) {})
	o.Lock = lock
	if _, err := pebblefiles.Check(fs, dir, o); err != nil {
		return nil
	}
	p, err := pebble.Open(dir, o)
	if err != nil {
		return nil
	}
	tables, err := pebblefiles.ListedTables(p)
	if errors.Join(err, p.Close()) != nil {
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
	var v Verification
	for more := true; more; { // what is deleted may be what something else refers to
		r := &rebuild{db: db, batch: db.kv.Pebble.NewBatch()}
		c := &checker{ctx: ctx, v: &v, fs: db.kv.FS, dir: db.kv.Dir, pebble: db.kv.Pebble, rebuild: r}
		err := errors.Join(c.values(), r.err)
		if more = !r.batch.Empty(); err == nil && more {
			err = db.kv.Commit(r.batch, pebble.Sync)
		}
		if err = errors.Join(err, r.batch.Close()); err != nil {
			return v.Damage, err
		}
	}
	return v.Damage, nil
}
