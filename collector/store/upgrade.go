package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// In format 1 the slots in which a stream has profiles were kept stream by
// stream, and all streams of an epoch in memory. upgrade makes tables of them,
// one epoch at a time. If it is interrupted, the next start goes on.
func (db *DB) upgrade(ctx context.Context) error {
	for _, id := range db.epochsBetween(0, 1<<62) {
		found := false
		active := kindKey(id, kindActive1)
		b := db.pebble.NewBatch()
		err := db.each(db.pebble, active, func(key, value []byte) error {
			found = true
			if len(key) != 10 || key[9] >= hoursPerEpoch {
				db.corrupt(fmt.Errorf("read slots %x: %w: key names no hour of a stream", key, ErrCorrupt))
				return nil
			}
			slots := db.readSlots(key, value)
			stream := binary.BigEndian.Uint32(key[5:])
			return b.Set(pendingKey(id, key[9], stream), binary.AppendUvarint(nil, uint64(slots)), nil)
		})
		if err == nil && found {
			err = db.upgradeEpoch(ctx, id, b)
		}
		if err := errors.Join(err, b.Close()); err != nil {
			return fmt.Errorf("upgrade epoch %d: %w", id, err)
		}
	}
	return nil
}

// upgradeEpoch adds to a batch what finds streams by their definition, commits
// it, and writes the tables.
func (db *DB) upgradeEpoch(ctx context.Context, id uint32, b *pebble.Batch) error {
	same := map[uint64][]uint32{}
	err := db.each(db.pebble, kindKey(id, kindStream), func(key, value []byte) error {
		if _, def, err := readStream(value); err == nil && len(key) == 9 {
			hash := xxhash.Sum64(def.append(nil))
			same[hash] = append(same[hash], binary.BigEndian.Uint32(key[5:]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for hash, ids := range same {
		b.Set(findKey(id, hash), appendStreams(nil, ids), nil)
	}
	active := kindKey(id, kindActive1)
	if err := b.DeleteRange(active, after(active), nil); err != nil {
		return err
	}
	if err := db.commit(b, pebble.Sync); err != nil {
		return err
	}
	e, err := db.epoch(id)
	if err != nil {
		return err
	}
	defer e.release()
	if err := db.writeTables(ctx, e.value, db.options.Now().UnixMilli(), 0); err != nil {
		return err
	}
	e.value.retire(0)
	return nil
}
