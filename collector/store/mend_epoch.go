package store

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
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

	partitions map[uint32]bool // whether there is a name
	streams    map[uint32]*mendStream
	finds      map[uint64][]uint32 // streams by the hash of their definition
	noted      map[hourID]uint16   // slots that are to be in the next table
	active     map[hourID]uint16   // of format 1
	dirty      map[hourID]uint16
	windows    []mendWindow
	points     []mendWindow
	rows       [levelDay]uint32 // by level: the hours that have any
	top        map[byte]uint32  // the highest number and one, by kind
	gone       *horizonHours    // nil if none is noted
	head       packedRow
}

// A mendStream is what is left of a stream.
type mendStream struct {
	known     bool // it has a key
	readable  bool
	partition uint32
	def       definition
	members   []*mendStream // of a family
	hours     [hoursPerEpoch]*mendHour
	day       bool // there is a window of the day
}

// A mendHour counts the profiles of a stream in an hour.
type mendHour struct {
	fine   [slotsPerHour]uint64 // rows of single profiles
	slots  [slotsPerHour]uint64 // in any window
	merged uint16               // slots that have a window
	hour   uint64               // in the window of the hour
	over   bool                 // there is such a window
	// The slots, and whether the hour, whose points are those of the window.
	pointed   uint16
	pointedTo bool
}

type mendWindow struct {
	stream   uint32
	level    int8
	end      int64
	profiles uint64
}

func (h *mendHour) total() (n uint64) {
	for _, s := range h.slots {
		n += s
	}
	return max(n, h.hour)
}

// fineSlots are the slots that have rows of single profiles.
func (h *mendHour) fineSlots() (mask uint16) {
	for i, n := range h.fine {
		if n > 0 {
			mask |= 1 << i
		}
	}
	return mask
}

// slotMask are the slots in which the stream may have profiles.
func (h *mendHour) slotMask() uint16 {
	if mask := h.fineSlots() | h.merged; mask != 0 {
		return mask
	}
	return allSlots // an hour's window alone
}

func (s *mendStream) at(hour uint8) *mendHour {
	if s.hours[hour] == nil {
		s.hours[hour] = &mendHour{}
	}
	return s.hours[hour]
}

func (s *mendStream) total() (n uint64) {
	for _, h := range s.hours {
		if h != nil {
			n += h.total()
		}
	}
	return n
}

func (m *mender) stream(n uint32) *mendStream {
	if m.streams[n] == nil {
		m.streams[n] = &mendStream{}
	}
	return m.streams[n]
}

func (m *mender) raise(kind byte, n uint32) {
	if kind == kindStream && n < maxStreams || kind == kindPartition && n < maxPartitions { // others are damaged numbers
		m.top[kind] = max(m.top[kind], n+1)
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
		noted: map[hourID]uint16{}, active: map[hourID]uint16{}, dirty: map[hourID]uint16{}, top: map[byte]uint32{},
	}
	defer m.batch.Close()
	if err := db.each(db.pebble, epochKey(id), m.read); err != nil {
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
			m.raise(kindStream, n)
		}
		m.finds[binary.BigEndian.Uint64(rest)] = ids
	case kind == kindPending && len(rest) == 5 && rest[0] < hoursPerEpoch:
		n := binary.BigEndian.Uint32(rest[1:])
		m.raise(kindStream, n)
		m.noted[hourID{n, rest[0]}] = m.db.readSlots(key, value)
	case kind == kindID && len(rest) == 12:
		return m.readID(key, value)
	case (kind == kindRow || kind == kindPoints) && len(rest) >= 13 && int(rest[0]) < levels:
		m.raise(kindStream, keyStream(key))
		if t, _ := windowTime(key); t > 0 && epochOf(t) == m.id {
			m.readWindow(kind, mendWindow{keyStream(key), int8(rest[0]), t, 0}, value)
		}
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
		m.partitions[n] = true
		m.raise(kindPartition, n)
	case kindSegment:
		m.partitions[n] = m.partitions[n]
		m.raise(kindPartition, n)
	case kindStream:
		m.raise(kindStream, n)
		s := m.stream(n)
		s.known = true
		if partition, def, err := readStream(value); err == nil {
			s.readable, s.partition, s.def = true, partition, def
			m.raise(kindPartition, partition)
		}
	case kindDirty, kindActive1:
		m.raise(kindStream, n)
		if len(key) != 10 || key[9] > wholeDay {
			return
		}
		to := m.dirty
		if kind == kindActive1 {
			to = m.active
		}
		to[hourID{n, key[9]}] = m.db.readSlots(key, value)
	}
}

// readID looks for the profile of an ID.
func (m *mender) readID(key, value []byte) error {
	stream, id := binary.BigEndian.Uint32(key[5:]), binary.BigEndian.Uint64(key[9:])
	m.raise(kindStream, stream)
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

// findFamilies finds the members of each family.
func (m *mender) findFamilies() {
	families := map[familyKey]*mendStream{}
	for _, s := range m.streams {
		if s.readable && s.def.isFamily() {
			families[familyKey{s.partition, string(s.def.append(nil))}] = s
		}
	}
	for _, s := range m.streams {
		if !s.readable || s.def.isFamily() {
			continue
		}
		if f := families[familyKeyOf(s.partition, &s.def)]; f != nil {
			f.members = append(f.members, s)
		}
	}
}

// mendWindows deletes windows that lack profiles, those of streams first: a
// family's hold what its streams have.
func (m *mender) mendWindows() {
	for _, families := range []bool{false, true} {
		for _, s := range m.streams {
			if families && s.readable && s.def.isFamily() {
				s.addMembers()
			}
		}
		for _, w := range m.windows { // in order of levels
			s := m.stream(w.stream)
			if families == (s.readable && s.def.isFamily()) && !s.take(w) {
				m.deleteWindow(w)
			}
		}
	}
}

func (s *mendStream) addMembers() {
	for _, member := range s.members {
		for hour, h := range member.hours {
			if h == nil {
				continue
			}
			to := s.at(uint8(hour))
			to.hour += h.total()
			for i := range h.slots {
				to.fine[i] += h.fine[i]
				to.slots[i] += h.slots[i]
			}
		}
	}
}

// take reports whether a window has all that is known below it.
func (s *mendStream) take(w mendWindow) bool {
	if w.level == levelDay {
		s.day = w.profiles >= s.total()
		return s.day
	}
	h := s.at(hourOf(w.end))
	if w.level == levelHour {
		h.over = w.profiles >= h.total()
		h.hour = max(h.hour, w.profiles)
		return h.over
	}
	slot := slotOf(w.end)
	if w.profiles < h.slots[slot] {
		return false
	}
	h.slots[slot] = w.profiles
	h.merged |= 1 << slot
	return true
}

// mendPoints deletes points that are not those of their window, whose deletion was
// lost, where the profiles can serve.
func (m *mender) mendPoints() {
	for _, w := range m.points {
		h := m.stream(w.stream).at(hourOf(w.end))
		slot := slotOf(w.end)
		switch {
		case w.level == levelSlot && h.merged>>slot&1 == 1 && h.slots[slot] == w.profiles:
			h.pointed |= 1 << slot
		case w.level == levelHour && h.over && h.hour == w.profiles:
			h.pointedTo = true
		case w.end-windowMs[w.level] >= m.gone.times(m.id)[levelFine]:
			m.batch.Delete(windowKey(m.id, kindPoints, int(w.level), w.stream, w.end), nil)
		}
	}
}

// mendHorizon notes of which hours merged windows alone are there, if it is not
// noted: a profile that came to one of them would have it made anew of less.
func (m *mender) mendHorizon() {
	if m.gone != nil {
		return
	}
	m.gone = &horizonHours{}
	past := uint8(min(max((m.db.options.Now().UnixMilli()-epochStart(m.id))/hourMs, 0), hoursPerEpoch))
	for level := range m.gone {
		run := bits.TrailingZeros32(m.rows[level] | 1<<hoursPerEpoch)
		coarser := uint32(0)
		for _, hours := range m.rows[level+1:] {
			coarser |= hours
		}
		if run == hoursPerEpoch && slices.ContainsFunc(m.windows, func(w mendWindow) bool { return w.level == levelDay }) {
			coarser |= 1 << (hoursPerEpoch - 1)
		}
		m.gone[level] = min(uint8(bits.Len32(coarser&(1<<run-1))), past)
		if level > levelFine {
			m.gone[level] = min(m.gone[level], m.gone[level-1])
		}
	}
	if *m.gone != (horizonHours{}) {
		m.batch.Set(horizonKey(m.id), m.gone.append(nil), nil)
	}
}

// mendIndex makes streams be found by their definitions, and in the slots in
// which they have profiles.
func (m *mender) mendIndex() error {
	want := map[uint64][]uint32{}
	for n, s := range m.streams {
		if s.readable {
			hash := xxhash.Sum64(s.def.append(nil))
			want[hash] = append(want[hash], n)
		}
	}
	for hash, ids := range want {
		slices.Sort(ids)
		if !slices.Equal(ids, m.finds[hash]) {
			m.batch.Set(findKey(m.id, hash), appendStreams(nil, ids), nil)
		}
	}
	for hash := range m.finds {
		if want[hash] == nil {
			m.batch.Delete(findKey(m.id, hash), nil)
		}
	}
	if len(m.active) > 0 {
		active := kindKey(m.id, kindActive1)
		if err := m.batch.DeleteRange(active, after(active), nil); err != nil {
			return err
		}
	}
	for hour := range uint8(hoursPerEpoch) {
		t, err := m.db.loadTable(m.id, hour)
		if err != nil {
			return err
		}
		listed := make(map[uint32]uint16, len(t.streams))
		for row, n := range t.streams {
			listed[n] = t.slots[row]
			m.raise(kindStream, n)
		}
		for n, s := range m.streams {
			if !s.readable || s.def.isFamily() {
				continue
			}
			at := hourID{n, hour}
			slots := m.active[at]
			switch h := s.hours[hour]; {
			case h != nil && h.total() > 0:
				slots |= h.slotMask()
			case s.day && s.total() == 0:
				slots = allSlots // the day's window alone
			}
			if noted := m.noted[at]; slots&^(noted|listed[n]) != 0 {
				slots = noted | slots&^listed[n]
				m.batch.Set(pendingKey(m.id, hour, n), binary.AppendUvarint(nil, uint64(slots)), nil)
			}
		}
	}
	return nil
}

// mendMarks notes what is to be merged.
func (m *mender) mendMarks() {
	for n, s := range m.streams {
		if !s.readable {
			continue
		}
		some := false
		for hour, h := range s.hours {
			if h == nil {
				continue
			}
			some = some || h.total() > 0
			slots := h.fineSlots()
			if slots == 0 || uint8(hour) < m.gone[levelFine] {
				continue
			}
			at := hourID{n, uint8(hour)}
			mark, marked := m.dirty[at]
			slots &^= h.merged & h.pointed
			if slots&^mark != 0 || !(h.over && h.pointedTo) && !marked {
				m.batch.Set(dirtyKey(m.id, n, at.hour), binary.AppendUvarint(nil, uint64(mark|slots)), nil)
			}
		}
		if _, marked := m.dirty[hourID{n, wholeDay}]; some && !s.day && !marked && m.gone[levelHour] == 0 {
			m.batch.Set(dirtyKey(m.id, n, wholeDay), binary.AppendUvarint(nil, 1), nil)
		}
	}
}

// mendNumbers takes the numbers of what is lost, and closes the dictionaries.
func (m *mender) mendNumbers() {
	for n := range m.top[kindPartition] {
		if !m.partitions[n] {
			m.batch.Set(partitionKey(m.id, n), nil, nil)
		}
		m.batch.Set(segmentKey(m.id, n, math.MaxUint32), nil, nil)
	}
	if n := m.top[kindStream]; n > 0 && (m.streams[n-1] == nil || !m.streams[n-1].known) {
		m.batch.Set(streamKey(m.id, n-1), nil, nil)
	}
}
