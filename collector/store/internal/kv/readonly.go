package kv

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
)

// LockReadOnly locks a directory for OpenReadOnly. It makes no lock file where there is
// none.
func LockReadOnly(fs vfs.FS, dir string) (*pebble.Lock, error) {
	return pebble.LockDirectory(dir, readOnlyFS{FS: fs})
}

// OpenReadOnly opens the database in a directory that is locked, and changes nothing in
// it. It returns its tables too, nil if one of them is missing. Corrupt blocks that are
// read are reported.
func OpenReadOnly(fs vfs.FS, dir string, lock *pebble.Lock, report func(pebble.DataCorruptionInfo)) (*pebble.DB, map[string]pebblefiles.KeyRange, error) {
	ro := readOnlyFS{fs, guardfs.NewBadBlocks()}
	log := slog.New(slog.DiscardHandler)
	o := PebbleOptions(ro, 16<<20, Logger{log, guardfs.NewFailure(log)})
	o.ReadOnly, o.DisableConsistencyCheck, o.Lock = true, true, lock
	o.EventListener = &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
		report(info)
		ro.bad.Find(fs, info.Path)
	}}
	if _, err := pebblefiles.Check(fs, dir, o); err != nil {
		return nil, nil, err
	}
	p, err := pebble.Open(dir, o)
	if err != nil {
		return nil, nil, pebblefiles.Explain(err)
	}
	tables, err := pebblefiles.ListedTables(p)
	if err != nil {
		tables = nil // reading the values finds which one is missing
	}
	return p, tables, nil
}

// readOnlyFS makes no lock file where there is none.
type readOnlyFS struct {
	vfs.FS
	bad *guardfs.BadBlocks
}

// Open implements vfs.FS.
func (r readOnlyFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return r.bad.Open(r.FS, name, o...)
}

// Lock implements vfs.FS.
func (r readOnlyFS) Lock(name string) (io.Closer, error) {
	if _, err := r.FS.Stat(name); errors.Is(err, os.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	l, err := r.FS.Lock(name)
	if errors.Is(err, os.ErrPermission) {
		return io.NopCloser(nil), nil // a read-only directory
	}
	return l, err
}

// Unwrap implements vfs.FS.
func (r readOnlyFS) Unwrap() vfs.FS { return r.FS }
