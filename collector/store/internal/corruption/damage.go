// Package corruption names what of a store cannot be read: files, ranges of keys, and the profiles concerned.
package corruption

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/layout"
)

// Damage is a corrupt part of the store: where it is and which profiles it concerns.
type Damage struct {
	// File is the name of the corrupt file in the store's directory.
	File string `json:"file"`
	// Offset and Bytes are the part of the file that cannot be read; Bytes is 0
	// where only the file is known.
	Offset int64 `json:"offset"`
	Bytes  int64 `json:"bytes"`
	// First and Last are the keys that bound what cannot be read, in words; both are
	// empty where it is not known which keys there are.
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	// Start and End are the times of the profiles concerned, RFC 3339; empty
	// where First and Last are.
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
	// Reason is what was found.
	Reason string `json:"reason"`
	// Found is when, RFC 3339.
	Found string `json:"found,omitempty"`
}

// String says all of it in one line.
func (d Damage) String() string {
	var b strings.Builder
	b.WriteString(d.File)
	if d.Bytes > 0 {
		fmt.Fprintf(&b, " (bytes %d to %d)", d.Offset, d.Offset+d.Bytes)
	}
	b.WriteString(": " + d.Reason)
	if d.First != "" {
		fmt.Fprintf(&b, "; from %s to %s; profiles of %s to %s", d.First, d.Last, d.Start, d.End)
	}
	return b.String()
}

// Span fills in the keys that bound the damage.
func (d Damage) Span(first, last []byte) Damage {
	d.First, d.Last = DescribeKey(first), DescribeKey(last)
	start, end := KeyTimes(first, last)
	d.Start, d.End = FormatTime(start), FormatTime(end)
	return d
}

// FormatTime is a time in ms, in RFC 3339.
func FormatTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// DescribeKey says what a key stands for, or its bytes if it is none of ours.
func DescribeKey(key []byte) string {
	if len(key) < 4 {
		return "key " + hex.EncodeToString(key)
	}
	epoch := binary.BigEndian.Uint32(key)
	if epoch == layout.MetaEpoch {
		return "the store's own keys"
	}
	day := time.UnixMilli(layout.EpochStart(epoch)).UTC().Format(time.DateOnly)
	if len(key) == 4 {
		return day
	}
	kind, rest := key[4], key[5:]
	number := func(at int) uint32 { return binary.BigEndian.Uint32(rest[at:]) }
	switch {
	case kind == layout.KindPartition && len(rest) == 4:
		return fmt.Sprintf("%s service %d", day, number(0))
	case kind == layout.KindStream && len(rest) == 4:
		return fmt.Sprintf("%s stream %d", day, number(0))
	case kind == layout.KindSegment && len(rest) == 8:
		return fmt.Sprintf("%s stacktraces of service %d from node %d", day, number(0), number(4))
	case kind == layout.KindDirty && len(rest) == 5:
		return fmt.Sprintf("%s slots to merge of stream %d, hour %d", day, number(0), rest[4])
	case kind == layout.KindPending && len(rest) == 5:
		return fmt.Sprintf("%s slots with profiles of stream %d, hour %d", day, number(1), rest[0])
	case kind == layout.KindLabels && len(rest) == 1:
		return fmt.Sprintf("%s list of streams, hour %d", day, rest[0])
	case kind == layout.KindLabels && len(rest) > 1:
		return fmt.Sprintf("%s label %q of streams, hour %d", day, rest[1:], rest[0])
	case kind == layout.KindFind && len(rest) == 8:
		return fmt.Sprintf("%s streams by hash %x", day, rest)
	case kind == layout.KindID && len(rest) == 12:
		return fmt.Sprintf("%s ID %x of stream %d", day, rest[4:], number(0))
	case kind == layout.KindSpans && len(rest) == 21:
		t, _ := layout.WindowTime(key)
		return fmt.Sprintf("%s spans of stream %d at %s", day, number(1), FormatTime(t))
	case kind == layout.KindLongest && len(rest) == 4:
		return fmt.Sprintf("%s longest profile of service %d", day, number(0))
	case kind == layout.KindSender && len(rest) == 4:
		return fmt.Sprintf("%s sender of stream %d", day, number(0))
	case kind == layout.KindWatermark && len(rest) == 0:
		return day + " hours that retention dropped"
	case (kind == layout.KindRow || kind == layout.KindPoints) && len(rest) >= 13 && int(rest[0]) < layout.Levels:
		what := "row"
		if kind == layout.KindPoints {
			what = "points"
		}
		t, _ := layout.WindowTime(key)
		return fmt.Sprintf("%s %s (%s) of stream %d at %s", day, what, LevelNames[rest[0]], number(1), FormatTime(t))
	}
	return fmt.Sprintf("%s key %x", day, key)
}

// LevelNames are what a row of each level is about.
var LevelNames = [layout.Levels]string{"profile", "5 minutes", "hour", "day"}

// KeyTimes are the times, in ms, of the profiles that keys from first to last
// may be about.
func KeyTimes(first, last []byte) (start, end int64) {
	if len(first) < 4 || len(last) < 4 {
		return 0, 0
	}
	lo, hi := binary.BigEndian.Uint32(first), binary.BigEndian.Uint32(last)
	if hi >= layout.MetaEpoch { // the store's own keys follow all days
		hi = max(lo, layout.EpochOf(time.Now().UnixMilli()))
	}
	start, end = layout.EpochStart(lo), layout.EpochStart(hi)+layout.DayMs
	const stream = 4 + 1 + 1 + 4 // rows of one stream lie in order of time
	if len(first) > stream && len(last) > stream && slices.Equal(first[:stream], last[:stream]) &&
		(first[4] == layout.KindRow || first[4] == layout.KindPoints) && int(first[5]) < layout.Levels {
		from, ok := layout.WindowTime(first)
		to, also := layout.WindowTime(last)
		if ok && also {
			return max(start, from-layout.WindowMs[first[5]]), min(end, to)
		}
	}
	return start, end
}

// MaxDamage bounds how much damage is listed; a broken disk has no end of it.
const MaxDamage = 1000

// OfTable names a table that Pebble cannot read, and the keys that it has.
func OfTable(info pebble.DataCorruptionInfo) Damage {
	return Damage{File: filepath.Base(info.Path), Reason: OneLine(info.Details)}.Span(info.Bounds.Start, info.Bounds.End.Key)
}

// OneLine is an error's text without what Pebble adds on further lines, and without the
// bytes of corrupt files that are no text.
func OneLine(err error) string {
	return strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "\uFFFD")
}

// ErrCorruptStore is wrapped by errors of Open about files without which the store cannot be
// opened. Their text names the file and says what to do.
var ErrCorruptStore = errors.New("the store is corrupt: restore a backup, or make a new store of what can be read by `flameline store repair DIR NEWDIR`")

// ErrorOf is an error that wraps ErrCorruptStore.
func ErrorOf(d Damage) error { return fmt.Errorf("%s: %w", d, ErrCorruptStore) }
