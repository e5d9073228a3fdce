package sample

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGoTableOfCgo looks up functions of a program that a C linker made: those of
// Go have names, and those of C, which follow them, are no Go functions. Marker
// symbols such as go:textfipsend are the last in Go's table.
func TestGoTableOfCgo(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "callback")
	cmd := exec.Command("go", "build", "-o", bin, "./testdata/golang/callback")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := os.Open(bin)
	require.NoError(t, err)
	defer f.Close()
	table, err := openGoTable(f)
	require.NoError(t, err)
	e, err := elf.NewFile(f)
	require.NoError(t, err)
	symbols, err := e.Symbols()
	require.NoError(t, err)
	found := map[string]bool{}
	for _, s := range symbols {
		switch s.Name {
		case "main.turn", "main.inner":
			lines, err := table.lines(s.Value + 1)
			require.NoError(t, err)
			require.Equal(t, s.Name, lines[len(lines)-1].function)
		case "inC", "viaC", "leafInC", "_start":
			lines, err := table.lines(s.Value + 1)
			require.ErrorIs(t, err, errGoAddress, "%s is %v", s.Name, lines)
		default:
			continue
		}
		found[s.Name] = true
	}
	require.GreaterOrEqual(t, len(found), 6, "%v", found)
}
