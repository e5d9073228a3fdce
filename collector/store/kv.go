package store

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

// formatVersion is the version of all that FORMAT.md describes.
const formatVersion = 3

// A kvDB is the database of a store: keys and values in Pebble. Reads pass over what is
// corrupt, and report it; writes wait for disk space, and fail for good once the log
// cannot be written. It is safe for concurrent use.
type kvDB struct {
	dir     string
	pebble  *pebble.DB // for batches, snapshots and measures
	disk    *guardfs.FS
	failure *guardfs.Failure
	log     *slog.Logger
	metrics *metrics.Counters

	options     *pebble.Options
	lock        *pebble.Lock
	damage      damageList
	gaps        gaps
	compactions compactions
}

// kvOptions configure a kvDB.
type kvOptions struct {
	fs         vfs.FS
	cacheBytes int64 // memory for blocks of files
	minFree    int64 // bytes of the disk, below which nothing is taken
	log        *slog.Logger
	metrics    *metrics.Counters
}

// openKV opens or creates the database in a directory, which it locks.
func openKV(dir string, o kvOptions) (db *kvDB, err error) {
	db = &kvDB{dir: dir, log: o.log, metrics: o.metrics, failure: guardfs.NewFailure(o.log)}
	db.disk = guardfs.New(o.fs, dir, o.minFree, o.log, db.failure)
	db.options = newPebbleOptions(db.disk, o.cacheBytes, pebbleLogger{o.log, db.failure})
	db.options.EventListener = &pebble.EventListener{DataCorruption: db.dataCorruption, BackgroundError: db.backgroundError}
	db.options.Experimental.CompactionScheduler = &db.compactions
	if err := db.disk.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if db.lock, err = pebble.LockDirectory(dir, db.disk); err != nil {
		return nil, fmt.Errorf("another process has it open: %w", err)
	}
	db.options.Lock = db.lock
	if err := db.open(); err != nil {
		return nil, errors.Join(err, db.lock.Close())
	}
	if err := db.checkFormat(); err != nil {
		return nil, errors.Join(err, db.close())
	}
	db.disk.Ready()
	return db, nil
}

// open opens Pebble.
func (db *kvDB) open() error {
	logs, err := pebblefiles.Check(db.disk, db.dir, db.options)
	if err != nil {
		return err
	}
	err = db.guard(func() (err error) {
		db.pebble, err = pebble.Open(db.dir, db.options)
		return err
	})
	if err != nil {
		return pebblefiles.Explain(db.disk, db.dir, db.options, err)
	}
	for _, d := range logs {
		db.report(d)
	}
	return nil
}

// stop lets writes fail that wait for disk space.
func (db *kvDB) stop() { db.disk.Stop() }

// close closes the database. The caller has made sure that nobody uses it. A database
// that failed is left as it is: the error says so.
func (db *kvDB) close() error {
	db.stop()
	if err := db.failure.Err(); err != nil {
		return err // calls may hang in Pebble for good
	}
	return errors.Join(db.guard(db.pebble.Close), db.lock.Close())
}

// checkFormat refuses a store of another version, and marks a new one. Version 2 is marked too: it stays readable.
func (db *kvDB) checkFormat() error {
	v, closer, err := db.get(layout.FormatKey())
	if errors.Is(err, pebble.ErrNotFound) {
		it, err := db.pebble.NewIter(nil)
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
		return db.markFormat()
	}
	if errors.Is(err, storeerr.ErrCorrupt) {
		return nil // it cannot be told, and is most likely the present one
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	got, n := binary.Uvarint(v)
	if n > 0 && (got == 2) {
		return db.markFormat()
	}
	if n <= 0 || got != formatVersion {
		return fmt.Errorf("format version %x, this program reads %d", v, formatVersion)
	}
	return nil
}

func (db *kvDB) markFormat() error {
	return db.set(layout.FormatKey(), binary.AppendUvarint(nil, formatVersion), pebble.Sync)
}

// writable returns an error that wraps ErrUnavailable, and says why, if nothing can be
// written at present.
func (db *kvDB) writable() error {
	if err := db.failure.Err(); err != nil {
		return err
	}
	return db.disk.Writable()
}

// set writes a value, unless the store failed.
func (db *kvDB) set(key, value []byte, o *pebble.WriteOptions) error {
	return db.guard(func() error { return db.pebble.Set(key, value, o) })
}

// delete deletes a key, unless the store failed.
func (db *kvDB) delete(key []byte, o *pebble.WriteOptions) error {
	return db.guard(func() error { return db.pebble.Delete(key, o) })
}

// await runs a call that writes. A write that the disk does not take never
// returns; the call has to, once the store failed.
func (db *kvDB) await(call func() error) error {
	done := make(chan error, 1)
	go func() {
		// Where pebbleLogger.Fatalf ends the goroutine, nothing is acknowledged.
		err := storeerr.ErrInternal
		defer func() { done <- err }()
		defer db.recovered(&err)
		err = call()
	}()
	select {
	case err := <-done:
		return err
	case <-db.failure.Failed:
		return db.failure.Err()
	}
}

// commit commits a batch, as Batch.Commit does, unless the store failed. An
// error says that the batch may or may not be there after a restart.
func (db *kvDB) commit(b *pebble.Batch, o *pebble.WriteOptions) error {
	return db.guard(func() error { return b.Commit(o) })
}

// guard runs a call to Pebble that writes. Pebble panics where it cannot go on.
func (db *kvDB) guard(write func() error) (err error) {
	if err := db.failure.Err(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			if _, known := r.(fatalError); !known {
				db.failure.Fail(fmt.Sprint(r))
			}
			err = db.failure.Err()
		}
	}()
	if err := write(); err != nil {
		return err
	}
	return nil
}

// recovered turns a panic into an error of the call that it happened in. It is
// deferred by every goroutine that works for a call, since a panic that leaves a
// goroutine ends the process.
func (db *kvDB) recovered(err *error) {
	if p := recover(); p != nil {
		*err = db.panicked(p)
	}
}

// panicked logs and counts a panic. It is called while the goroutine that panicked
// unwinds, so that the stack is the panic's.
func (db *kvDB) panicked(p any) error {
	if err, ok := p.(error); ok && errors.Is(err, storeerr.ErrInternal) {
		return err // it was logged where it happened
	}
	db.metrics.Panics.Inc()
	db.log.Error("a call of the store panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return storeerr.ErrInternal
}
