//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallCChain has the callers of each function of testdata/native/small.c.
var smallCChain = map[string]string{
	"hash_item": "price_item", "price_item": "price_basket", "price_basket": "checkout", "checkout": "shop", "shop": "main",
}

// cut reports whether a stack ends early, other than because the process was new.
func (s stack) cut() bool {
	return strings.HasPrefix(s.functions[0], "[stack incomplete") && !s.early()
}

// TestUncoveredStacks samples programs of small functions that keep frame
// pointers and have no unwind tables: each function has its caller.
func TestUncoveredStacks(t *testing.T) {
	requireKernel(t)
	gcc, dir := requireTool(t, "gcc", "gcc and libc6-dev"), t.TempDir()
	m, _, stop := startSource(t, 797)
	levels := []string{"-O1", "-O2", "-Os"}
	pids := make([]string, len(levels))
	for i, level := range levels {
		bin := filepath.Join(dir, "small"+level)
		run(t, gcc, append([]string{level, "-fno-omit-frame-pointer", "testdata/native/small.c", "-o", bin}, withoutTables...)...)
		r, err := burn(t, []string{bin}, "3")
		require.NoError(t, err)
		pids[i] = r.pid
	}
	stop()
	for i, level := range levels {
		ss := m.stacks("pid", pids[i])
		total := sum(ss, func(s stack) bool { return !s.early() })
		whole := func(s stack) bool {
			hot := false
			for n, f := range s.functions {
				caller, ok := smallCChain[f]
				if hot = hot || ok; ok && (n == 0 || s.functions[n-1] != caller) {
					return false
				}
			}
			return hot && slices.Contains(s.functions, "main") && !s.cut()
		}
		got := sum(ss, whole)
		t.Logf("%s: %.4f of %.3f s are whole", level, got/total, total/1e9)
		if got < 0.97*total {
			t.Errorf("%s: %.4f of the stacks are whole; the largest others:\n%s", level, got/total,
				largest(ss, func(s stack) bool { return !whole(s) }))
		}
	}
}

// TestJITStacks samples a program that runs code in unnamed memory which keeps
// frame pointers, calls functions of a file, and is written anew all the time.
func TestJITStacks(t *testing.T) {
	requireKernel(t)
	bin := filepath.Join(t.TempDir(), "jit")
	run(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O1", "-fno-omit-frame-pointer", "-fcf-protection=none", "testdata/native/jit.c", "-o", bin)
	m, _, stop := startSource(t, 397)
	r, err := burn(t, []string{bin}, "8")
	require.NoError(t, err)
	stop()
	checkJIT(t, m.stacks("pid", r.pid), func(s stack) bool {
		return s.has("main", jitName) || slices.Contains(s.functions, "main") && !slices.Contains(s.functions, "turn")
	})
}

// TestNodeStacks samples V8 while it compiles ever more functions. Its first run also has
// the tables of Node's large file read, so the best of three runs counts.
func TestNodeStacks(t *testing.T) {
	requireKernel(t)
	node := requireTool(t, "node", "nodejs")
	m, _, stop := startSource(t, 397)
	var pids []string
	for range 3 {
		r, err := burn(t, []string{node, "testdata/node/warm.js"}, "5")
		require.NoError(t, err)
		pids = append(pids, r.pid)
	}
	stop()
	best := slices.MinFunc(pids, func(a, b string) int { return cmp.Compare(cutShare(m.stacks("pid", a)), cutShare(m.stacks("pid", b))) })
	checkJIT(t, m.stacks("pid", best), func(stack) bool { return true })
}

// cutShare is the share of stacks that are cut, without those of new processes.
func cutShare(ss []stack) float64 {
	return sum(ss, stack.cut) / sum(ss, func(s stack) bool { return !s.early() })
}

// checkJIT checks that hardly a stack is cut, and that whole ones are as said.
func checkJIT(t *testing.T, ss []stack, as func(stack) bool) {
	t.Helper()
	total := sum(ss, func(s stack) bool { return !s.early() })
	cut := cutShare(ss)
	right := sum(ss, func(s stack) bool { return !s.cut() && !s.early() && as(s) })
	t.Logf("%.4f of %.3f s are cut, %.4f as expected", cut, total/1e9, right/total)
	if cut > 0.03 || right < 0.96*total {
		t.Errorf("%.4f of the stacks are cut, %.4f as expected; the largest others:\n%s", cut, right/total,
			largest(ss, func(s stack) bool { return s.cut() || !as(s) }))
	}
}
