package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// mendFile lists the epochs that lost keys and are not mended yet, in the
// directory of damaged files.
const mendFile = "mend.json"

func mendPath(fs vfs.FS, dir string) string { return fs.PathJoin(dir, damagedDir, mendFile) }

// planMend notes epochs to be mended, before their keys are lost.
func planMend(fs vfs.FS, dir string, epochs map[uint32]bool) error {
	before, err := plannedMend(fs, dir)
	if err != nil {
		return err
	}
	for _, id := range before {
		epochs[id] = true
	}
	b, err := json.Marshal(slices.Sorted(maps.Keys(epochs)))
	if err != nil {
		return err
	}
	if err := fs.MkdirAll(fs.PathJoin(dir, damagedDir), 0o750); err != nil {
		return err
	}
	return writeFile(fs, mendPath(fs, dir), b)
}

func plannedMend(fs vfs.FS, dir string) (epochs []uint32, err error) {
	b, err := readFile(fs, mendPath(fs, dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return epochs, json.Unmarshal(b, &epochs)
}

// mendPlanned mends what planMend noted.
func (db *DB) mendPlanned() error {
	epochs, err := plannedMend(db.disk, db.dir)
	if err != nil || epochs == nil {
		return err
	}
	for _, id := range epochs {
		if err := db.mend(id); err != nil {
			return fmt.Errorf("mend epoch %d: %w", id, err)
		}
	}
	return db.disk.Remove(mendPath(db.disk, db.dir))
}

// mend makes an epoch that lost keys safe to go on with:
//
//   - Numbers of lost streams and partitions are taken by values that say
//     nothing, lest new ones get the rows of the lost.
//   - Dictionaries are closed by a segment that cannot be read, since what was
//     lost may be their end: a new node would get an old one's number.
//   - The slots with profiles are those of the rows that are there.
//   - A merged window with fewer profiles than there are below it goes: the
//     deletion of it was lost.
func (db *DB) mend(id uint32) error {
	if id == metaEpoch {
		return nil
	}
	type hour struct {
		stream uint32
		hour   uint8
	}
	var (
		batch      = db.pebble.NewBatch()
		partitions = map[uint32]bool{} // whether there is a name
		streams    = map[uint32]bool{}
		active     = map[hour]uint16{}
		stored     = map[hour]uint16{}
		times      = map[uint32][]int64{} // of the rows of a stream
		top        = map[byte]uint32{}    // the highest number and one, by kind
		head       packedRow
	)
	defer batch.Close()
	raise := func(kind byte, n uint32) {
		if n < maxStreams && n < maxPartitions { // others are damaged numbers
			top[kind] = max(top[kind], n+1)
		}
	}
	err := db.each(db.pebble, epochKey(id), func(key, value []byte) error {
		if len(key) < 9 {
			return nil
		}
		n := binary.BigEndian.Uint32(key[5:])
		switch kind := key[4]; kind {
		case kindPartition:
			partitions[n] = true
			raise(kindPartition, n)
		case kindSegment:
			if _, known := partitions[n]; !known {
				partitions[n] = false
			}
			raise(kindPartition, n)
		case kindStream:
			streams[n] = true
			raise(kindStream, n)
			if p, _, err := readStream(value); err == nil {
				raise(kindPartition, p)
			}
		case kindActive, kindDirty:
			raise(kindStream, n)
			if mask, size := binary.Uvarint(value); kind == kindActive && len(key) == 10 && size > 0 {
				stored[hour{n, key[9]}] = uint16(mask)
			}
		case kindRow:
			t, ok := windowTime(key)
			if !ok || int(key[5]) >= levels || epochOf(t) != id {
				return nil
			}
			stream := binary.BigEndian.Uint32(key[6:])
			raise(kindStream, stream)
			level := int(key[5])
			if level == levelFine {
				active[hour{stream, hourOf(t)}] |= 1 << slotOf(t)
				times[stream] = append(times[stream], t)
				return nil
			}
			// Fine rows come before, so all are known here.
			lo, _ := slices.BinarySearch(times[stream], t-windowMs[level]+1)
			hi, _ := slices.BinarySearch(times[stream], t+1)
			if err := head.decodeHead(&reader{data: value}); err != nil || head.profiles < uint64(hi-lo) {
				batch.Delete(key, nil)
				batch.Delete(windowKey(id, kindPoints, level, stream, t), nil)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for n := range top[kindPartition] {
		if !partitions[n] {
			batch.Set(partitionKey(id, n), nil, nil)
		}
		batch.Set(segmentKey(id, n, math.MaxUint32), nil, nil)
	}
	if n := top[kindStream]; n > 0 && !streams[n-1] {
		batch.Set(streamKey(id, n-1), nil, nil)
	}
	days := map[uint32]bool{}
	for h, mask := range active {
		if stored[h]&mask == mask {
			continue
		}
		mask |= stored[h]
		batch.Set(hourKey(id, kindActive, h.stream, h.hour), binary.AppendUvarint(nil, uint64(mask)), nil)
		batch.Set(hourKey(id, kindDirty, h.stream, h.hour), binary.AppendUvarint(nil, uint64(mask)), nil)
		if !days[h.stream] {
			batch.Set(hourKey(id, kindDirty, h.stream, wholeDay), binary.AppendUvarint(nil, 1), nil)
			days[h.stream] = true
		}
	}
	if batch.Empty() {
		return nil
	}
	return db.commit(batch, pebble.Sync)
}
