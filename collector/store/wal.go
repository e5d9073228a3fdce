package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble refuses to open a database whose log is damaged in the middle, and
// ignores what follows damage that it takes for the end of the log. So the logs
// are read here first, and a damaged one is replaced by one that holds all that
// can be read. The format is LevelDB's, see Pebble's package record: blocks of
// 32 KiB, in them chunks of
//
//	crc uint32, length uint16, kind byte [, log uint32 [, synced uint64]], bytes
const (
	logBlock       = 32 << 10
	chunkHeader    = 7  // kinds 1 to 4
	recycledHeader = 11 // kinds 5 to 8
	syncHeader     = 19 // kinds 9 to 12
)

// A chunk is a part of a record, or all of it.
type chunk struct {
	first, last bool
	end         bool // of the log; no bytes
	size        int  // with its header
	payload     []byte
}

// readChunk reads the chunk at the start of b, which ends with the block.
func readChunk(b []byte, log uint32) (c chunk, ok bool) {
	if len(b) < chunkHeader {
		return c, false
	}
	kind := b[6]
	if kind == 0 || kind > 12 {
		return c, false
	}
	header := [...]int{chunkHeader, recycledHeader, syncHeader}[(kind-1)/4]
	c.size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if c.size > len(b) {
		return c, false
	}
	if header > chunkHeader {
		switch n := binary.LittleEndian.Uint32(b[7:]); {
		case n == log+1 && c.size == header:
			return chunk{end: true}, true // the mark of the end has no checksum
		case n != log:
			return c, false
		}
	}
	sum := crc32.Checksum(b[6:c.size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (sum>>15|sum<<17)+0xa282ead8 {
		return c, false
	}
	position := (kind - 1) % 4 // full, first, middle, last
	c.first, c.last = position < 2, position == 0 || position == 3
	c.payload = b[header:c.size]
	return c, true
}

// A logScan is what can be read of a log.
type logScan struct {
	records [][]byte
	gaps    []logGap
	// torn is where the log ends within a record, -1 if it does not: a crash
	// leaves it so, and what was being written then was not acknowledged.
	torn int64
}

// A logGap is a stretch that cannot be read although the log goes on after it.
type logGap struct {
	from, to int64
	record   int // that follows it
}

// scanLog reads a log and goes on after damage.
func scanLog(data []byte, log uint32) (s logScan) {
	s.torn = -1
	var pending []byte // the record that has begun
	begun, broken := -1, -1
	for at := 0; at < len(data); {
		b := data[at:min(len(data), (at/logBlock+1)*logBlock)]
		c, ok := readChunk(b, log)
		switch {
		case ok && c.end:
			at = len(data)
			continue
		case !ok && len(b) < syncHeader && (at+len(b))%logBlock == 0 && len(bytes.Trim(b, "\x00")) == 0:
			at += len(b) // too little for a chunk
			continue
		case !ok:
			if broken < 0 {
				broken = at
				if begun >= 0 {
					broken = begun
				}
			}
			pending, begun = nil, -1
			at++
			continue
		case c.first:
			if begun >= 0 && broken < 0 {
				broken = begun
			}
			pending, begun = slices.Clone(c.payload), at
		case begun >= 0:
			pending = append(pending, c.payload...)
		case broken < 0:
			broken = at // the record has no beginning
		}
		if broken >= 0 && c.first {
			s.gaps = append(s.gaps, logGap{int64(broken), int64(at), len(s.records)})
			broken = -1
		}
		at += c.size
		if c.last && begun >= 0 {
			s.records = append(s.records, pending)
			pending, begun = nil, -1
		}
	}
	if broken < 0 {
		broken = begun
	}
	if broken >= 0 && len(bytes.Trim(data[broken:], "\x00")) > 0 {
		s.torn = int64(broken)
	}
	return s
}

// mendLogs looks for damage in all logs and replaces the damaged ones. It
// returns the damage, and the epochs that it may concern.
func mendLogs(fs vfs.FS, dir string, names []string) (all []Damage, epochs map[uint32]bool, err error) {
	epochs = map[uint32]bool{}
	for _, name := range names {
		var log uint32
		if _, err := fmt.Sscanf(name, "%d.log", &log); err != nil || !strings.HasSuffix(name, ".log") {
			continue
		}
		data, err := readFile(fs, fs.PathJoin(dir, name))
		if err != nil {
			return all, epochs, err
		}
		scan := scanLog(data, log)
		if len(scan.gaps) == 0 {
			continue
		}
		for _, r := range scan.records {
			eachKey(r, func(key []byte) {
				if len(key) >= 5 && binary.BigEndian.Uint32(key) != metaEpoch {
					epochs[binary.BigEndian.Uint32(key)] = true
				}
			})
		}
		kept, err := setAside(fs, dir, name)
		if err != nil {
			return all, epochs, err
		}
		for _, g := range scan.gaps {
			d := g.damage(name, scan.records)
			d.Kept = kept
			all = append(all, d)
		}
		if err := replaceLog(fs, dir, name, scan.records); err != nil {
			return all, epochs, fmt.Errorf("replace %s: %w", name, err)
		}
	}
	return all, epochs, nil
}

// damage names what a gap in a log may have held: what was written after the
// row before it and before the row after it.
func (g logGap) damage(log string, records [][]byte) Damage {
	d := Damage{File: log, Offset: g.from, Bytes: g.to - g.from, Reason: "the log cannot be read here, though it goes on: writes are lost"}
	var before, after []byte
	for i := g.record - 1; i >= 0 && before == nil; i-- {
		before = rowOf(records[i])
	}
	for i := g.record; i < len(records) && after == nil; i++ {
		after = rowOf(records[i])
	}
	switch {
	case before == nil && after == nil:
		return d
	case before == nil:
		return d.span(after[:4], after)
	case after == nil:
		return d.span(before, before[:4])
	case bytes.Compare(before, after) > 0: // late profiles
		return d.span(after[:4], before[:4])
	}
	return d.span(before, after)
}

// rowOf is the key of the first row in a record, nil if there is none.
func rowOf(batch []byte) (row []byte) {
	eachKey(batch, func(key []byte) {
		if row == nil && len(key) >= 5 && key[4] == kindRow && binary.BigEndian.Uint32(key) != metaEpoch {
			row = bytes.Clone(key)
		}
	})
	return row
}

// eachKey calls fn for the keys that a record of the log sets.
func eachKey(batch []byte, fn func(key []byte)) {
	if len(batch) < batchrepr.HeaderLen {
		return
	}
	r := batchrepr.Read(batch)
	for {
		kind, key, _, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		if kind == pebble.InternalKeyKindSet {
			fn(key)
		}
	}
}

func replaceLog(fs vfs.FS, dir, name string, records [][]byte) error {
	var b bytes.Buffer
	w := record.NewWriter(&b)
	var err error
	for _, r := range records {
		_, e := w.WriteRecord(r)
		err = errors.Join(err, e)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	return writeFile(fs, fs.PathJoin(dir, name), b.Bytes())
}
