package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Setting is a text that a client keeps in the store, such as the preferences
// of Grafana's Profiles Drilldown. The store does not read it.
type Setting struct {
	Name, Value string
	Modified    int64 // ms since 1970
}

// ErrOldSetting is what SetSetting returns for a setting that is older than the
// stored one of its name.
var ErrOldSetting = errors.New("the stored setting is newer")

// kindSetting is among the store's own keys, so retention leaves it alone.
const kindSetting = 'c' // name → modified uint64, value

func settingKey(name string) []byte {
	return append(layout.KindKey(layout.MetaEpoch, kindSetting), name...)
}

// Settings returns all settings, sorted by name.
func (db *DB) Settings(_ context.Context) (out []Setting, err error) {
	prefix := layout.KindKey(layout.MetaEpoch, kindSetting)
	err = db.call("settings", func() error {
		return db.kv.Each(prefix, func(key, value []byte) error {
			modified, text, bad := decodeSetting(value)
			if bad != nil {
				db.kv.Corrupt(fmt.Errorf("read setting %x: %w", key, bad))
			} else {
				out = append(out, Setting{Name: string(key[len(prefix):]), Value: text, Modified: modified})
			}
			return nil
		})
	})
	return out, kv.WithoutGaps(err)
}

// SetSetting stores a setting and returns when it is on disk. It replaces one of
// the same name that is not newer.
func (db *DB) SetSetting(_ context.Context, s Setting) error {
	return db.write(func() error { return db.setSetting(s) })
}

func (db *DB) setSetting(s Setting) error {
	db.settings.Lock()
	defer db.settings.Unlock()
	v, closer, err := db.kv.Get(settingKey(s.Name))
	if err != nil && !errors.Is(err, pebble.ErrNotFound) && !errors.Is(err, storeerr.ErrCorrupt) {
		return fmt.Errorf("read setting %q: %w", s.Name, err)
	}
	if err == nil {
		modified, _, err := decodeSetting(v)
		closer.Close()
		if err == nil && modified > s.Modified {
			return fmt.Errorf("setting %q: %w", s.Name, ErrOldSetting)
		}
	}
	value := append(binary.BigEndian.AppendUint64(nil, uint64(s.Modified)), s.Value...)
	if err := db.kv.Set(settingKey(s.Name), value, pebble.Sync); err != nil {
		return fmt.Errorf("write setting %q: %w", s.Name, err)
	}
	return nil
}

// DeleteSetting deletes a setting, if it is there.
func (db *DB) DeleteSetting(_ context.Context, name string) error {
	err := db.write(func() error {
		return db.kv.Delete(settingKey(name), pebble.Sync)
	})
	if err != nil {
		return fmt.Errorf("delete setting %q: %w", name, err)
	}
	return nil
}

func decodeSetting(v []byte) (modified int64, value string, err error) {
	if len(v) < 8 {
		return 0, "", fmt.Errorf("%w: %d bytes hold no time", storeerr.ErrCorrupt, len(v))
	}
	return int64(binary.BigEndian.Uint64(v)), string(v[8:]), nil
}
