package store

import (
	"context"

	"github.com/cockroachdb/pebble/v2/vfs"

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
