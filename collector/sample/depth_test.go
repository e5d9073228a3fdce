//go:build linux && (amd64 || arm64)

package sample

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// TestDeepen checks that each program of the unwinder has one bound of its loop, which is
// all that changes.
func TestDeepen(t *testing.T) {
	spec, err := support.LoadCollectionSpec()
	require.NoError(t, err)
	for _, l := range frameLoops {
		t.Run(l.program, func(t *testing.T) {
			require.Contains(t, spec.Programs, l.program)
			before := spec.Programs[l.program].Instructions
			after := slices.Clone(before)
			require.NoError(t, l.deepen(after))
			changed := 0
			for i := range before {
				if before[i].Constant != after[i].Constant {
					require.Equal(t, int64(l.frames), before[i].Constant)
					require.Equal(t, int64(l.more), after[i].Constant)
					changed++
				}
			}
			require.Equal(t, 1, changed)
			require.Error(t, l.deepen(after), "its bound is another one now")
		})
	}
}

// TestDeepenOther checks that code without such a loop, or with two, is left as it is.
func TestDeepenOther(t *testing.T) {
	counts := func(bound int32) asm.Instructions {
		return asm.Instructions{
			asm.Add.Imm(asm.R7, 1), asm.Mov.Reg(asm.R1, asm.R7),
			asm.LSh.Imm(asm.R1, 32), asm.RSh.Imm(asm.R1, 32), asm.JEq.Imm(asm.R1, bound, "end"),
		}
	}
	l := frameLoop{frames: 5, more: 15}
	two := append(counts(5), counts(5)...)
	for name, code := range map[string]asm.Instructions{
		"none": {}, "another bound": counts(4), "two": two, "no counter": counts(5)[1:], "other register": append(
			counts(5)[:4], asm.JEq.Imm(asm.R2, 5, "end")),
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(code)
			require.Error(t, l.deepen(code))
			require.Equal(t, before, code)
		})
	}
	one := counts(5)
	require.NoError(t, l.deepen(one))
	require.Equal(t, int64(15), one[4].Constant)
}

// TestDeepStacks samples a function below 300 nested calls of another one, which have no
// frame pointers.
func TestDeepStacks(t *testing.T) {
	requireKernel(t)
	bin := filepath.Join(t.TempDir(), "nest")
	run(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O2", "-fomit-frame-pointer", "testdata/native/nest.c", "-o", bin)
	m, _, stop := startSource(t, 397)
	<-m.deep
	const depth = 300
	r, err := burn(t, []string{bin}, "2", "300")
	require.NoError(t, err)
	stop()
	ss := m.stacks("pid", r.pid)
	total := sum(ss, func(s stack) bool { return !s.early() && slices.Contains(s.functions, "bottom") })
	whole := sum(ss, func(s stack) bool {
		first := slices.Index(s.functions, "nest")
		return first > 0 && s.functions[first-1] == "main" && first+depth < len(s.functions) && s.functions[first+depth] == "bottom"
	})
	require.Positive(t, total)
	require.Greater(t, whole, 0.97*total, "the largest others:\n%s", largest(ss, func(s stack) bool { return s.cut() }))
}
