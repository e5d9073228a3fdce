package store

import (
	"context"
	"errors"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/repair"
	"github.com/flameline/flameline/collector/store/internal/verify"
)

// A Verification is what Verify found.
type Verification = verify.Verification

// Verify reads all of a store that no process has open: every block of every
// table, the logs, and every value, which has to agree with what it refers to.
// It changes nothing in the directory.
func Verify(ctx context.Context, dir string) (Verification, error) {
	return verify.Verify(ctx, vfs.Default, dir)
}

// Repair makes a new store in a directory that is empty or missing, of all that can be
// read of the tables and logs of another, which no process may have open. Tables that are
// not in its list of tables, if that can be read, were compacted and are left out. Nothing
// changes in the other. It returns what cannot be read, and what of the rest is left out
// as it refers to that.
func Repair(ctx context.Context, dir, to string, log *slog.Logger) ([]Damage, error) {
	return repair.Repair(ctx, vfs.Default, dir, to, func(fill func(*epochs.Set) error) error {
		db, err := Open(to, Options{Logger: log, MaintenanceInterval: -1})
		if err != nil {
			return err
		}
		return errors.Join(fill(db.epochs), db.Close())
	})
}
