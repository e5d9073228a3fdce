package kv

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// report logs, counts and lists damage that is new.
func (db *DB) report(d corruption.Damage) {
	d.Found = time.Now().UTC().Format(time.RFC3339)
	if db.Damage.add(d) {
		db.Metrics.Damaged.Inc()
		db.log.Error("a file of the store is corrupt; what can be read is served, `flameline store repair` makes a store without it",
			"file", d.File, "damage", d.String())
	}
}

// dataCorruption is called by Pebble with every block that it cannot read.
func (db *DB) dataCorruption(info pebble.DataCorruptionInfo) {
	db.report(corruption.OfTable(info))
	db.FS.Bad.Find(db.FS.FS, info.Path)
}

// unreadableKeys counts keys that a read passed over, logs them the first time, and
// reports the file if Pebble did not.
func (db *DB) unreadableKeys(g corruption.Gap, err error) {
	db.Metrics.Corrupt.Inc()
	from, to, reason := corruption.DescribeKey(g.From), corruption.DescribeKey(g.To), corruption.OneLine(err)
	if pebble.ExtractDataCorruptionInfo(err) == nil && !errors.Is(err, storeerr.ErrCorrupt) {
		d := corruption.Damage{File: "the store", Reason: reason}
		if path := (*fs.PathError)(nil); errors.As(err, &path) {
			d.File = filepath.Base(path.Path)
		}
		if db.Damage.firstTime(d.String()) {
			db.report(d.Span(g.From, g.To))
		}
	}
	if db.Damage.firstTime(from + to) {
		db.log.Warn("keys of a corrupt file are left out", "from", from, "to", to, "err", reason)
	}
}

// Corrupt reports a corrupt value that is left out.
func (db *DB) Corrupt(err error) {
	db.Metrics.Corrupt.Inc()
	if text := corruption.OneLine(err); db.Damage.firstTime(text) {
		db.log.Error("leave out a corrupt value", "err", text)
	}
}

// A DamageList is the damage that was found since the store was opened, one entry for
// each file. It is safe for concurrent use.
type DamageList struct {
	mu     sync.Mutex
	all    []corruption.Damage
	logged map[string]bool // messages
}

// firstTime reports whether a message is to be logged: it is one of the first, and was
// not logged yet.
func (l *DamageList) firstTime(message string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logged == nil {
		l.logged = map[string]bool{}
	}
	if l.logged[message] || len(l.logged) >= corruption.MaxDamage {
		return false
	}
	l.logged[message] = true
	return true
}

// add reports whether the damage is of a file that is not in the list yet.
func (l *DamageList) add(d corruption.Damage) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := slices.ContainsFunc(l.all, func(o corruption.Damage) bool { return o.File == d.File && o.First == d.First })
	if known || len(l.all) >= corruption.MaxDamage {
		return false
	}
	l.all = append(l.all, d)
	return true
}

// List returns the damage that was found so far.
func (l *DamageList) List() []corruption.Damage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}
