package symbolize

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// markerSource has functions without a size, one that has none after a marker, and
// markers between, as Go's linker and C's make them.
const markerSource = `
	.text
	.globl runtime.text, first, after, etext, __start_code
	.type first, @function
	.type "runtime.etext", @function
	.type "go:textfipsend", @function
runtime.text:
first:	.fill 16, 1, 0x90
"go:textfipsend":
	.fill 16, 1, 0x90
"runtime.etext":
	.fill 16, 1, 0x90
after:	.fill 16, 1, 0x90
etext:
__start_code:
	.fill 16, 1, 0x90
`

// TestMarkersNameNothing checks that symbols which mark places end the functions
// before them and name no code, not even where nothing else does.
func TestMarkersNameNothing(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "m.s"), []byte(markerSource))
	run(t, dir, "gcc", "-nostdlib", "-shared", "-o", "m", "m.s")
	path := filepath.Join(dir, "m")
	table := tableOf(t, path)
	start := addrOf(t, path, "first")
	for i, want := range []string{"first", "", "", "after", ""} {
		for _, offset := range []uint64{0, 8, 15} {
			require.Equal(t, want, table.at(start+uint64(i)*16+offset), "at %d", i*16+int(offset))
		}
	}
}

// TestIsMarker tells markers from functions with similar names.
func TestIsMarker(t *testing.T) {
	for _, name := range []string{"runtime.text", "runtime.etext", "runtime.text.12", "go:textfipsstart", "go:textfipsend", "etext", "__start_code", "__stop_code"} {
		require.True(t, isMarker([]byte(name)), name)
	}
	for _, name := range []string{"runtime.textAddr", "runtime.text.func1", "main", "_start", "_init", "go:buildid", "__start"} {
		require.False(t, isMarker([]byte(name)), name)
	}
}
