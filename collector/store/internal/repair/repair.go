// Package repair makes a new store of what can be read of a corrupt one, which no process has
// open.
//
// It leaves to verify what is corrupt, and which keys follow from others.
package repair

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/verify"
)

// Repair copies what can be read of a store into a new one, in a directory that is empty or
// missing, as the store's Repair says. create makes the new store, and calls fill before it
// closes it.
func Repair(ctx context.Context, fs vfs.FS, dir, to string, create func(fill func(*epochs.Set) error) error) (damage []corruption.Damage, err error) {
	before, err := verify.Verify(ctx, fs, dir) // names tables that are missing, and the keys of others
	if err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if names, err := fs.List(to); err == nil && len(names) > 0 {
		return nil, fmt.Errorf("%s is not empty", to)
	}
	err = create(func(es *epochs.Set) error {
		damage = before.Damage
		if err := copyFiles(ctx, fs, dir, lock, es.KV); err != nil {
			return err
		}
		after, err := Rebuild(ctx, es)
		damage = append(damage, after...)
		return err
	})
	return damage, err
}

// copyFiles copies all that can be read of the files in a directory that is locked into an
// empty database.
func copyFiles(ctx context.Context, fs vfs.FS, dir string, lock *pebble.Lock, to *kv.DB) (err error) {
	f, err := pebblefiles.List(fs, dir)
	if err != nil {
		return err
	}
	var files []*pebblefiles.File
	b := to.Pebble.NewBatch()
	defer func() {
		for _, e := range files {
			err = errors.Join(err, e.Close())
		}
		err = errors.Join(err, b.Close())
	}()
	p, listed, err := kv.OpenReadOnly(fs, dir, lock, func(pebble.DataCorruptionInfo) {})
	if err != nil || p.Close() != nil {
		listed = nil // not known
	}
	for _, name := range f.Used(listed) {
		e, err := pebblefiles.Open(fs, dir, name, listed[name])
		if err != nil {
			return err
		}
		files = append(files, e)
	}
	err = pebblefiles.Merge(files, func(key, value []byte) error {
		if string(key) == string(layout.FormatKey()) {
			return nil // the new store has it
		}
		if err := errors.Join(ctx.Err(), b.Set(key, value, nil)); err != nil || b.Len() < copyBytes {
			return err
		}
		err := errors.Join(to.Commit(b, pebble.NoSync), b.Close())
		b = to.Pebble.NewBatch()
		return err
	})
	return errors.Join(err, to.Commit(b, pebble.Sync))
}

const copyBytes = 1 << 20 // of a batch

// Rebuild makes the epochs of a store whole, and returns what was left out for it. Nothing
// else uses the store meanwhile.
func Rebuild(ctx context.Context, es *epochs.Set) ([]corruption.Damage, error) {
	if err := es.FindEpochs(); err != nil {
		return nil, err
	}
	for _, id := range es.Between(0, 1<<62) {
		if err := recoverStreams(es, id); err != nil {
			return nil, err
		}
	}
	return verify.Rebuild(ctx, es.KV, es.Now())
}

// recoverStreams writes the streams of an epoch that are missing, and that a table of the
// index has.
func recoverStreams(es *epochs.Set, id uint32) error {
	b := es.KV.Pebble.NewBatch()
	defer b.Close()
	for hour := range uint8(layout.HoursPerEpoch) {
		t, err := es.LoadIndex(id, hour)
		if err != nil {
			return err
		}
		for row, n := range t.Streams {
			known, err := es.KV.Has(layout.StreamKey(id, n))
			if err != nil {
				return err
			}
			if known {
				continue
			}
			def, err := t.Definition(uint32(row))
			if errors.Is(err, storeerr.ErrCorrupt) {
				break // a column is missing
			}
			if err != nil {
				return err
			}
			b.Set(layout.StreamKey(id, n), labelindex.AppendStream(nil, t.Partitions[row], &def), nil)
		}
	}
	return es.KV.Commit(b, pebble.Sync)
}
