package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// mendFile lists the epochs that lost keys and are not mended yet, in the
// directory of damaged files.
const mendFile = "mend.json"

func mendPath(fs vfs.FS, dir string) string { return fs.PathJoin(dir, damagedDir, mendFile) }

// planMend notes epochs to be mended, before their keys are lost.
func planMend(fs vfs.FS, dir string, epochs map[uint32]bool) error {
	before, err := plannedMend(fs, dir)
	if err != nil {
		return err
	}
	for _, id := range before {
		epochs[id] = true
	}
	b, err := json.Marshal(slices.Sorted(maps.Keys(epochs)))
	if err != nil {
		return err
	}
	if err := fs.MkdirAll(fs.PathJoin(dir, damagedDir), 0o750); err != nil {
		return err
	}
	return writeFile(fs, mendPath(fs, dir), b)
}

func plannedMend(fs vfs.FS, dir string) (epochs []uint32, err error) {
	b, err := readFile(fs, mendPath(fs, dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return epochs, json.Unmarshal(b, &epochs)
}

// mendPlanned mends what planMend noted.
func (db *DB) mendPlanned() error {
	epochs, err := plannedMend(db.disk, db.dir)
	if err != nil || epochs == nil {
		return err
	}
	for _, id := range epochs {
		if err := db.mend(id); err != nil {
			return fmt.Errorf("mend epoch %d: %w", id, err)
		}
	}
	return db.disk.Remove(mendPath(db.disk, db.dir))
}
