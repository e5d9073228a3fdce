package symbolize

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// keptFiles has debug files as ID.debug in a directory.
type keptFiles struct{ dir string }

func (k keptFiles) OpenDebugFile(id string) (*os.File, error) {
	return os.Open(filepath.Join(k.dir, id+".debug"))
}

// TestLookupInKeptDebugFile strips a program and has its debug file come later. The
// stubs, whose code the debug file lacks, keep their names.
func TestLookupInKeptDebugFile(t *testing.T) {
	for _, flags := range [][]string{{"-O2"}, {"-O2", "-static"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			const id = "abcdef0123456789abcdef0123456789abcdef01"
			full := compile(t, "gcc", "shape.c", append([]string{"-g", "-Wl,--build-id=0x" + id}, flags...)...)
			addr := addrOf(t, full, "local_work")
			stripped := filepath.Join(t.TempDir(), "shape")
			run(t, "", "strip", "-o", stripped, full)
			kept := keptFiles{t.TempDir()}
			s := open(t, Options{DebugFiles: kept})
			s.Add(FileID{1}, Binary{Path: stripped})
			_, ok := s.Lookup(FileID{1}, addr)
			require.False(t, ok)

			run(t, "", "objcopy", "--only-keep-debug", full, filepath.Join(kept.dir, id+".debug"))
			s.Renew(id)
			lines, ok := s.Lookup(FileID{1}, addr)
			require.True(t, ok)
			require.Equal(t, "local_work", lines[len(lines)-1].Function)
			require.Positive(t, lines[len(lines)-1].Line, "%v", lines)

			// A malformed file leaves what the program itself has.
			writeFile(t, filepath.Join(kept.dir, id+".debug"), []byte("\x7fELF"))
			s.Add(FileID{2}, Binary{Path: stripped})
			_, ok = s.Lookup(FileID{2}, addr)
			require.False(t, ok)
		})
	}
}
