package store

import "encoding/binary"

// Keys begin with the epoch, so that dropping an epoch is one range deletion,
// and then the kind:
//
//	epoch  uint32  days since 1970; 0xffffffff for the store's own
//	kind   byte
//	...            the kind's own fields, numbers big-endian
const (
	kindPartition = 'p' // partition uint32 → service name
	kindStream    = 's' // stream uint32 → partition, labels, sample types
	kindFind      = 'b' // hash uint64 → streams whose definition has it
	kindTable     = 'x' // hour byte, [label name] → the hour's table, a column of it
	kindPending   = 'n' // hour byte, stream uint32 → slots that are not in the table yet
	kindDirty     = 'd' // stream uint32, hour byte → slots that are not merged yet
	kindSegment   = 't' // partition uint32, first node uint32 → segment
	kindRow       = 'r' // level byte, stream uint32, time uint64, [ID uint64] → row
	kindPoints    = 'v' // level byte, stream uint32, time uint64 → points
	kindID        = 'i' // stream uint32, ID uint64 → time of the profile
	kindSpans     = 'q' // level byte, stream uint32, time uint64, ID uint64 → samples of the profile by span
	kindHorizon   = 'h' // none → hours whose rows were dropped, by level
	kindLongest   = 'l' // partition uint32 → the longest time that a row covers
	kindSender    = 'o' // stream uint32 → the sender's stream of samples without labels
)

const metaEpoch = 1<<32 - 1

func epochKey(epoch uint32) []byte { return binary.BigEndian.AppendUint32(nil, epoch) }

func kindKey(epoch uint32, kind byte) []byte { return append(epochKey(epoch), kind) }

func formatKey() []byte { return kindKey(metaEpoch, 'f') }

func partitionKey(epoch, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(kindKey(epoch, kindPartition), partition)
}

func streamKey(epoch, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(kindKey(epoch, kindStream), stream)
}

// dirtyKey is about an hour of a stream, or about its day.
func dirtyKey(epoch, stream uint32, hour uint8) []byte {
	return append(binary.BigEndian.AppendUint32(kindKey(epoch, kindDirty), stream), hour)
}

func findKey(epoch uint32, hash uint64) []byte {
	return binary.BigEndian.AppendUint64(kindKey(epoch, kindFind), hash)
}

// tableKey is the key of a table's head, or of the column of a label.
func tableKey(epoch uint32, hour uint8, name string) []byte {
	return append(append(kindKey(epoch, kindTable), hour), name...)
}

func pendingPrefix(epoch uint32, hour uint8) []byte {
	return append(kindKey(epoch, kindPending), hour)
}

func pendingKey(epoch uint32, hour uint8, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(pendingPrefix(epoch, hour), stream)
}

func idKey(epoch, stream uint32, id uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(kindKey(epoch, kindID), stream), id)
}

func longestKey(epoch, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(kindKey(epoch, kindLongest), partition)
}

func senderKey(epoch, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(kindKey(epoch, kindSender), stream)
}

func horizonKey(epoch uint32) []byte { return kindKey(epoch, kindHorizon) }

// levelPrefix is what all keys of a level's rows, or points, begin with.
func levelPrefix(epoch uint32, kind byte, level int) []byte {
	return append(kindKey(epoch, kind), byte(level))
}

func segmentKey(epoch, partition, firstNode uint32) []byte {
	return binary.BigEndian.AppendUint32(segmentPrefix(epoch, partition), firstNode)
}

func segmentPrefix(epoch, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(kindKey(epoch, kindSegment), partition)
}

// windowKey is the key of a row or of points. time is a fine row's own time or a
// window's end, in ms.
func windowKey(epoch uint32, kind byte, level int, stream uint32, time int64) []byte {
	return appendWindowKey(make([]byte, 0, 26), epoch, kind, level, stream, time)
}

func appendWindowKey(b []byte, epoch uint32, kind byte, level int, stream uint32, time int64) []byte {
	b = binary.BigEndian.AppendUint32(b, epoch)
	b = append(b, kind, byte(level))
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint64(b, uint64(time))
}

// windowTime is the time in a key that windowKey made.
func windowTime(key []byte) (int64, bool) {
	const at = 4 + 1 + 1 + 4
	if len(key) < at+8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(key[at:])), true
}

// profileKey is the key of a profile's row, or of its spans.
func profileKey(epoch uint32, kind byte, stream uint32, time int64, id uint64) []byte {
	return binary.BigEndian.AppendUint64(windowKey(epoch, kind, levelFine, stream, time), id)
}

// keyID is the ID in a key that profileKey made.
func keyID(key []byte) (uint64, bool) {
	const at = 4 + 1 + 1 + 4 + 8
	if len(key) != at+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[at:]), true
}

// keyStream is the stream in a key that windowKey made.
func keyStream(key []byte) uint32 { return binary.BigEndian.Uint32(key[6:]) }

// after is the first key that is greater than all keys with a prefix.
func after(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// Time is cut into windows that are open at the start and closed at the end, as
// query steps are: a profile at exactly 12:00 belongs to the window that ends
// there. Each level's windows nest in those of the next.
const (
	levelFine = iota // a row per profile
	levelSlot        // five minutes
	levelHour
	levelDay // the whole epoch
	levels
)

const (
	slotMs = 5 * 60 * 1000
	hourMs = 60 * 60 * 1000
	dayMs  = 24 * hourMs

	slotsPerHour  = hourMs / slotMs
	hoursPerEpoch = dayMs / hourMs
)

var windowMs = [levels]int64{1, slotMs, hourMs, dayMs}

// windowEnd is the end of the window that a time in ms falls into.
func windowEnd(level int, t int64) int64 {
	w := windowMs[level]
	return (t + w - 1) / w * w
}

// epochOf is the number of the epoch that a time in ms, above 0, falls into.
func epochOf(t int64) uint32 { return uint32((t - 1) / dayMs) }

// epochStart is the time just before an epoch.
func epochStart(epoch uint32) int64 { return int64(epoch) * dayMs }

// hourOf and slotOf number a time's window within its epoch and its hour.
func hourOf(t int64) uint8 { return uint8((t - 1) / hourMs % hoursPerEpoch) }

func slotOf(t int64) uint { return uint((t - 1) / slotMs % slotsPerHour) }
