package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A horizon says which rows of an epoch retention has dropped: for each level
// the time, in ms, up to which there are none; 0 if all are there. It is a
// multiple of an hour, and no finer level has an earlier one. The last level goes
// with the epoch.
type horizon [layout.Levels]int64

// horizonHours is a horizon in whole hours of its epoch.
type horizonHours [layout.LevelDay]uint8

func (h horizonHours) times(epoch uint32) (at horizon) {
	for level, n := range h {
		if n > 0 {
			at[level] = layout.EpochStart(epoch) + int64(n)*layout.HourMs
		}
	}
	return at
}

func (at horizon) hours(epoch uint32) (h horizonHours) {
	for level := range h {
		if at[level] > 0 {
			h[level] = uint8((at[level] - layout.EpochStart(epoch)) / layout.HourMs)
		}
	}
	return h
}

func (h horizonHours) append(b []byte) []byte {
	for _, n := range h {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func readHorizon(value []byte) (h horizonHours, err error) {
	r := bitpack.Decoder{Data: value}
	for level := range h {
		h[level] = uint8(r.Below(layout.HoursPerEpoch+1, "hours"))
		if level > 0 && h[level] > h[level-1] {
			r.Fail("hours of a coarser level")
		}
	}
	return h, r.End()
}

// findHorizon reads an epoch's horizon. In the place of a corrupt one stands what age
// would have dropped; of a day that retention by size may have touched, the single
// profiles too, so that no profile is merged into a window without the others.
func (db *DB) findHorizon(epoch uint32) error {
	value, closer, err := db.kv.Get(layout.HorizonKey(epoch))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil && !errors.Is(err, storeerr.ErrCorrupt) {
		return fmt.Errorf("read horizon %x: %w", layout.HorizonKey(epoch), err)
	}
	var h horizonHours
	if err == nil {
		h, err = readHorizon(value)
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		db.kv.Corrupt(fmt.Errorf("read horizon %x: %w", layout.HorizonKey(epoch), err))
		now := db.options.Now()
		if h = db.options.outlived(epoch, now); db.old(epoch, now) {
			h[layout.LevelFine] = layout.HoursPerEpoch
		}
	}
	db.setHorizon(epoch, h.times(epoch))
	return nil
}

// setHorizon replaces the table, which snapshots share.
func (db *DB) setHorizon(epoch uint32, at horizon) {
	db.horizonMu.Lock()
	defer db.horizonMu.Unlock()
	next := maps.Clone(db.horizons)
	if next == nil {
		next = map[uint32]horizon{}
	}
	if next[epoch] = at; at == (horizon{}) {
		delete(next, epoch)
	}
	db.horizons = next
}

func (db *DB) horizonOf(epoch uint32) horizon {
	db.horizonMu.RLock()
	defer db.horizonMu.RUnlock()
	return db.horizons[epoch]
}

// reach is the time of the first profile that may count from a time on: one in the
// window around it, where the finer rows were dropped. Those that may be dropped
// before the caller takes its snapshot count as dropped.
func (db *DB) reach(epoch uint32, t int64) int64 {
	now := db.options.Now()
	soon := db.options.outlived(epoch, now.Add(time.Hour))
	if db.maxBytes.Load() > 0 && db.old(epoch, now) {
		soon[layout.LevelFine], soon[layout.LevelSlot] = layout.HoursPerEpoch, layout.HoursPerEpoch
	}
	at, then := db.horizonOf(epoch), soon.times(epoch)
	for level := layout.LevelDay; level > layout.LevelFine; level-- {
		if t <= max(at[level-1], then[level-1]) {
			return layout.WindowEnd(level, t) - layout.WindowMs[level] + 1
		}
	}
	return t
}

// reach is the time of the first profile that may count from a time on, as
// DB.reach.
func (at *horizon) reach(t int64) int64 {
	for level := layout.LevelDay; level > layout.LevelFine; level-- {
		if t <= at[level-1] {
			return layout.WindowEnd(level, t) - layout.WindowMs[level] + 1
		}
	}
	return t
}

// A snapshot is the store as it is at one moment: its keys, and which rows are
// not to be looked for among them.
type snapshot struct {
	*pebble.Snapshot
	horizons map[uint32]horizon
}

// snapshot returns the store as it is now. The caller closes it.
func (db *DB) snapshot() *snapshot {
	db.horizonMu.RLock()
	defer db.horizonMu.RUnlock()
	return &snapshot{db.kv.Pebble.NewSnapshot(), db.horizons}
}
