package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/guardfs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
)

// A Verification is what Verify found.
type Verification struct {
	Files    int   // tables and logs
	Bytes    int64 // of them
	Keys     int64
	Days     int // epochs
	Profiles int64
	Windows  int64 // merged rows, and lists of points
	Damage   []corruption.Damage
}

// Verify reads all of a store that no process has open: every block of every
// table, the logs, and every value, which has to agree with what it refers to.
// It changes nothing in the directory.
func Verify(ctx context.Context, dir string) (v Verification, err error) {
	return verify(ctx, vfs.Default, dir)
}

func verify(ctx context.Context, fs vfs.FS, dir string) (v Verification, err error) {
	f, err := pebblefiles.List(fs, dir)
	if err != nil {
		return v, err
	}
	if f.Empty() {
		return v, fmt.Errorf("%s holds no store", dir)
	}
	ro := readOnlyFS{fs, guardfs.NewBadBlocks()}
	lock, err := pebble.LockDirectory(dir, ro)
	if err != nil {
		return v, fmt.Errorf("%w; stop it, or make a backup and verify that: %w", ErrInUse, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	c := &checker{ctx: ctx, v: &v, fs: fs, dir: dir}
	o := readOnlyOptions(ro, func(info pebble.DataCorruptionInfo) {
		c.tableDamage(corruption.OfTable(info))
		ro.bad.Find(fs, info.Path)
	})
	o.Lock = lock
	tables, err := c.open(o)
	if err != nil {
		return v, err
	}
	if c.pebble != nil {
		defer func() { err = errors.Join(err, c.pebble.Close()) }()
	}
	if err := c.files(&f, tables); err != nil || c.pebble == nil {
		return v, err
	}
	return v, errors.Join(c.format(), c.values())
}

// readOnlyOptions are those of a database that is read, though tables are missing.
func readOnlyOptions(fs vfs.FS, corruption func(pebble.DataCorruptionInfo)) *pebble.Options {
	log := slog.New(slog.DiscardHandler)
	po := kv.PebbleOptions(fs, 16<<20, kv.Logger{Log: log, Failure: guardfs.NewFailure(log)})
	po.ReadOnly, po.DisableConsistencyCheck = true, true
	po.EventListener = &pebble.EventListener{DataCorruption: corruption}
	return po
}

// open opens the database, or adds what keeps it from being opened. It returns its
// tables, nil if they are not known.
func (c *checker) open(o *pebble.Options) (map[string]pebblefiles.KeyRange, error) {
	_, err := pebblefiles.Check(c.fs, c.dir, o)
	if err == nil {
		if c.pebble, err = pebble.Open(c.dir, o); err != nil {
			err = pebblefiles.Explain(c.fs, c.dir, o, err)
		}
	}
	switch {
	case errors.Is(err, corruption.ErrCorruptStore):
		c.damage(corruption.Damage{File: "the store", Reason: "it does not open: " + corruption.OneLine(err)})
		return nil, nil
	case err != nil:
		return nil, err
	}
	if tables, missing := pebblefiles.ListedTables(c.pebble); missing == nil {
		return tables, nil
	}
	return nil, nil // reading the values finds which one is missing
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

type noLock struct{}

func (noLock) Close() error { return nil }

func (r readOnlyFS) Lock(name string) (io.Closer, error) {
	if _, err := r.FS.Stat(name); errors.Is(err, os.ErrNotExist) {
		return noLock{}, nil
	}
	l, err := r.FS.Lock(name)
	if errors.Is(err, os.ErrPermission) {
		return noLock{}, nil // a read-only directory
	}
	return l, err
}

func (r readOnlyFS) Unwrap() vfs.FS { return r.FS }

// A checker adds to a Verification.
type checker struct {
	ctx    context.Context
	v      *Verification
	fs     vfs.FS
	dir    string
	pebble *pebble.DB // nil if it does not open
	mu     sync.Mutex // held to add damage
	// rebuild is to make whole what is not, nil to verify alone.
	rebuild *rebuild
}

// files reads every block of the tables, and the logs. If it is known which tables make
// the store, others are left out.
func (c *checker) files(f *pebblefiles.Directory, known map[string]pebblefiles.KeyRange) error {
	for _, name := range slices.Concat(f.Tables, f.Logs) {
		keys, used := known[name]
		open := pebblefiles.OpenLog
		if strings.HasSuffix(name, ".sst") {
			if open = pebblefiles.OpenTable; known != nil && !used {
				continue
			}
		}
		e, err := open(c.fs, c.dir, name, keys)
		if err != nil {
			return err
		}
		for e.Next() != nil {
			if c.ctx.Err() != nil {
				return errors.Join(c.ctx.Err(), e.Close())
			}
		}
		c.v.Files++
		c.v.Bytes += e.Bytes
		if len(e.Damage) == 0 && e.Validate != nil {
			if err := e.Validate(); err != nil { // of blocks that serve reading alone
				e.Unread(corruption.Gap{}, err)
			}
		}
		for _, d := range e.Damage {
			c.damage(d)
		}
		if err := e.Close(); err != nil {
			return err
		}
	}
	return nil
}

// values reads every value that can be read.
func (c *checker) values() (err error) {
	it, err := kv.NewReadOnlyIterator(c.pebble, nil, corruption.LastKey, &kv.Gaps{}, func(g corruption.Gap, err error) {
		if pebble.ExtractDataCorruptionInfo(err) == nil && !errors.Is(err, ErrCorrupt) {
			c.damage(corruption.Damage{File: "the store", Reason: corruption.OneLine(err)}.Span(g.From, g.To))
		}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var e *epochCheck
	for ok := it.SeekGE(nil); ok; ok = it.Next() {
		key := it.Key()
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if c.v.Keys++; c.v.Keys%1024 == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		id := uint32(layout.MetaEpoch)
		if len(key) >= 5 {
			id = binary.BigEndian.Uint32(key)
		}
		if e == nil || e.id != id {
			e.end()
			if e = nil; id != layout.MetaEpoch {
				e = newEpochCheck(c, id)
				e.rebuild = c.rebuild
				c.v.Days++
			}
		}
		if e != nil {
			e.add(bytes.Clone(key), value)
		}
	}
	e.end()
	return it.Error()
}

func (c *checker) format() error {
	value, closer, err := c.pebble.Get(layout.FormatKey())
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		c.damage(corruption.Damage{File: "the store", Reason: "no format version: not a profile store, or its key is missing"})
		return nil
	case corruption.Unreadable(err):
		return nil // corruption adds it
	case err != nil:
		return err
	}
	defer closer.Close()
	if n, size := binary.Uvarint(value); size <= 0 || n != kv.FormatVersion && n != 2 {
		return fmt.Errorf("format version %x, this program reads %d", value, kv.FormatVersion)
	}
	return nil
}

// tableDamage adds a table of which nothing is known yet, as it is missing.
func (c *checker) tableDamage(d corruption.Damage) {
	c.mu.Lock()
	known := slices.ContainsFunc(c.v.Damage, func(o corruption.Damage) bool { return o.File == d.File })
	c.mu.Unlock()
	if !known {
		c.damage(d)
	}
}

// damage adds what is new.
func (c *checker) damage(d corruption.Damage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := slices.ContainsFunc(c.v.Damage, func(o corruption.Damage) bool {
		return o.File == d.File && o.First == d.First && o.Offset == d.Offset && (d.File != "the store" || o.Reason == d.Reason)
	})
	if !known && len(c.v.Damage) < corruption.MaxDamage {
		c.v.Damage = append(c.v.Damage, d)
	}
}

// wrong adds a value that is not as it should be.
func (c *checker) wrong(key []byte, err error) {
	c.damage(corruption.Damage{File: "the store", Reason: corruption.OneLine(err)}.Span(key, key))
}
