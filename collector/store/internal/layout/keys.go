// Package layout is the layout of the store's keys, and the windows of time that they are cut into.
package layout

import "encoding/binary"

// Keys begin with the epoch, so that dropping an epoch is one range deletion,
// and then the kind:
//
//	epoch  uint32  days since 1970; 0xffffffff for the store's own
//	kind   byte
//	...            the kind's own fields, numbers big-endian
const (
	KindPartition = 'p' // partition uint32 → service name
	KindStream    = 's' // stream uint32 → partition, labels, sample types
	KindFind      = 'b' // hash uint64 → the stream whose encoding has it
	KindLabels    = 'x' // hour byte, [label name] → the hour's table, a column of it
	KindPending   = 'n' // hour byte, stream uint32 → slots that are not in the table yet
	KindDirty     = 'd' // stream uint32, hour byte → slots that are not merged yet
	KindSegment   = 't' // partition uint32, first node uint32 → segment
	KindRow       = 'r' // level byte, stream uint32, time uint64, [ID uint64] → row
	KindPoints    = 'v' // level byte, stream uint32, time uint64 → points
	KindID        = 'i' // stream uint32, ID uint64 → time of the profile
	KindSpans     = 'q' // level byte, stream uint32, time uint64, ID uint64 → samples of the profile by span
	KindWatermark = 'h' // none → hours whose rows were dropped, by level
	KindLongest   = 'l' // partition uint32 → the longest time that a row covers
	KindSender    = 'o' // stream uint32 → the sender's stream of samples without labels
)

// MetaEpoch is the epoch in the keys of what belongs to no day.
const MetaEpoch = 1<<32 - 1

// EpochKey is what all keys of an epoch begin with.
func EpochKey(epoch uint32) []byte { return binary.BigEndian.AppendUint32(nil, epoch) }

// KindKey is what all keys of a kind in an epoch begin with.
func KindKey(epoch uint32, kind byte) []byte { return append(EpochKey(epoch), kind) }

// FormatKey is the key of the number of the format on disk.
func FormatKey() []byte { return KindKey(MetaEpoch, 'f') }

// PartitionKey is the key of a partition's service.
func PartitionKey(epoch, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(KindKey(epoch, KindPartition), partition)
}

// StreamKey is the key of a stream's definition.
func StreamKey(epoch, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(KindKey(epoch, KindStream), stream)
}

// DirtyKey is about an hour of a stream, or about its day.
func DirtyKey(epoch, stream uint32, hour uint8) []byte {
	return append(binary.BigEndian.AppendUint32(KindKey(epoch, KindDirty), stream), hour)
}

// FindKey is the key of the stream whose encoding has a hash.
func FindKey(epoch uint32, hash uint64) []byte {
	return binary.BigEndian.AppendUint64(KindKey(epoch, KindFind), hash)
}

// TableKey is the key of a table's head, or of the column of a label.
func TableKey(epoch uint32, hour uint8, name string) []byte {
	return append(append(KindKey(epoch, KindLabels), hour), name...)
}

// PendingPrefix is what the PendingKeys of an hour begin with.
func PendingPrefix(epoch uint32, hour uint8) []byte {
	return append(KindKey(epoch, KindPending), hour)
}

// PendingKey is the key of a stream's slots in an hour that its label index does not
// have yet.
func PendingKey(epoch uint32, hour uint8, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(PendingPrefix(epoch, hour), stream)
}

// IDKey is the key of the time of the profile that has an ID.
func IDKey(epoch, stream uint32, id uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(KindKey(epoch, KindID), stream), id)
}

// LongestKey is the key of the longest time that a row of a partition covers.
func LongestKey(epoch, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(KindKey(epoch, KindLongest), partition)
}

// SenderKey is the key of the stream of a sender's samples without labels.
func SenderKey(epoch, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(KindKey(epoch, KindSender), stream)
}

// WatermarkKey is the key of the hours whose rows were dropped.
func WatermarkKey(epoch uint32) []byte { return KindKey(epoch, KindWatermark) }

// LevelPrefix is what all keys of a level's rows, or points, begin with.
func LevelPrefix(epoch uint32, kind byte, level int) []byte {
	return append(KindKey(epoch, kind), byte(level))
}

// SegmentKey is the key of the segment of a dictionary that begins with a node.
func SegmentKey(epoch, partition, firstNode uint32) []byte {
	return binary.BigEndian.AppendUint32(SegmentPrefix(epoch, partition), firstNode)
}

// SegmentPrefix is what the keys of a partition's segments begin with.
func SegmentPrefix(epoch, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(KindKey(epoch, KindSegment), partition)
}

// WindowKey is the key of a row or of points. time is a fine row's own time or a
// window's end, in ms.
func WindowKey(epoch uint32, kind byte, level int, stream uint32, time int64) []byte {
	return AppendWindowKey(make([]byte, 0, 26), epoch, kind, level, stream, time)
}

// AppendWindowKey appends what WindowKey returns.
func AppendWindowKey(b []byte, epoch uint32, kind byte, level int, stream uint32, time int64) []byte {
	b = binary.BigEndian.AppendUint32(b, epoch)
	b = append(b, kind, byte(level))
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint64(b, uint64(time))
}

// WindowTime is the time in a key that WindowKey made.
func WindowTime(key []byte) (int64, bool) {
	const at = 4 + 1 + 1 + 4
	if len(key) < at+8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(key[at:])), true
}

// ProfileKey is the key of a profile's row, or of its spans.
func ProfileKey(epoch uint32, kind byte, stream uint32, time int64, id uint64) []byte {
	return binary.BigEndian.AppendUint64(WindowKey(epoch, kind, LevelFine, stream, time), id)
}

// KeyID is the ID in a key that ProfileKey made.
func KeyID(key []byte) (uint64, bool) {
	const at = 4 + 1 + 1 + 4 + 8
	if len(key) != at+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[at:]), true
}

// KeyStream is the stream in a key that WindowKey made.
func KeyStream(key []byte) uint32 { return binary.BigEndian.Uint32(key[6:]) }

// After is the first key that is greater than all keys with a prefix.
func After(prefix []byte) []byte {
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
	LevelFine = iota // a row per profile
	LevelSlot        // five minutes
	LevelHour
	LevelDay // the whole epoch
	Levels
)

// Lengths of windows in ms, and how many of them are in the next longer.
const (
	SlotMs = 5 * 60 * 1000
	HourMs = 60 * 60 * 1000
	DayMs  = 24 * HourMs

	SlotsPerHour  = HourMs / SlotMs
	HoursPerEpoch = DayMs / HourMs
)

// WindowMs are the lengths of each level's windows in ms.
var WindowMs = [Levels]int64{1, SlotMs, HourMs, DayMs}

// WindowEnd is the end of the window that a time in ms falls into.
func WindowEnd(level int, t int64) int64 {
	w := WindowMs[level]
	return (t + w - 1) / w * w
}

// EpochOf is the number of the epoch that a time in ms, above 0, falls into.
func EpochOf(t int64) uint32 { return uint32((t - 1) / DayMs) }

// EpochStart is the time just before an epoch.
func EpochStart(epoch uint32) int64 { return int64(epoch) * DayMs }

// HourOf and SlotOf number a time's window within its epoch and its hour.
func HourOf(t int64) uint8 { return uint8((t - 1) / HourMs % HoursPerEpoch) }

// SlotOf numbers a time's slot within its hour.
func SlotOf(t int64) uint { return uint((t - 1) / SlotMs % SlotsPerHour) }
