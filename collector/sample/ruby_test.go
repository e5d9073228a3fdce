//go:build linux && (amd64 || arm64)

package sample

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
)

// TestShowRubySymbols checks that the library finds the symbol of Ruby's current thread
// in a stripped libruby, and that other files stay as they are.
func TestShowRubySymbols(t *testing.T) {
	gcc, dir := requireTool(t, "gcc", "gcc and libc6-dev"), t.TempDir()
	source := filepath.Join(dir, "ruby.c")
	require.NoError(t, os.WriteFile(source, []byte("__thread void *other, *ruby_current_ec;"), 0o644))
	for name, strip := range map[string]bool{"libruby-3.1.so.3.1.2": true, "libruby.so.3.4": false, "libother.so": true} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			args := []string{"-shared", "-fPIC", source, "-o", file}
			if strip {
				args = append(args, "-s")
			}
			run(t, gcc, args...)
			ref := pfelf.NewReference(file, pfelf.SystemOpener)
			defer ref.Close()
			ef, err := ref.GetELF()
			require.NoError(t, err)
			require.NoError(t, ef.LoadSections())
			before := len(ef.Sections)
			table := &stackdeltatypes.IntervalData{}
			same, err := showRubySymbols(ref, table)
			require.NoError(t, err)
			require.Same(t, table, same)
			if name == "libother.so" || !strip {
				require.Len(t, ef.Sections, before)
				return
			}
			found := false
			require.NoError(t, ef.VisitSymbols(func(s libpf.Symbol) bool {
				found = found || s.Name == "ruby_current_ec"
				return true
			}))
			require.True(t, found)
		})
	}
}
