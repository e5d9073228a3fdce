//go:build linux && (amd64 || arm64)

package sample

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOpenProbed attaches to no file but the one that the probes were read of: a process may
// map any other in its place meanwhile, or write to its own.
func TestOpenProbed(t *testing.T) {
	bin := allocators[0].build(t)
	open := func(name string) func() (*os.File, error) {
		return func() (*os.File, error) { return os.Open(name) }
	}
	file, err := os.Open(bin)
	require.NoError(t, err)
	defer file.Close()
	sites, err := readAllocSites(file)
	require.NoError(t, err)
	require.NotEmpty(t, sites)

	same, err := openProbed(sites, open(bin))
	require.NoError(t, err)
	require.NoError(t, same.Close())
	_, err = openProbed(sites, open("/proc/self/exe"))
	require.ErrorIs(t, err, errOtherFile)
	_, err = openProbed(sites, open(allocators[3].build(t)))
	require.ErrorIs(t, err, errOtherFile, "another with probes")
	_, err = openProbed(sites, open("/dev/zero"))
	require.Error(t, err)
	_, err = openProbed(sites, open("/gone"))
	require.ErrorIs(t, err, os.ErrNotExist)

	// Before anything is attached.
	a := &allocProbes{begin: func() error { return nil }}
	require.ErrorIs(t, a.attach(&probedFile{sites: sites}, open("/proc/self/exe")), errOtherFile)
	require.Equal(t, [maxAttachedSites]bool{}, a.used)
}
