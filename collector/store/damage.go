package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Damage is a part of the store that cannot be read: what was lost and where.
type Damage struct {
	// File is the name of the damaged file in the store's directory.
	File string `json:"file"`
	// Offset and Bytes are the part of the file that cannot be read; Bytes is 0
	// for a file that is not there.
	Offset int64 `json:"offset"`
	Bytes  int64 `json:"bytes"`
	// First and Last are the keys that bound what was lost, in words; both are
	// empty where it is not known which keys there were.
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	// Start and End are the times of the profiles concerned, RFC 3339; empty
	// where First and Last are.
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
	// Reason is what was found.
	Reason string `json:"reason"`
	// Kept is where the damaged file was set aside, relative to the store's
	// directory; empty if it is where it was.
	Kept string `json:"kept,omitempty"`
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
	if d.Kept != "" {
		fmt.Fprintf(&b, "; kept as %s", d.Kept)
	}
	return b.String()
}

// span fills in the keys that bound the damage.
func (d Damage) span(first, last []byte) Damage {
	d.First, d.Last = describeKey(first), describeKey(last)
	start, end := keyTimes(first, last)
	d.Start, d.End = rfc3339(start), rfc3339(end)
	return d
}

func rfc3339(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// describeKey says what a key stands for, or its bytes if it is none of ours.
func describeKey(key []byte) string {
	if len(key) < 4 {
		return "key " + hex.EncodeToString(key)
	}
	epoch := binary.BigEndian.Uint32(key)
	if epoch == metaEpoch {
		return "the store's own keys"
	}
	day := time.UnixMilli(epochStart(epoch)).UTC().Format(time.DateOnly)
	if len(key) == 4 {
		return day
	}
	kind, rest := key[4], key[5:]
	number := func(at int) uint32 { return binary.BigEndian.Uint32(rest[at:]) }
	switch {
	case kind == kindPartition && len(rest) == 4:
		return fmt.Sprintf("%s service %d", day, number(0))
	case kind == kindStream && len(rest) == 4:
		return fmt.Sprintf("%s stream %d", day, number(0))
	case kind == kindSegment && len(rest) == 8:
		return fmt.Sprintf("%s stacktraces of service %d from node %d", day, number(0), number(4))
	case kind == kindDirty && len(rest) == 5:
		return fmt.Sprintf("%s slots to merge of stream %d, hour %d", day, number(0), rest[4])
	case kind == kindPending && len(rest) == 5:
		return fmt.Sprintf("%s slots with profiles of stream %d, hour %d", day, number(1), rest[0])
	case kind == kindTable && len(rest) == 1:
		return fmt.Sprintf("%s list of streams, hour %d", day, rest[0])
	case kind == kindTable && len(rest) > 1:
		return fmt.Sprintf("%s label %q of streams, hour %d", day, rest[1:], rest[0])
	case kind == kindFind && len(rest) == 8:
		return fmt.Sprintf("%s streams by hash %x", day, rest)
	case kind == kindID && len(rest) == 12:
		return fmt.Sprintf("%s ID %x of stream %d", day, rest[4:], number(0))
	case kind == kindSpans && len(rest) == 21:
		t, _ := windowTime(key)
		return fmt.Sprintf("%s spans of stream %d at %s", day, number(1), rfc3339(t))
	case kind == kindLongest && len(rest) == 4:
		return fmt.Sprintf("%s longest profile of service %d", day, number(0))
	case kind == kindSender && len(rest) == 4:
		return fmt.Sprintf("%s sender of stream %d", day, number(0))
	case kind == kindHorizon && len(rest) == 0:
		return day + " hours that retention dropped"
	case (kind == kindRow || kind == kindPoints) && len(rest) >= 13 && int(rest[0]) < levels:
		what := "row"
		if kind == kindPoints {
			what = "points"
		}
		t, _ := windowTime(key)
		return fmt.Sprintf("%s %s (%s) of stream %d at %s", day, what, levelNames[rest[0]], number(1), rfc3339(t))
	}
	return fmt.Sprintf("%s key %x", day, key)
}

var levelNames = [levels]string{"profile", "5 minutes", "hour", "day"}

// keyTimes are the times, in ms, of the profiles that keys from first to last
// may be about.
func keyTimes(first, last []byte) (start, end int64) {
	if len(first) < 4 || len(last) < 4 {
		return 0, 0
	}
	lo, hi := binary.BigEndian.Uint32(first), binary.BigEndian.Uint32(last)
	if hi >= metaEpoch { // the store's own keys follow all days
		hi = max(lo, epochOf(time.Now().UnixMilli()))
	}
	start, end = epochStart(lo), epochStart(hi)+dayMs
	const stream = 4 + 1 + 1 + 4 // rows of one stream lie in order of time
	if len(first) > stream && len(last) > stream && slices.Equal(first[:stream], last[:stream]) &&
		(first[4] == kindRow || first[4] == kindPoints) && int(first[5]) < levels {
		from, ok := windowTime(first)
		to, also := windowTime(last)
		if ok && also {
			return max(start, from-windowMs[first[5]]), min(end, to)
		}
	}
	return start, end
}

// damagedDir is where damaged files are set aside, in the store's directory,
// with a log of the damage that was found, one JSON object a line.
const (
	damagedDir = "damaged"
	damagedLog = "damage.jsonl"
)

// A damageLog remembers the damage that was found, over restarts. It is safe for
// concurrent use.
type damageLog struct {
	fs  vfs.FS
	dir string

	mu  sync.Mutex
	all []Damage
}

// The most damage that is remembered; a disk that dies has no end of it.
const maxDamage = 1000

func openDamageLog(fs vfs.FS, dir string) (*damageLog, error) {
	l := &damageLog{fs: fs, dir: dir}
	b, err := readFile(fs, fs.PathJoin(dir, damagedDir, damagedLog))
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	for line := range bytes.Lines(b) {
		var d Damage
		if json.Unmarshal(line, &d) == nil { // a torn line says nothing
			l.all = append(l.all, d)
		}
	}
	return l, err
}

// add records damage. What is known already is not recorded again.
func (l *damageLog) add(d Damage) (isNew bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.all {
		if o.File == d.File && o.Offset == d.Offset && o.First == d.First {
			return false, nil
		}
	}
	if len(l.all) >= maxDamage {
		return false, nil
	}
	d.Found = time.Now().UTC().Format(time.RFC3339)
	l.all = append(l.all, d)
	var b bytes.Buffer
	for _, d := range l.all {
		line, err := json.Marshal(d)
		if err != nil {
			return true, err
		}
		b.Write(append(line, '\n'))
	}
	if err := l.fs.MkdirAll(l.fs.PathJoin(l.dir, damagedDir), 0o750); err != nil {
		return true, err
	}
	return true, writeFile(l.fs, l.fs.PathJoin(l.dir, damagedDir, damagedLog), b.Bytes())
}

func (l *damageLog) list() []Damage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// setAside links a file of the store into the directory of damaged files and
// returns its new name, relative to the store's; "" if there is no such file.
func setAside(fs vfs.FS, dir, name string) (string, error) {
	if _, err := fs.Stat(fs.PathJoin(dir, name)); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err := fs.MkdirAll(fs.PathJoin(dir, damagedDir), 0o750); err != nil {
		return "", err
	}
	to := fs.PathJoin(damagedDir, name)
	for i := 1; ; i++ {
		if _, err := fs.Stat(fs.PathJoin(dir, to)); errors.Is(err, os.ErrNotExist) {
			break
		}
		to = fs.PathJoin(damagedDir, fmt.Sprintf("%s.%d", name, i))
	}
	return to, vfs.LinkOrCopy(fs, fs.PathJoin(dir, name), fs.PathJoin(dir, to))
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// writeFile replaces a file, whole or not at all.
func writeFile(fs vfs.FS, path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, fs.Remove(tmp))
	}
	if err := fs.Rename(tmp, path); err != nil {
		return err
	}
	d, err := fs.OpenDir(fs.PathDir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Damage lists the damage that was found since the store was made, oldest first.
func (db *DB) Damage() []Damage { return db.damage.list() }

// report logs, counts and records damage.
func (db *DB) report(d Damage) {
	isNew, err := db.damage.add(d)
	if isNew {
		db.metrics.damaged.Inc()
		db.log.Error("the store is damaged; what can be read is served", "file", d.File, "damage", d.String())
	}
	if err != nil {
		db.log.Error("record damage", "err", err)
	}
}
