package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
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

// Options that cannot be read, or that are of another database, are named.
func TestCorruptOptionsAreNamed(t *testing.T) {
	original := t.TempDir()
	require.NoError(t, open(t, original).Close())
	for from, to := range map[string]string{"[Options]": "[Options", "comparer=leveldb": "comparer=leveldc"} {
		dir := filepath.Join(t.TempDir(), "store")
		require.NoError(t, os.CopyFS(dir, os.DirFS(original)))
		names, err := filepath.Glob(filepath.Join(dir, pebblefiles.OptionsPrefix+"*"))
		require.NoError(t, err)
		require.Len(t, names, 1)
		b, err := os.ReadFile(names[0])
		require.NoError(t, err)
		require.Contains(t, string(b), from)
		require.NoError(t, os.WriteFile(names[0], bytes.Replace(b, []byte(from), []byte(to), 1), 0o600))
		_, err = Open(dir, Options{})
		require.ErrorIs(t, err, corruption.ErrCorruptStore)
		require.ErrorContains(t, err, filepath.Base(names[0]))
	}
}
