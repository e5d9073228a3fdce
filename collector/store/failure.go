package store

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A failure is the end of all writing: the log or the manifest could not be
// written or synced. What is on disk is in order, and a new process that opens
// the store finds all that was acknowledged; this one cannot know what reached
// the disk, so it acknowledges nothing more. It is safe for concurrent use.
type failure struct {
	log    *slog.Logger
	once   sync.Once
	failed chan struct{} // closed once err is set
	err    error
}

func newFailure(log *slog.Logger) *failure {
	return &failure{log: log, failed: make(chan struct{})}
}

// set records the first reason.
func (f *failure) set(reason string) {
	f.once.Do(func() {
		f.err = fmt.Errorf("%w: the disk does not take writes any more: %s; restart once it does", ErrUnavailable, reason)
		f.log.Error("the store failed for good: nothing is acknowledged from here on", "err", reason)
		close(f.failed)
	})
}

// get returns the reason, nil if there is none.
func (f *failure) get() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// Failed is closed when the store cannot be written any more and only a restart
// helps. Err says why.
func (db *DB) Failed() <-chan struct{} { return db.failure.failed }

// Err returns what made the store fail, nil if it did not.
func (db *DB) Err() error { return db.failure.get() }

// Writable returns an error that wraps ErrUnavailable, and says why, if no
// profiles are taken at present.
func (db *DB) Writable() error {
	if err := db.failure.get(); err != nil {
		return err
	}
	return db.disk.writable()
}

// await runs a call that writes. A write that the disk does not take never
// returns; the call has to, once the store failed.
func (db *DB) await(call func() error) error {
	done := make(chan error, 1)
	go func() {
		// Where pebbleLogger.Fatalf ends the goroutine, nothing is acknowledged.
		err := ErrInternal
		defer func() { done <- err }()
		defer db.recovered(&err)
		err = call()
	}()
	select {
	case err := <-done:
		return err
	case <-db.Failed():
		return db.Err()
	}
}

// A fatalError ends a call to Pebble that runs on a goroutine of ours.
type fatalError string

// commit commits a batch, as Batch.Commit does, unless the store failed. An
// error says that the batch may or may not be there after a restart.
func (db *DB) commit(b *pebble.Batch, o *pebble.WriteOptions) error {
	return db.guard(func() error { return b.Commit(o) })
}

// guard runs a call to Pebble that writes. Pebble panics where it cannot go on.
func (db *DB) guard(write func() error) (err error) {
	if err := db.failure.get(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			if _, known := r.(fatalError); !known {
				db.failure.set(fmt.Sprint(r))
			}
			err = db.failure.get()
		}
	}()
	if err := write(); err != nil {
		return err
	}
	return nil
}

// pebbleLogger hands the database's messages on.
type pebbleLogger struct {
	log     *slog.Logger
	failure *failure
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Fatalf ends the goroutine that calls it, since Pebble expects it not to
// return: by a panic where guard catches it, else quietly. The process ends when
// whoever waits for DB.Failed ends it.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	message := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.failure.set(message)
	if strings.HasPrefix(format, "pebble: fatal commit error") {
		panic(fatalError(message))
	}
	runtime.Goexit()
}
