package store

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

func TestRefusesOtherFormats(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	for _, version := range []byte{1, 9} {
		require.NoError(t, db.kv.Pebble.Set(layout.FormatKey(), []byte{version}, pebble.Sync))
		require.NoError(t, db.Close())
		_, err := Open(dir, Options{})
		require.ErrorContains(t, err, fmt.Sprintf("format version 0%d, this program reads 5", version))
		p, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: pebble.DefaultLogger})
		require.NoError(t, err)
		require.NoError(t, p.Set(layout.FormatKey(), []byte{kv.FormatVersion}, pebble.Sync))
		require.NoError(t, p.Close())
		db = open(t, dir)
	}
}
