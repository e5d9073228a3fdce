package store

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

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
			if h.total() == 0 {
				continue
			}
			some = true
			if uint8(hour) < m.gone[levelFine] {
				continue
			}
			at := hourID{n, uint8(hour)}
			mark, marked := m.dirty[at]
			slots := h.fineSlots() &^ (h.merged & h.pointed)
			if slots&^mark != 0 || !(h.over && h.pointedTo) && !marked {
				m.batch.Set(dirtyKey(m.id, n, at.hour), binary.AppendUvarint(nil, uint64(mark|slots)), nil)
			}
		}
		if _, marked := m.dirty[hourID{n, wholeDay}]; some && !s.day && !marked && m.gone[levelHour] == 0 {
			m.batch.Set(dirtyKey(m.id, n, wholeDay), binary.AppendUvarint(nil, 1), nil)
		}
	}
}
