package kv

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/guardfs"
)

// PebbleOptions are the database's options, with a cache for its blocks. Rows are packed already, so general compression serves the
// dictionaries.
func PebbleOptions(fs vfs.FS, cacheBytes int64, logger pebble.Logger) *pebble.Options {
	po := &pebble.Options{
		FS:                          fs,
		CacheSize:                   max(cacheBytes, 1<<20),
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

// A fatalError ends a call to Pebble that runs on a goroutine of ours.
type fatalError string

// Logger hands the database's messages on.
type Logger struct {
	Log     *slog.Logger
	Failure *guardfs.Failure
}

// Infof logs a message of Pebble about its work.
func (l Logger) Infof(format string, args ...any) {
	l.Log.Debug("pebble", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Errorf logs what went wrong in Pebble.
func (l Logger) Errorf(format string, args ...any) {
	l.Log.Error("pebble", "message", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Fatalf ends the goroutine that calls it, since Pebble expects it not to
// return: by a panic where guard catches it, else quietly. The process ends when
// whoever waits for the store's failure ends it.
func (l Logger) Fatalf(format string, args ...any) {
	message := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.Failure.Fail(message)
	if strings.HasPrefix(format, "pebble: fatal commit error") {
		panic(fatalError(message))
	}
	runtime.Goexit()
}
