package repair

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
)

// copyFiles copies all that can be read of the files in a directory that is locked into an
// empty database.
func copyFiles(ctx context.Context, fs vfs.FS, dir string, lock *pebble.Lock, to *kv.DB) (err error) {
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
	p, listed, err := kv.OpenReadOnly(fs, dir, lock, func(pebble.DataCorruptionInfo) {})
	if err != nil || p.Close() != nil {
		listed = nil // not known
	}
	for _, name := range f.Used(listed) {
		e, err := pebblefiles.Open(fs, dir, name, listed[name])
		if err != nil {
			return err
		}
		files = append(files, e)
	}
	out := tableWriter{db: to, path: fs.PathJoin(to.Dir, "repaired.sst")}
	err = pebblefiles.Merge(files, func(key, value []byte) error {
		if string(key) == string(layout.FormatKey()) {
			return nil // the new store has it
		}
		return errors.Join(ctx.Err(), out.add(key, value))
	})
	return errors.Join(err, out.finish())
}

// A tableWriter writes keys that come in order as tables of a database.
type tableWriter struct {
	db   *kv.DB
	path string
	w    *sstable.Writer
}

const repairedTable = 64 << 20 // bytes of a table, before compression

func (t *tableWriter) add(key, value []byte) error {
	if t.w == nil {
		f, err := t.db.FS.Create(t.path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		o := t.db.Options.MakeWriterOptions(6, t.db.Pebble.TableFormat())
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
	return t.db.Guard(func() error { return t.db.Pebble.Ingest(context.Background(), []string{t.path}) })
}
