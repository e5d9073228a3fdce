package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// formatVersion is the version of all that FORMAT.md describes.
const formatVersion = 2

// openPebble opens the database with a part of the cache for its blocks.
// Rows are packed already, so general compression serves the dictionaries.
func openPebble(dir string, o Options) (*pebble.DB, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	po := &pebble.Options{
		CacheSize:                   max(o.CacheBytes/blockShare, 1<<20),
		MemTableSize:                4 << 20,
		MemTableStopWritesThreshold: 2, // as many logs are kept to be written again
		MaxOpenFiles:                500,
		L0CompactionThreshold:       4,
		LBaseMaxBytes:               64 << 20,
		WALBytesPerSync:             512 << 10,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLogger{o.Logger},
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
	}
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionGood })
	for i := range po.Levels {
		po.Levels[i].BlockSize = 32 << 10
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return pebble.Open(dir, po)
}

// checkFormat refuses a store of another version, and marks a new one. Version 1
// is marked too: what differs is found epoch by epoch, and upgraded.
func (db *DB) checkFormat() error {
	v, closer, err := db.pebble.Get(formatKey())
	if errors.Is(err, pebble.ErrNotFound) {
		it, err := db.pebble.NewIter(nil)
		if err != nil {
			return err
		}
		empty := !it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if !empty {
			return errors.New("no format version: not a profile store")
		}
		return db.pebble.Set(formatKey(), binary.AppendUvarint(nil, formatVersion), pebble.Sync)
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	got, n := binary.Uvarint(v)
	if n > 0 && got == 1 {
		return db.pebble.Set(formatKey(), binary.AppendUvarint(nil, formatVersion), pebble.Sync)
	}
	if n <= 0 || got != formatVersion {
		return fmt.Errorf("format version %x, this program reads %d", v, formatVersion)
	}
	return nil
}

// pebbleLogger hands the database's messages on. What it calls fatal, such as a
// log that cannot be written, ends the process: nothing that was not synced may
// be acknowledged.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	message := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Error("pebble failed for good", "message", message)
	panic("pebble: " + message)
}
