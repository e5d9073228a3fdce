package store

import (
	"time"

	"github.com/flameline/flameline/collector/store/internal/corruption"
)

// call runs fn as a call of the store's interface. It fails after Close, which waits
// for fn; its time is observed under a name, unless that is empty; and a panic in it
// becomes an error.
func (db *DB) call(name string, fn func() error) (err error) {
	if err := db.use(); err != nil {
		return err
	}
	defer db.users.Done()
	defer db.kv.Recover(&err)
	if name != "" {
		defer func(began time.Time) {
			db.metrics.QuerySeconds.WithLabelValues(name).Observe(time.Since(began).Seconds())
		}(time.Now())
	}
	return fn()
}

// write is call for what writes. It fails with ErrUnavailable while no profiles are
// taken, and returns when the store fails, though the disk never answers.
func (db *DB) write(fn func() error) error {
	return db.kv.Await(func() error {
		return db.call("", func() error {
			if err := db.Writable(); err != nil {
				return err
			}
			return fn()
		})
	})
}

// use counts a user of the database, which calls db.users.Done at its end.
func (db *DB) use() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return ErrClosed
	}
	db.users.Add(1)
	return nil
}

// Failed is closed when the store cannot be written any more and only a restart
// helps. Err says why.
func (db *DB) Failed() <-chan struct{} { return db.kv.Failure.Failed }

// Err returns what made the store fail, nil if it did not.
func (db *DB) Err() error { return db.kv.Failure.Err() }

// Writable returns an error that wraps ErrUnavailable, and says why, if no
// profiles are taken at present.
func (db *DB) Writable() error { return db.kv.Writable() }

// Damage lists the corrupt files that were found since the store was opened, oldest
// first.
func (db *DB) Damage() []corruption.Damage { return db.kv.Damage.List() }
