package store

import (
	"context"
	"time"
)

// call runs fn as a call of the store's interface. It fails after Close, which waits
// for fn; its time is observed under a name, unless that is empty; and a panic in it
// becomes an error.
func (db *DB) call(name string, fn func() error) (err error) {
	if err := db.use(); err != nil {
		return err
	}
	defer db.users.Done()
	defer db.recovered(&err)
	if name != "" {
		defer func(began time.Time) {
			db.metrics.querySeconds.WithLabelValues(name).Observe(time.Since(began).Seconds())
		}(time.Now())
	}
	return fn()
}

// query is call for a query that reserves memory, as within does.
func (db *DB) query(ctx context.Context, name string, fn func(*hold) error) error {
	return db.call(name, func() error { return db.within(ctx, fn) })
}

// write is call for what writes. It fails with ErrUnavailable while no profiles are
// taken, and returns when the store fails, though the disk never answers.
func (db *DB) write(fn func() error) error {
	return db.await(func() error {
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
