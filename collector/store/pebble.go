package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatVersion is the version of all that FORMAT.md describes.
const formatVersion = 3

// newPebbleOptions are the database's options, with a part of the cache for
// its blocks. Rows are packed already, so general compression serves the
// dictionaries.
func newPebbleOptions(o *Options, fs vfs.FS, logger pebble.Logger) *pebble.Options {
	po := &pebble.Options{
		FS:                          fs,
		CacheSize:                   max(o.CacheBytes/blockShare, 1<<20),
		MemTableSize:                3 << 20,
		MemTableStopWritesThreshold: 2,                              // as many logs are kept to be written again
		MaxOpenFiles:                int(min(500, descriptors()/3)), // most descriptors are for connections
		L0CompactionThreshold:       4,
		LBaseMaxBytes:               64 << 20,
		WALBytesPerSync:             512 << 10,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      logger,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
		// Tables that cannot be compacted, as one of them is corrupt, do not stop writes.
		L0StopWritesThreshold: 1000,
	}
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionGood })
	for i := range po.Levels {
		po.Levels[i].BlockSize = 32 << 10
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	po.EnsureDefaults()
	return po
}

// checkFormat refuses a store of another version, and marks a new one. Version 2 is marked too: it stays readable.
func (db *DB) checkFormat() error {
	v, closer, err := db.get(formatKey())
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
		return db.markFormat()
	}
	if errors.Is(err, ErrCorrupt) {
		return nil // it cannot be told, and is most likely the present one
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	got, n := binary.Uvarint(v)
	if n > 0 && (got == 2) {
		return db.markFormat()
	}
	if n <= 0 || got != formatVersion {
		return fmt.Errorf("format version %x, this program reads %d", v, formatVersion)
	}
	return nil
}

func (db *DB) markFormat() error {
	return db.guard(func() error {
		return db.pebble.Set(formatKey(), binary.AppendUvarint(nil, formatVersion), pebble.Sync)
	})
}
