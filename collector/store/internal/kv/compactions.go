// Package kv is the database of keys and values under the store: Pebble.
package kv

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// compactionPause is how long no compaction begins after one that met a corrupt table:
// Pebble would pick the same again at once, write most of it and drop it.
const compactionPause = 10 * time.Second

// compactions is Pebble's scheduler of compactions, with pauses. It looks once a second
// for compactions that may begin, since each look wakes the process up.
type compactions struct {
	*pebble.ConcurrencyLimitScheduler
	until atomic.Int64 // the end of the pause, ns since 1970
	stop  chan struct{}
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(n int, db pebble.DBForCompaction) {
	s, stop := pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(), make(chan struct{})
	s.Register(n, pausedDB{db, &c.until})
	c.ConcurrencyLimitScheduler, c.stop = s, stop
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if ok, handle := s.TrySchedule(); ok {
					handle.Done() // which begins those that wait
				}
			}
		}
	}()
}

// Unregister implements pebble.CompactionScheduler.
func (c *compactions) Unregister() {
	close(c.stop)
	c.ConcurrencyLimitScheduler.Unregister()
}

// A pausedDB allows no compactions during a pause.
type pausedDB struct {
	pebble.DBForCompaction
	until *atomic.Int64
}

// GetAllowedWithoutPermission implements pebble.DBForCompaction.
func (db pausedDB) GetAllowedWithoutPermission() int {
	if time.Now().UnixNano() < db.until.Load() {
		return 0
	}
	return db.DBForCompaction.GetAllowedWithoutPermission()
}

// backgroundError handles what Pebble will try again.
func (db *DB) backgroundError(err error) {
	if corruption.Unreadable(err) {
		db.compactions.until.Store(time.Now().Add(compactionPause).UnixNano())
	}
	if errors.Is(err, pebble.ErrClosed) || errors.Is(err, storeerr.ErrCorrupt) || pebble.IsCorruptionError(err) {
		return // dataCorruption names the table
	}
	db.Metrics.BackgroundErrors.Inc()
	db.log.Error("flush or compaction failed; it is tried again", "err", err)
}
