// Package kv is the database of keys and values under the store: Pebble.
package kv

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// compactionPause is how long no compaction begins after one that met a corrupt table:
// Pebble would pick the same again at once, write most of it and drop it.
const compactionPause = 10 * time.Second

// compactions is a scheduler of Pebble's compactions. It runs as many as the database
// allows, as Pebble's own scheduler does, but none during a pause. It is safe for
// concurrent use.
type compactions struct {
	until atomic.Int64 // the end of the pause, ns since 1970

	granting sync.Mutex // held while the database is asked for compactions
	mu       sync.Mutex
	db       pebble.DBForCompaction
	running  int
	closed   bool
	stop     chan struct{}
}

// pause lets no compaction begin for a while.
func (c *compactions) pause() { c.until.Store(time.Now().Add(compactionPause).UnixNano()) }

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) {
	c.db, c.stop = db, make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second) // flushes may allow more; each tick wakes the process up
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
				c.grant()
			}
		}
	}()
}

// Unregister implements pebble.CompactionScheduler.
func (c *compactions) Unregister() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	close(c.stop)
	c.granting.Lock() // waits for the last grant
	defer c.granting.Unlock()
}

// TrySchedule implements pebble.CompactionScheduler.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !c.begin() {
		return false, nil
	}
	return true, c
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (c *compactions) UpdateGetAllowedWithoutPermission() {}

// begin counts a compaction if one more may run.
func (c *compactions) begin() bool {
	if time.Now().UnixNano() < c.until.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.running >= c.db.GetAllowedWithoutPermission() {
		return false
	}
	c.running++
	return true
}

func (c *compactions) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
}

// grant lets the compactions begin that the database waits for.
func (c *compactions) grant() {
	c.granting.Lock()
	defer c.granting.Unlock()
	for c.begin() {
		if waiting, _ := c.db.GetWaitingCompaction(); !waiting || !c.db.Schedule(c) {
			c.end()
			return
		}
	}
}

// Started implements pebble.CompactionGrantHandle.
func (c *compactions) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (c *compactions) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (c *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (c *compactions) Done() {
	c.end()
	c.grant()
}

// backgroundError handles what Pebble will try again.
func (db *DB) backgroundError(err error) {
	if corruption.Unreadable(err) {
		db.compactions.pause()
	}
	if errors.Is(err, pebble.ErrClosed) || errors.Is(err, storeerr.ErrCorrupt) || pebble.IsCorruptionError(err) {
		return // dataCorruption names the table
	}
	db.Metrics.BackgroundErrors.Inc()
	db.log.Error("flush or compaction failed; it is tried again", "err", err)
}
