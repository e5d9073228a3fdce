package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/metrics"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// FormatVersion is the version of all that FORMAT.md describes.
const FormatVersion = 5

// A DB is the database of a store: keys and values in Pebble. Reads pass over what is
// corrupt, and report it; writes wait for disk space, and fail for good once the log
// cannot be written. It is safe for concurrent use.
type DB struct {
	Dir     string
	Pebble  *pebble.DB // for batches, snapshots and measures
	FS      *guardfs.FS
	Failure *guardfs.Failure
	log     *slog.Logger
	Metrics *metrics.Counters

	Options     *pebble.Options
	lock        *pebble.Lock
	Damage      DamageList
	compactions compactions
}

// Options configure a kvDB.
type Options struct {
	FS         vfs.FS
	CacheBytes int64 // memory for blocks of files
	MinFree    int64 // bytes of the disk, below which nothing is taken
	Log        *slog.Logger
	Metrics    *metrics.Counters
}

// Open opens or creates the database in a directory, which it locks.
func Open(dir string, o Options) (db *DB, err error) {
	db = &DB{Dir: dir, log: o.Log, Metrics: o.Metrics, Failure: guardfs.NewFailure(o.Log)}
	db.FS = guardfs.New(o.FS, dir, o.MinFree, o.Log, db.Failure)
	db.Options = PebbleOptions(db.FS, o.CacheBytes, Logger{o.Log, db.Failure})
	db.Options.EventListener = &pebble.EventListener{DataCorruption: db.dataCorruption, BackgroundError: db.backgroundError}
	db.Options.Experimental.CompactionScheduler = &db.compactions
	if err := db.FS.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if db.lock, err = pebble.LockDirectory(dir, db.FS); err != nil {
		return nil, fmt.Errorf("another process has it open: %w", err)
	}
	db.Options.Lock = db.lock
	if err := db.open(); err != nil {
		return nil, errors.Join(err, db.lock.Close())
	}
	if err := db.checkFormat(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	db.FS.Ready()
	return db, nil
}

// open opens Pebble.
func (db *DB) open() error {
	logs, err := pebblefiles.Check(db.FS, db.Dir, db.Options)
	if err != nil {
		return err
	}
	err = db.Guard(func() (err error) {
		db.Pebble, err = pebble.Open(db.Dir, db.Options)
		return err
	})
	if err != nil {
		return pebblefiles.Explain(err)
	}
	for _, d := range logs {
		db.report(d)
	}
	return nil
}

// Stop lets writes fail that wait for disk space.
func (db *DB) Stop() { db.FS.Stop() }

// Close closes the database. The caller has made sure that nobody uses it. A database
// that failed is left as it is: the error says so.
func (db *DB) Close() error {
	db.Stop()
	if err := db.Failure.Err(); err != nil {
		return err // calls may hang in Pebble for good
	}
	return errors.Join(db.Guard(db.Pebble.Close), db.lock.Close())
}

// checkFormat refuses a store of another version, and marks a new one.
func (db *DB) checkFormat() error {
	v, closer, err := db.Get(layout.FormatKey())
	switch {
	case errors.Is(err, storeerr.ErrCorrupt):
		return nil // it cannot be told, and is most likely the present one
	case errors.Is(err, pebble.ErrNotFound):
		it, err := db.Pebble.NewIter(nil)
		if err != nil {
			return err
		}
		empty := !it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if !empty {
			return errors.New("no format version: not a profile store")
		}
		return db.Set(layout.FormatKey(), binary.AppendUvarint(nil, FormatVersion), pebble.Sync)
	case err != nil:
		return err
	}
	return errors.Join(CheckFormat(v), closer.Close())
}

// CheckFormat refuses versions that this program does not read.
func CheckFormat(value []byte) error {
	if n, size := binary.Uvarint(value); size <= 0 || n != FormatVersion {
		return fmt.Errorf("format version %x, this program reads %d", value, FormatVersion)
	}
	return nil
}

// Writable returns an error that wraps ErrUnavailable, and says why, if nothing can be
// written at present.
func (db *DB) Writable() error {
	if err := db.Failure.Err(); err != nil {
		return err
	}
	return db.FS.Writable()
}

// Set writes a value, unless the store failed.
func (db *DB) Set(key, value []byte, o *pebble.WriteOptions) error {
	return db.Guard(func() error { return db.Pebble.Set(key, value, o) })
}

// Delete deletes a key, unless the store failed.
func (db *DB) Delete(key []byte, o *pebble.WriteOptions) error {
	return db.Guard(func() error { return db.Pebble.Delete(key, o) })
}

// Await runs a call that writes. A write that the disk does not take never
// returns; the call has to, once the store failed.
func (db *DB) Await(call func() error) error {
	done := make(chan error, 1)
	go func() {
		// Where Logger.Fatalf ends the goroutine, nothing is acknowledged.
		err := storeerr.ErrInternal
		defer func() { done <- err }()
		defer db.Recover(&err)
		err = call()
	}()
	select {
	case err := <-done:
		return err
	case <-db.Failure.Failed:
		return db.Failure.Err()
	}
}

// Commit commits a batch, as Batch.Commit does, unless the store failed. An
// error says that the batch may or may not be there after a restart.
func (db *DB) Commit(b *pebble.Batch, o *pebble.WriteOptions) error {
	return db.Guard(func() error { return b.Commit(o) })
}

// Guard runs a call to Pebble that writes. Pebble panics where it cannot go on.
func (db *DB) Guard(write func() error) (err error) {
	if err := db.Failure.Err(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			if _, known := r.(fatalError); !known {
				db.Failure.Fail(fmt.Sprint(r))
			}
			err = db.Failure.Err()
		}
	}()
	return write()
}

// Recover turns a panic into an error of the call that it happened in. It is
// deferred by every goroutine that works for a call, since a panic that leaves a
// goroutine ends the process.
func (db *DB) Recover(err *error) {
	if p := recover(); p != nil {
		*err = db.panicked(p)
	}
}

// panicked logs and counts a panic. It is called while the goroutine that panicked
// unwinds, so that the stack is the panic's.
func (db *DB) panicked(p any) error {
	if err, ok := p.(error); ok && errors.Is(err, storeerr.ErrInternal) {
		return err // it was logged where it happened
	}
	db.Metrics.Panics.Inc()
	db.log.Error("a call of the store panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return storeerr.ErrInternal
}
