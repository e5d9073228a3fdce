package store

import (
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// expired reports whether an epoch is older than the retention.
func (db *DB) expired(epoch uint32, now time.Time) bool {
	return db.options.Retention > 0 && epochStart(epoch)+dayMs < now.Add(-db.options.Retention).UnixMilli()
}

// retain drops epochs that are too old, and then the oldest ones while all
// together take more than the size allowed.
func (db *DB) retain(now time.Time) error {
	ids := db.epochsBetween(0, math.MaxInt64)
	for len(ids) > 0 && db.expired(ids[0], now) {
		if err := db.dropEpoch(ids[0], "age"); err != nil {
			return err
		}
		ids = ids[1:]
	}
	if db.options.MaxBytes <= 0 {
		return nil
	}
	total, sizes := int64(0), make([]int64, len(ids))
	for i, id := range ids {
		n, err := db.pebble.EstimateDiskUsage(epochKey(id), epochKey(id+1))
		if err != nil {
			return fmt.Errorf("size of epoch %d: %w", id, err)
		}
		sizes[i] = int64(n)
		total += sizes[i]
	}
	for i, id := range ids {
		if total <= db.options.MaxBytes || i == len(ids)-1 {
			return nil
		}
		if err := db.dropEpoch(id, "size"); err != nil {
			return err
		}
		total -= sizes[i]
	}
	return nil
}

// dropEpoch deletes an epoch, once the appends to it have ended. Queries that
// run go on to see it.
func (db *DB) dropEpoch(id uint32, why string) error {
	u, err := db.epoch(id)
	if err != nil {
		return err
	}
	defer u.release()
	e := u.value
	for !e.tryDrop() {
		time.Sleep(time.Millisecond)
	}
	// In Pebble a range that is deleted as a whole costs no compaction.
	err = db.guard(func() error { return db.pebble.DeleteRange(epochKey(id), epochKey(id+1), pebble.Sync) })
	if err != nil {
		return fmt.Errorf("drop epoch %d: %w", id, err)
	}
	db.mu.Lock()
	delete(db.epochs, id)
	db.mu.Unlock()
	db.cache.drop(id)
	db.metrics.droppedEpochs.Inc()
	db.log.Info("dropped a day of profiles", "day", time.UnixMilli(epochStart(id)).UTC().Format(time.DateOnly), "reason", why)
	return nil
}

// tryDrop refuses new appends and reports whether none are under way.
func (e *epoch) tryDrop() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropped = true
	if e.writers == 0 {
		clear(e.open)
	}
	return e.writers == 0
}
