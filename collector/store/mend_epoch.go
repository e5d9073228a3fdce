package store

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// A mender makes an epoch that lost keys safe to go on with:
//
//   - Numbers of lost streams and partitions are taken by values that say
//     nothing, lest new ones get the rows of the lost.
//   - Dictionaries are closed by a segment that cannot be read, since what was
//     lost may be their end: a new node would get an old one's number.
//   - Streams are found by their definitions again, in the slots of the rows that
//     are there.
//   - A merged window with fewer profiles than there are below it goes: the
//     deletion of it was lost. What is in no window is noted to be merged, so that
//     nothing is dropped before it is.
//   - Hours of which merged windows alone are there stay so.
//   - An ID whose profile is lost goes, so that it can be sent again.
type mender struct {
	db    *DB
	id    uint32
	batch *pebble.Batch

	partitions map[uint32]bool // those that something refers to: whether there is a name
	streams    map[uint32]*mendStream
	finds      map[uint64][]uint32 // streams by the hash of their definition
	noted      map[hourID]uint16   // slots that are to be in the next table
	listed     map[hourID]uint16   // slots that are in a table
	active     map[hourID]uint16   // slots of a damaged table, which goes
	dirty      map[hourID]uint16
	windows    []mendWindow
	points     []mendWindow
	rows       [levelDay]uint32 // by level: the hours that have any
	heads      uint32           // hours that have the head of a table
	columns    uint32           // hours that have columns of one
	next       uint32           // the highest number of a stream, and one
	gone       *horizonHours    // nil if none is noted
	head       packedRow
}

func (m *mender) stream(n uint32) *mendStream {
	if m.streams[n] == nil {
		m.streams[n] = &mendStream{}
	}
	return m.streams[n]
}

func (m *mender) deleteAll(prefix []byte) error {
	return m.batch.DeleteRange(prefix, after(prefix), nil)
}

// hasStream notes that something refers to a stream.
func (m *mender) hasStream(n uint32) {
	if n < maxStreams { // others are damaged numbers
		m.next = max(m.next, n+1)
	}
}

// hasPartition notes that something refers to a partition.
func (m *mender) hasPartition(n uint32) {
	if n < maxPartitions && !m.partitions[n] {
		m.partitions[n] = false
	}
}

// mend mends an epoch. No call is under way.
func (db *DB) mend(id uint32) error {
	if id == metaEpoch {
		return nil
	}
	m := &mender{
		db: db, id: id, batch: db.pebble.NewBatch(),
		partitions: map[uint32]bool{}, streams: map[uint32]*mendStream{}, finds: map[uint64][]uint32{},
		noted: map[hourID]uint16{}, listed: map[hourID]uint16{}, active: map[hourID]uint16{}, dirty: map[hourID]uint16{},
	}
	defer m.batch.Close()
	if err := db.each(db.pebble, epochKey(id), m.read); err != nil {
		return err
	}
	if err := m.readTables(); err != nil {
		return err
	}
	m.findFamilies()
	m.mendWindows()
	m.mendHorizon()
	m.mendPoints()
	if err := m.mendIndex(); err != nil {
		return err
	}
	m.mendMarks()
	m.mendNumbers()
	if !m.batch.Empty() {
		if err := db.commit(m.batch, pebble.Sync); err != nil {
			return err
		}
	}
	db.setHorizon(id, m.gone.times(id))
	db.cache.drop(id)
	db.unpinned.Store(true)
	return nil
}

// read takes a key of the epoch. The value is valid during the call only.
func (m *mender) read(key, value []byte) error {
	if len(key) < 5 {
		return nil
	}
	kind, rest := key[4], key[5:]
	switch {
	case kind == kindHorizon && len(rest) == 0:
		gone := m.db.horizonIn(m.id, value)
		m.gone = &gone
	case kind == kindFind && len(rest) == 8:
		r := reader{data: value}
		var ids []uint32
		for range r.count(1, "stream count") {
			ids = append(ids, r.below(epochItself, "stream"))
		}
		if r.end() != nil {
			ids = nil
		}
		for _, n := range ids {
			m.hasStream(n)
		}
		m.finds[binary.BigEndian.Uint64(rest)] = ids
	case kind == kindPending && len(rest) == 5 && rest[0] < hoursPerEpoch:
		n := binary.BigEndian.Uint32(rest[1:])
		m.hasStream(n)
		m.noted[hourID{n, rest[0]}] = m.db.readSlots(key, value)
	case kind == kindID && len(rest) == 12:
		return m.readID(key, value)
	case kind == kindSpans:
		return m.readSpans(key)
	case (kind == kindRow || kind == kindPoints) && len(rest) >= 13 && int(rest[0]) < levels:
		m.hasStream(keyStream(key))
		if t, _ := windowTime(key); t > 0 && epochOf(t) == m.id {
			m.readWindow(kind, mendWindow{keyStream(key), int8(rest[0]), t, 0}, value)
		}
	case kind == kindTable && len(rest) == 1 && rest[0] < hoursPerEpoch:
		m.heads |= 1 << rest[0]
	case kind == kindTable && len(rest) > 1 && rest[0] < hoursPerEpoch:
		m.columns |= 1 << rest[0]
	case len(rest) < 4:
	default:
		m.readNumbered(kind, binary.BigEndian.Uint32(rest), key, value)
	}
	return nil
}

// readNumbered takes a key that begins with the number of a partition or stream.
func (m *mender) readNumbered(kind byte, n uint32, key, value []byte) {
	switch kind {
	case kindPartition:
		if n < maxPartitions && len(key) == 9 {
			m.partitions[n] = true
		}
	case kindSegment:
		m.hasPartition(n)
	case kindStream:
		if len(key) != 9 {
			return
		}
		m.hasStream(n)
		s := m.stream(n)
		s.known = true
		if partition, def, err := readStream(value); err == nil {
			s.readable, s.partition, s.def = true, partition, def
			m.hasPartition(partition)
		}
	case kindDirty:
		m.hasStream(n)
		if len(key) != 10 || key[9] > wholeDay {
			return
		}
		m.dirty[hourID{n, key[9]}] = m.db.readSlots(key, value)
	}
}

// readSpans deletes the spans of a row that is lost.
func (m *mender) readSpans(key []byte) error {
	if len(key) != 26 {
		return nil
	}
	m.hasStream(keyStream(key))
	row := slices.Clone(key)
	row[4] = kindRow
	found, err := m.db.has(row)
	if err == nil && !found {
		m.batch.Delete(key, nil)
	}
	return err
}

// readID looks for the profile of an ID.
func (m *mender) readID(key, value []byte) error {
	stream, id := binary.BigEndian.Uint32(key[5:]), binary.BigEndian.Uint64(key[9:])
	m.hasStream(stream)
	t, n := binary.Uvarint(value)
	if m.gone != nil && t <= math.MaxInt64 && int64(t) <= m.gone.times(m.id)[levelFine] {
		return nil // the row was dropped
	}
	found := false
	if n > 0 {
		row := binary.BigEndian.AppendUint64(windowKey(m.id, kindRow, levelFine, stream, int64(t)), id)
		var err error
		if found, err = m.db.has(row); err != nil {
			return err
		}
	}
	if !found {
		m.batch.Delete(key, nil)
	}
	return nil
}

// readWindow takes a row, or points.
func (m *mender) readWindow(kind byte, w mendWindow, value []byte) {
	r := reader{data: value}
	if kind == kindPoints {
		r.count(2, "sample type count")
		if w.profiles = r.uvarint("point count"); r.err != nil {
			m.batch.Delete(windowKey(m.id, kindPoints, int(w.level), w.stream, w.end), nil)
			return
		}
		m.points = append(m.points, w)
		return
	}
	if w.level < levelDay {
		m.rows[w.level] |= 1 << hourOf(w.end)
	}
	if w.level == levelFine {
		h := m.stream(w.stream).at(hourOf(w.end))
		h.fine[slotOf(w.end)]++
		h.slots[slotOf(w.end)]++
		return
	}
	if err := m.head.decodeHead(&r); err != nil {
		m.deleteWindow(w)
		return
	}
	w.profiles = m.head.profiles
	m.windows = append(m.windows, w)
}

func (m *mender) deleteWindow(w mendWindow) {
	m.batch.Delete(windowKey(m.id, kindRow, int(w.level), w.stream, w.end), nil)
	m.batch.Delete(windowKey(m.id, kindPoints, int(w.level), w.stream, w.end), nil)
}

// mendNumbers takes the numbers of what is lost, and closes the dictionaries.
func (m *mender) mendNumbers() {
	names := map[uint32]string{}
	for _, s := range m.streams {
		if s.readable {
			names[s.partition] = s.def.labels.Get(labelServiceName)
		}
	}
	for n, named := range m.partitions {
		if !named {
			m.batch.Set(partitionKey(m.id, n), []byte(names[n]), nil)
		}
		m.batch.Set(segmentKey(m.id, n, math.MaxUint32), nil, nil)
	}
	if n := m.next; n > 0 && (m.streams[n-1] == nil || !m.streams[n-1].known) {
		m.batch.Set(streamKey(m.id, n-1), nil, nil)
	}
}
