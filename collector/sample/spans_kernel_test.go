//go:build linux && (amd64 || arm64)

package sample

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSpansOfGoroutines checks that samples have the span and the trace that a goroutine's
// labels name, and no other label, in Go programs linked with and without C.
func TestSpansOfGoroutines(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	programs := map[string]burned{"CGO_ENABLED=0": {}, "CGO_ENABLED=1": {}}
	for env := range programs {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, env), "./testdata/golang/spans")
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	m, _, stop := startSource(t, 797)
	for env := range programs {
		var err error
		programs[env], err = burn(t, []string{filepath.Join(dir, env)}, "3")
		require.NoError(t, err)
	}
	stop()
	for env, result := range programs {
		spans := map[string]float64{}
		var all float64
		for _, p := range m.profiles {
			if p.Labels.Get("pid") != result.pid {
				continue
			}
			for _, s := range p.Pprof.Sample {
				var ids []string
				for _, l := range s.Label {
					ids = append(ids, p.Pprof.StringTable[l.Key]+"="+p.Pprof.StringTable[l.Str])
				}
				spans[strings.Join(ids, " ")] += float64(s.Value[0])
				all += float64(s.Value[0])
			}
		}
		const trace = " trace_id=4bf92f3577b34da6a3ce929d0e0e4736"
		t.Logf("%s: %v of %.0f", env, spans, all)
		// The first samples of a process, which the unwinder does not know yet, have none.
		heavy, light := spans["span_id=00f067aa0ba902b7"+trace], spans["span_id=00f067aa0ba902b8"+trace]
		require.InDelta(t, result.heavy/result.light, heavy/light, 0.4, env)
		require.Greater(t, heavy+light, 0.8*(result.heavy+result.light), env)
		require.GreaterOrEqual(t, spans[""], 0.05*all, env)
		require.Len(t, spans, 3, env)
	}
}
