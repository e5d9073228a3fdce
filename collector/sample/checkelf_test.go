package sample

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

// TestCheckELFOfRealFiles checks that no program or library that this machine has
// is refused.
func TestCheckELFOfRealFiles(t *testing.T) {
	checked := 0
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local"} {
		here := 0
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			f, err := os.Open(name)
			if err != nil {
				return nil
			}
			defer f.Close()
			var magic [5]byte
			if _, err := f.ReadAt(magic[:], 0); err != nil || string(magic[:]) != "\x7fELF\x02" {
				return nil
			}
			info, err := f.Stat()
			require.NoError(t, err)
			if info.Size() < 64 {
				return nil
			}
			if here++; here > 400 {
				return fs.SkipAll
			}
			checked++
			require.NoError(t, checkELF(untrusted.NewReader(f, info.Size(), goOpening)), name)
			return nil
		})
	}
	require.NotZero(t, checked)
	t.Logf("%d files", checked)
}
