// Package verify reads all of a store that is not being served and says what is corrupt: in
// files, and in values that do not agree with what they refer to. It reads them by itself,
// rather than as queries do, and makes anew what follows from the rest.
//
// It leaves to repair where the keys come from.
package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
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

// Verify is the store's Verify on any file system.
func Verify(ctx context.Context, fs vfs.FS, dir string) (v Verification, err error) {
	f, err := pebblefiles.List(fs, dir)
	if err != nil {
		return v, err
	}
	if f.Empty() {
		return v, fmt.Errorf("%s holds no store", dir)
	}
	lock, err := kv.LockReadOnly(fs, dir)
	if err != nil {
		return v, fmt.Errorf("%w; stop it, or make a backup and verify that: %w", storeerr.ErrInUse, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	c := &checker{ctx: ctx, v: &v}
	p, tables, err := kv.OpenReadOnly(fs, dir, lock, func(info pebble.DataCorruptionInfo) {
		d := corruption.OfTable(info) // which tells nothing new, unless the table is missing
		c.add(d, func(o corruption.Damage) bool { return o.File == d.File })
	})
	switch {
	case errors.Is(err, corruption.ErrCorruptStore):
		c.damage(corruption.Damage{File: "the store", Reason: "it does not open: " + corruption.OneLine(err)})
	case err != nil:
		return v, err
	default:
		c.pebble = p
		defer func() { err = errors.Join(err, p.Close()) }()
	}
	if err := c.files(fs, dir, f.Used(tables), tables); err != nil || c.pebble == nil {
		return v, err
	}
	return v, errors.Join(c.format(), c.values())
}

// A checker adds to a Verification.
type checker struct {
	ctx    context.Context
	v      *Verification
	pebble *pebble.DB // nil if it does not open
	mu     sync.Mutex // held to add damage
	// rebuild is to make whole what is not, nil to verify alone.
	rebuild *rebuild
}

// files reads every block of the tables, and the logs.
func (c *checker) files(fs vfs.FS, dir string, names []string, tables map[string]pebblefiles.KeyRange) error {
	for _, name := range names {
		e, err := pebblefiles.Open(fs, dir, name, tables[name])
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
	it, err := kv.NewIterator(c.pebble, nil, corruption.LastKey, func(g corruption.Gap, err error) {
		if pebble.ExtractDataCorruptionInfo(err) == nil && !errors.Is(err, storeerr.ErrCorrupt) {
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
	return errors.Join(kv.CheckFormat(value), closer.Close())
}

// damage adds what is new.
func (c *checker) damage(d corruption.Damage) {
	c.add(d, func(o corruption.Damage) bool {
		return o.File == d.File && o.First == d.First && o.Offset == d.Offset && (d.File != "the store" || o.Reason == d.Reason)
	})
}

func (c *checker) add(d corruption.Damage, same func(corruption.Damage) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.v.Damage, same) && len(c.v.Damage) < corruption.MaxDamage {
		c.v.Damage = append(c.v.Damage, d)
	}
}

// wrong adds a value that is not as it should be.
func (c *checker) wrong(key []byte, err error) {
	c.damage(corruption.Damage{File: "the store", Reason: corruption.OneLine(err)}.Span(key, key))
}
