//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pprofile "github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// smallCallers are the callers that each function of testdata/golang/small has.
var smallCallers = map[string][]string{
	"main.main": {"runtime.main"}, "main.turn": {"main.main"},
	"main.shopLoop": {"main.turn"}, "main.priceBasket": {"main.shopLoop"}, "main.hashItems": {"main.priceBasket"},
	"main.climb": {"main.turn", "main.climb"}, "main.summit": {"main.climb"}, "main.mix": {"main.summit", "main.rescue.func1"},
	"main.methodValues": {"main.turn"}, "main.(*counter).add": {"main.methodValues"},
	"main.closures": {"main.turn"}, "main.each": {"main.closures"}, "main.closures.func1": {"main.each"},
	"main.generics": {"main.turn"}, "main.twice": {"main.generics"}, "main.sumOf": {"main.twice"},
	"main.bigFrames": {"main.turn"}, "main.bigFrame": {"main.bigFrames"}, "main.touch": {"main.bigFrame"},
	"main.panics": {"main.turn"}, "main.rescue": {"main.panics"}, "main.fall": {"main.rescue"},
	"main.rescue.func1": {"runtime.gopanic"},
	"main.interfaces":   {"main.turn"}, "main.small.plus": {"main.interfaces"}, "main.large.plus": {"main.interfaces"},
	"main.systemCalls": {"main.turn"}, "main.fib": {"main.turn", "main.fib"},
	"syscall.Getppid": {"main.systemCalls"},
}

// goRoots are where the stacktraces of a Go program begin: of goroutines, the
// scheduler and threads.
var goRoots = []string{"runtime.goexit", "runtime.mcall", "runtime.mstart", "runtime.rt0_go"}

// goWrappers are the functions that the compiler has made for method values and
// interfaces; Go's own profiler leaves them out.
var goWrappers = []string{"main.(*counter).add-fm", "main.(*small).plus", "main.(*large).plus"}

// plain returns the functions of a stack, root first, in the form of Go's own
// profiler, up to the function that a signal or the kernel has interrupted.
func plain(functions []string, kernel func(i int) bool) (fs []string) {
	for i, f := range functions {
		if f == "runtime.asyncPreempt" || strings.HasPrefix(f, "runtime.sigreturn") || strings.HasPrefix(f, "libc.so.6+") || kernel(i) {
			break
		}
		f = strings.TrimSuffix(f, ".abi0")
		f, _, _ = strings.Cut(f, "[go.shape")
		f, _, _ = strings.Cut(f, "[...]")
		if !slices.Contains(goWrappers, f) {
			fs = append(fs, f)
		}
	}
	return fs
}

// wholeness says what is wrong with a stack; "" if it has every caller.
func wholeness(fs []string) string {
	if len(fs) == 0 || !slices.Contains(goRoots, fs[0]) {
		return "no root"
	}
	climbs := 0
	for i, f := range fs {
		if strings.HasPrefix(f, "[") {
			return f
		}
		if f == "main.climb" {
			climbs++
		}
		callers, ok := smallCallers[f]
		if ok && (i == 0 || !slices.Contains(callers, fs[i-1])) {
			return "caller of " + f + " is " + fs[max(i-1, 0)]
		}
	}
	if slices.Contains(fs, "main.summit") && climbs != 41 {
		return fmt.Sprintf("%d times main.climb", climbs)
	}
	return ""
}

// edges adds up the values of the stacks that each call is in, with the total
// value and number of stacks.
type edges struct {
	calls map[[2]string]float64
	total float64
	count float64
}

func (e *edges) add(fs []string, value, count float64) {
	if e.calls == nil {
		e.calls = map[[2]string]float64{}
	}
	e.total += value
	e.count += count
	seen := map[[2]string]bool{}
	for i := 1; i < len(fs); i++ {
		call := [2]string{fs[i-1], fs[i]}
		if !seen[call] {
			seen[call] = true
			e.calls[call] += value
		}
	}
}

// goProfile reads a profile that Go's own profiler wrote.
func goProfile(t *testing.T, file string) (e edges) {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	p, err := pprofile.Parse(f)
	require.NoError(t, err)
	for _, s := range p.Sample {
		var fs []string
		for _, loc := range slices.Backward(s.Location) {
			for _, ln := range slices.Backward(loc.Line) {
				fs = append(fs, ln.Function.Name)
			}
		}
		// Go's profiles begin with the first function of the goroutine.
		fs = plain(fs, func(int) bool { return false })
		if len(fs) > 0 && fs[0] == "runtime.main" {
			e.add(append([]string{"runtime.goexit"}, fs...), float64(s.Value[0]), float64(s.Value[0]))
		}
	}
	return e
}

// compareGo profiles a program of small functions and checks that its stacks
// have every caller, and that the share of each call is the one that Go's own
// profiler finds in the same run.
func compareGo(t *testing.T, m *memory, command []string, frequency float64, r burned, own string) {
	t.Helper()
	ss := m.stacks("pid", r.pid)
	var ours edges
	var whole, all float64
	faults := map[string]float64{}
	for _, s := range ss {
		if s.functions[0] == newProcess.lines[0].function {
			continue
		}
		v := float64(s.value)
		all += v
		fs := plain(s.functions, func(i int) bool { return s.modules[i] == "vmlinux" })
		fault := wholeness(fs)
		if fault == "" {
			whole += v
		} else {
			faults[fault+": "+strings.Join(s.functions, ";")] += v
		}
		if len(fs) > 1 && fs[0] == "runtime.goexit" && fs[1] == "runtime.main" {
			ours.add(fs, v, v*frequency/1e9)
		}
	}
	t.Logf("%v: %.2f %% of %.2f s have every caller", command, 100*whole/all, all/1e9)
	keys := make([]string, 0, len(faults))
	for k := range faults {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(faults[b], faults[a]) })
	for _, k := range keys[:min(len(keys), 20)] {
		t.Logf("%.2f %% %s", 100*faults[k]/all, k)
	}
	if whole < 0.97*all {
		t.Errorf("only %.2f %% of the samples have every caller", 100*whole/all)
	}
	want := goProfile(t, own)
	require.Greater(t, want.count, 500.0)
	calls := map[[2]string]bool{}
	for call := range ours.calls {
		calls[call] = true
	}
	for call := range want.calls {
		calls[call] = true
	}
	compared := 0
	for call := range calls {
		a, b := ours.calls[call]/ours.total, want.calls[call]/want.total
		if max(a, b) < 0.01 {
			continue
		}
		compared++
		p := max(a, b)
		tolerance := 0.01 + 4*math.Sqrt(p*(1-p)*(1/ours.count+1/want.count))
		if math.Abs(a-b) > tolerance {
			t.Errorf("%s → %s: %.2f %% of our samples, %.2f %% of Go's, tolerance %.2f %%", call[0], call[1], 100*a, 100*b, 100*tolerance)
		} else {
			t.Logf("%s → %s: %.2f %%, Go: %.2f %%", call[0], call[1], 100*a, 100*b)
		}
	}
	require.Greater(t, compared, 20)
}

// TestGoStacks checks programs of small Go functions, linked in the ways that
// there are.
func TestGoStacks(t *testing.T) {
	requireKernel(t)
	const frequency = 797
	builds := [][]string{
		{"CGO_ENABLED=0"},
		{"CGO_ENABLED=0", "-buildmode=pie", "-ldflags=-s -w"},
		{"CGO_ENABLED=1", "-ldflags=-linkmode=external"},
	}
	dir := t.TempDir()
	m, _, stop := startSource(t, frequency)
	results := make([]burned, len(builds))
	owns := make([]string, len(builds))
	for i, b := range builds {
		bin := filepath.Join(dir, fmt.Sprint("small", i))
		owns[i] = bin + ".pprof"
		t.Setenv("CGO_ENABLED", strings.TrimPrefix(b[0], "CGO_ENABLED="))
		run(t, "go", append(append([]string{"build"}, b[1:]...), "-o", bin, "./testdata/golang/small")...)
		var err error
		results[i], err = burn(t, []string{bin}, "8", owns[i])
		require.NoError(t, err)
	}
	stop()
	for i, b := range builds {
		t.Run(strings.Join(b, " "), func(t *testing.T) { compareGo(t, m, b, frequency, results[i], owns[i]) })
	}
}
