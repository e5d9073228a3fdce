package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// An epoch is a day, in UTC: its partitions, streams and their index. Retention
// drops it as a whole.
type epoch struct {
	id uint32

	// grow is held by whoever changes what is on disk, mu only while the fields
	// below change: a write may wait for the disk for long.
	grow       sync.Mutex
	mu         sync.RWMutex
	writers    int               // appends that are under way
	dropped    bool              // or about to be, once there are no writers
	partitions []string          // service names
	current    map[string]uint32 // service name to the partition that grows
	streams    []*stream
	byKey      map[string]*stream // by the definition's encoding
	index      index
	open       map[hourID]*openHour
	pin        func() // set while open is not empty; lets go of the epoch
	key        []byte
}

// hourID is an hour of a stream, or the whole day with hour wholeDay.
type hourID struct {
	stream uint32
	hour   uint8
}

const wholeDay = hoursPerEpoch

// An openHour has profiles that are in no merged window yet, at least not in
// that of the hour.
type openHour struct {
	dirty  uint16                  // slots that are not merged; 1 for a day
	flying int                     // appends between begin and finish
	gen    uint64                  // counts appends
	last   [slotsPerHour]time.Time // when a slot got its last profile
}

func (e *epoch) size() int64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.index.bytes + int64(len(e.streams))*512 + int64(len(e.open))*384
}

// beginWrite reports whether the epoch may be written into, until endWrite.
func (e *epoch) beginWrite() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dropped {
		return false
	}
	e.writers++
	return true
}

func (e *epoch) endWrite() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writers--
}

// findEpochs lists the epochs on disk, by one seek for each.
func (db *DB) findEpochs() (err error) {
	it, err := db.pebble.NewIter(&pebble.IterOptions{UpperBound: epochKey(metaEpoch)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		if len(it.Key()) < 4 {
			return fmt.Errorf("%w: key %x", ErrCorrupt, it.Key())
		}
		id := binary.BigEndian.Uint32(it.Key())
		db.epochs[id] = true
		if id == metaEpoch-1 {
			break
		}
		ok = it.SeekGE(epochKey(id + 1))
	}
	return it.Error()
}

// pinDirty loads the epochs that have windows to merge, so that the next
// maintenance goes on where the last run ended.
func (db *DB) pinDirty() error {
	for _, id := range db.epochsBetween(0, 1<<62) {
		found := errors.New("found")
		err := db.each(db.pebble, kindKey(id, kindDirty), func(_, _ []byte) error { return found })
		if errors.Is(err, found) {
			var u use[*epoch]
			if u, err = db.epoch(id); err == nil {
				u.release()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// epochsBetween lists the epochs with profiles that overlap a range in ms.
func (db *DB) epochsBetween(start, end int64) []uint32 {
	if end < 1 || start > end {
		return nil
	}
	lo, hi := epochOf(max(start, 1)), epochOf(min(end, int64(metaEpoch-1)*dayMs))
	db.mu.Lock()
	defer db.mu.Unlock()
	var out []uint32
	for id := range db.epochs {
		if id >= lo && id <= hi {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// epoch returns an epoch, read from disk if it is not in the cache.
func (db *DB) epoch(id uint32) (use[*epoch], error) {
	u, err := acquire[*epoch](db.cache, cacheKey{id, epochItself}, func() (cached, error) { return db.loadEpoch(id) })
	if err == nil {
		u.value.mu.Lock()
		u.value.keep(db)
		u.value.mu.Unlock()
	}
	return u, err
}

// keep pins the epoch in the cache while it has windows to merge.
func (e *epoch) keep(db *DB) {
	switch {
	case len(e.open) > 0 && e.pin == nil:
		entry := db.cache.acquire(cacheKey{e.id, epochItself}, func() (cached, error) { return e, nil })
		e.pin = func() { db.cache.release(entry) }
	case len(e.open) == 0 && e.pin != nil:
		// Letting go asks for the size, which takes the lock that we hold.
		go e.pin()
		e.pin = nil
	}
}

func (db *DB) loadEpoch(id uint32) (*epoch, error) {
	e := &epoch{
		id: id, current: map[string]uint32{}, byKey: map[string]*stream{},
		index: index{postings: map[string]map[string][]uint32{}}, open: map[hourID]*openHour{},
	}
	err := errors.Join(
		db.each(db.pebble, kindKey(id, kindPartition), e.readPartition),
		db.each(db.pebble, kindKey(id, kindStream), func(key, value []byte) error { return e.readStream(db, key, value) }),
		db.each(db.pebble, kindKey(id, kindActive), func(key, value []byte) error {
			return e.readHour(db, key, value, func(s *stream, hour uint8, mask uint16) { s.active.add(hour, mask) })
		}),
		db.each(db.pebble, kindKey(id, kindDirty), func(key, value []byte) error {
			return e.readHour(db, key, value, func(s *stream, hour uint8, mask uint16) {
				e.open[hourID{s.id, hour}] = &openHour{dirty: mask}
			})
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("read epoch %d: %w", id, err)
	}
	return e, nil
}

// readPartition reads a partition's name. One that is missing, or empty as mend
// writes it, keeps its number and does not grow.
func (e *epoch) readPartition(key, value []byte) error {
	if len(key) != 9 || binary.BigEndian.Uint32(key[5:]) < uint32(len(e.partitions)) {
		return fmt.Errorf("%w: key %x, want partition %d", ErrCorrupt, key, len(e.partitions))
	}
	e.skipPartitions(binary.BigEndian.Uint32(key[5:]))
	if len(value) > 0 {
		e.current[string(value)] = uint32(len(e.partitions))
	}
	e.partitions = append(e.partitions, string(value))
	return nil
}

// skipPartitions makes the next partition's number n at least.
func (e *epoch) skipPartitions(n uint32) {
	for uint32(len(e.partitions)) < min(n, maxPartitions) {
		e.partitions = append(e.partitions, "")
	}
}

// What a damaged number may allocate is bounded. An epoch has far fewer.
const (
	maxPartitions = 1 << 22
	maxStreams    = 1 << 22
)

// readStream reads a stream's definition. A damaged one takes its number, so
// that others keep theirs.
func (e *epoch) readStream(db *DB, key, value []byte) error {
	if len(key) != 9 || binary.BigEndian.Uint32(key[5:]) < uint32(len(e.streams)) {
		return fmt.Errorf("%w: key %x, want stream %d", ErrCorrupt, key, len(e.streams))
	}
	if binary.BigEndian.Uint32(key[5:]) >= maxStreams {
		db.corrupt(fmt.Errorf("read stream %x: %w: the number is above %d", key, ErrCorrupt, maxStreams))
		return nil
	}
	for uint32(len(e.streams)) < binary.BigEndian.Uint32(key[5:]) {
		e.streams = append(e.streams, &stream{id: uint32(len(e.streams))})
	}
	if len(value) == 0 { // as mend writes it
		e.streams = append(e.streams, &stream{id: uint32(len(e.streams))})
		return nil
	}
	partition, def, err := readStream(value)
	if err == nil && partition >= maxPartitions {
		err = fmt.Errorf("%w: partition %d of %d", ErrCorrupt, partition, len(e.partitions))
	}
	if err != nil {
		db.corrupt(fmt.Errorf("read stream %x: %w", key, err))
		e.streams = append(e.streams, &stream{id: uint32(len(e.streams))})
		return nil
	}
	e.skipPartitions(partition + 1) // its name may be lost
	e.addStream(partition, def)
	return nil
}

func (e *epoch) addStream(partition uint32, def definition) *stream {
	s := &stream{id: uint32(len(e.streams)), partition: partition, def: def, series: uint32(len(e.index.series))}
	e.streams = append(e.streams, s)
	e.byKey[string(def.append(nil))] = s
	for i := range def.types {
		e.index.add(series{stream: s.id, sampleType: i, labels: def.seriesLabels(i)})
	}
	return s
}

// readHour reads a set of slots. A damaged one counts as all slots: to look
// where nothing is, or to merge once more, does no harm.
func (e *epoch) readHour(db *DB, key, value []byte, fn func(*stream, uint8, uint16)) error {
	var id uint32
	if len(key) == 10 {
		id = binary.BigEndian.Uint32(key[5:])
	}
	if len(key) != 10 || id >= uint32(len(e.streams)) || key[9] > wholeDay || key[9] == wholeDay && key[4] == kindActive {
		db.corrupt(fmt.Errorf("read hour %x: %w: key names no hour of a stream", key, ErrCorrupt))
		return nil
	}
	r := reader{data: value}
	mask := r.below(1<<slotsPerHour, "slots")
	if err := r.end(); err != nil {
		db.corrupt(fmt.Errorf("read hour %x: %w", key, err))
		mask = 1<<slotsPerHour - 1
	}
	fn(e.streams[id], key[9], uint16(mask))
	return nil
}

// stream returns the stream of a definition, which it writes if it is new. The
// write is in the log before any later one, but not synced.
func (e *epoch) stream(db *DB, def *definition) (*stream, error) {
	e.grow.Lock()
	defer e.grow.Unlock()
	e.key = def.append(e.key[:0])
	if s := e.known(e.key); s != nil {
		return s, nil
	}
	b := db.pebble.NewBatch()
	defer b.Close()
	service := def.labels.Get(labelServiceName)
	partition, ok := e.current[service]
	if !ok {
		partition = uint32(len(e.partitions))
		if err := b.Set(partitionKey(e.id, partition), []byte(service), nil); err != nil {
			return nil, err
		}
	}
	if err := b.Set(streamKey(e.id, uint32(len(e.streams))), appendStream(nil, partition, def), nil); err != nil {
		return nil, err
	}
	if err := db.commit(b, pebble.NoSync); err != nil {
		return nil, fmt.Errorf("write stream: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !ok {
		e.current[service] = partition
		e.partitions = append(e.partitions, service)
	}
	return e.addStream(partition, *def), nil
}

func (e *epoch) known(key []byte) *stream {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.byKey[string(key)]
}
