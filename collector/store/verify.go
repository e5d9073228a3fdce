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

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Verification is what Verify found.
type Verification struct {
	Files    int   // tables and logs
	Bytes    int64 // of them
	Keys     int64
	Days     int // epochs
	Profiles int64
	Windows  int64 // merged rows, and lists of points
	Damage   []Damage
}

// ErrInUse is wrapped by the error of Verify about a store that a process has
// open.
var ErrInUse = errors.New("a process has the store open")

// Verify reads all of a store that no process has open: every block of every
// table, the logs, and every value, which has to agree with what it refers to.
// It changes nothing in the directory.
func Verify(ctx context.Context, dir string) (v Verification, err error) {
	return verify(ctx, vfs.Default, dir)
}

func verify(ctx context.Context, fs vfs.FS, dir string) (v Verification, err error) {
	f, err := listFiles(fs, dir)
	if err != nil {
		return v, err
	}
	if len(f.tables)+len(f.logs)+len(f.manifests) == 0 {
		return v, fmt.Errorf("%s holds no store", dir)
	}
	ro := readOnlyFS{fs}
	lock, err := pebble.LockDirectory(dir, ro)
	if err != nil {
		return v, fmt.Errorf("%w; stop it, or make a backup and verify that: %w", ErrInUse, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	o := Options{fs: ro, Logger: slog.New(slog.DiscardHandler)}
	o.setDefaults()
	po := newPebbleOptions(&o, ro, pebbleLogger{o.Logger, newFailure(o.Logger)})
	po.Lock, po.ReadOnly = lock, true
	po.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	c := &checker{ctx: ctx, v: &v, fs: ro, dir: dir}
	p, unreadable, err := c.open(&f, po)
	if err != nil {
		return v, err
	}
	if p == nil {
		v.Damage = append(v.Damage, unreadable)
		return v, c.files(&f, nil)
	}
	c.pebble = p
	defer func() { err = errors.Join(err, p.Close()) }()
	tables, err := tablesOf(p)
	if err != nil {
		m := unknownTable.FindStringSubmatch(err.Error())
		if m == nil {
			return v, err
		}
		v.Damage = append(v.Damage, Damage{File: m[1] + ".sst", Reason: "the file is missing"})
		return v, c.files(&f, nil)
	}
	if err := c.files(&f, tables); err != nil {
		return v, err
	}
	return v, c.values(tables)
}

// open opens the database, or says what keeps it from being opened.
func (c *checker) open(f *files, po *pebble.Options) (p *pebble.DB, unreadable Damage, err error) {
	for _, marker := range []string{manifestMarker, formatMarker} {
		if !f.hasMarker(marker) {
			return nil, Damage{File: "marker." + marker, Reason: "the file is missing"}, nil
		}
	}
	if err := checkManifest(c.fs, c.dir, po); err != nil {
		if !errors.Is(err, ErrManifest) {
			return nil, unreadable, err
		}
		return nil, Damage{File: "MANIFEST", Reason: oneLine(err)}, nil
	}
	p, err = pebble.Open(c.dir, po)
	switch {
	case err == nil:
		return p, unreadable, nil
	case len(f.options) > 0 && !pebble.IsCorruptionError(err):
		return nil, Damage{File: f.options[len(f.options)-1], Reason: oneLine(err)}, nil
	}
	return nil, Damage{File: "the store", Reason: oneLine(err)}, nil
}

// readOnlyFS makes no lock file where there is none.
type readOnlyFS struct{ vfs.FS }

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
	pebble *pebble.DB
}

// files reads every block of the tables, and the logs. If it is known which
// tables make the store, others are left out.
func (c *checker) files(f *files, known []sortedTable) error {
	for _, name := range f.tables {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		s, err := openTable(c.fs, c.dir, name)
		if err != nil {
			return err
		}
		used := known == nil
		for _, t := range known { // several, if they share the file
			if t.name != name {
				continue
			}
			used = true
			if s.lo == nil || bytes.Compare(t.lo, s.lo) < 0 {
				s.lo = t.lo
			}
			if s.hi == nil || bytes.Compare(t.hi, s.hi) > 0 {
				s.hi = t.hi
			}
		}
		if !used {
			if err := s.close(); err != nil {
				return err
			}
			continue
		}
		for s.next() != nil {
		}
		c.v.Files++
		c.v.Bytes += s.size
		for _, d := range s.damage {
			c.v.Damage = append(c.v.Damage, d.Damage)
		}
		if err := s.close(); err != nil {
			return err
		}
	}
	for _, name := range f.logs {
		data, err := readFile(c.fs, c.fs.PathJoin(c.dir, name))
		if err != nil {
			return err
		}
		var log uint32
		if _, err := fmt.Sscanf(name, "%d.log", &log); err != nil {
			continue
		}
		c.v.Files++
		c.v.Bytes += int64(len(data))
		scan := scanLog(data, log)
		for _, g := range scan.gaps {
			c.v.Damage = append(c.v.Damage, g.damage(name, scan.records))
		}
	}
	return nil
}

// values reads every value, and goes on after a table that cannot be read.
func (c *checker) values(tables []sortedTable) (err error) {
	if err := c.format(); err != nil {
		return err
	}
	it, err := c.pebble.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var e *epochCheck
	for ok := it.First(); ; ok = it.Next() {
		if !ok {
			if it.Error() == nil {
				break
			}
			after := c.skip(it.Error(), tables)
			if after == nil {
				return it.Error()
			}
			if !it.SeekGE(after) && it.Error() == nil {
				break
			}
			if !it.Valid() {
				continue
			}
		}
		key := it.Key()
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if c.v.Keys++; c.v.Keys%1024 == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		id := uint32(metaEpoch)
		if len(key) >= 5 {
			id = binary.BigEndian.Uint32(key)
		}
		if e == nil || e.id != id {
			e.end()
			if e = nil; id != metaEpoch {
				e = newEpochCheck(c, id)
				c.v.Days++
			}
		}
		if e != nil {
			e.add(bytes.Clone(key), value)
		}
	}
	e.end()
	return nil
}

func (c *checker) format() error {
	value, closer, err := c.pebble.Get(formatKey())
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		c.v.Damage = append(c.v.Damage, Damage{File: "the store", Reason: "no format version: not a profile store, or it is lost"})
		return nil
	case pebble.IsCorruptionError(err):
		return nil // told already
	case err != nil:
		return err
	}
	defer closer.Close()
	if n, size := binary.Uvarint(value); size <= 0 || n != formatVersion && n != 2 {
		return fmt.Errorf("format version %x, this program reads %d", value, formatVersion)
	}
	return nil
}

// skip returns the first key after the table that an error is about.
func (c *checker) skip(err error, tables []sortedTable) []byte {
	info := pebble.ExtractDataCorruptionInfo(err)
	if info == nil {
		return nil
	}
	for _, t := range tables {
		if t.name == c.fs.PathBase(info.Path) {
			return append(bytes.Clone(t.hi), 0)
		}
	}
	return nil
}

// wrong adds a value that is not as it should be.
func (c *checker) wrong(key []byte, err error) {
	if len(c.v.Damage) < maxDamage {
		c.v.Damage = append(c.v.Damage, Damage{File: "the store", Reason: oneLine(err)}.span(key, key))
	}
}
