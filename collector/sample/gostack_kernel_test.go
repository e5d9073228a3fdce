//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
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
var goWrappers = []string{"main.(*small).plus", "main.(*large).plus"}

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
		if !strings.HasSuffix(f, "-fm") && !slices.Contains(goWrappers, f) {
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

// A selfProfiled is a Go program that profiles itself while we do.
type selfProfiled struct {
	source string // folder in testdata/golang
	flags  []string
	env    string
	calls  func(caller, callee string) bool // which shares are compared
	count  int                              // at least so many of them
	result burned
	own    string // file with its own profile
}

func allCalls(string, string) bool { return true }

// mainCalls is true for calls within a program's own code. Go's own profiler
// sees no C functions and leaves out what calls them.
func mainCalls(caller, callee string) bool {
	return strings.HasPrefix(caller, "main.") && strings.HasPrefix(callee, "main.")
}

// checkWhole checks that nearly all stacks of a program have every caller. Those of the
// scheduler at work for a preempted goroutine end at runtime.morestack; how many there are
// depends on how often the machine takes the CPU away.
func (p *selfProfiled) checkWhole(t *testing.T, ss []stack) {
	var whole, all, preempted float64
	faults := map[string]float64{}
	for _, s := range ss {
		// Until the unwinder knows a program there is a note instead.
		if s.early() {
			continue
		}
		all += float64(s.value)
		fault := wholeness(plain(s.functions, s.isKernel))
		if fault == "" {
			whole += float64(s.value)
		} else {
			if s.functions[0] == "runtime.morestack" {
				preempted += float64(s.value)
			}
			faults[fault+": "+strings.Join(s.functions, ";")] += float64(s.value)
		}
	}
	t.Logf("%.2f %% of %.2f s have every caller, %.2f %% end at runtime.morestack", 100*whole/all, all/1e9, 100*preempted/all)
	if whole+preempted >= 0.97*all && preempted <= 0.1*all {
		return
	}
	keys := slices.SortedFunc(maps.Keys(faults), func(a, b string) int { return cmp.Compare(faults[b], faults[a]) })
	for _, k := range keys[:min(len(keys), 10)] {
		t.Logf("%.2f %% %s", 100*faults[k]/all, k)
	}
	t.Errorf("only %.2f %% of the samples have every caller", 100*whole/all)
}

// checkShares checks that the share of each call is the one that Go's own
// profiler finds in the same run, within four standard deviations and one
// percent.
func (p *selfProfiled) checkShares(t *testing.T, ss []stack, frequency float64) {
	var ours edges
	for _, s := range ss {
		fs := plain(s.functions, s.isKernel)
		if len(fs) > 1 && fs[0] == "runtime.goexit" && fs[1] == "runtime.main" {
			ours.add(fs, float64(s.value), float64(s.value)*frequency/1e9)
		}
	}
	want := goProfile(t, p.own)
	require.Greater(t, want.count, 200.0)
	compared := 0
	all := maps.Clone(ours.calls)
	maps.Copy(all, want.calls)
	for call := range all {
		a, b := ours.calls[call]/ours.total, want.calls[call]/want.total
		share := max(a, b)
		if share < 0.01 || !p.calls(call[0], call[1]) {
			continue
		}
		compared++
		tolerance := 0.01 + 4*math.Sqrt(share*(1-share)*(1/ours.count+1/want.count))
		if math.Abs(a-b) > tolerance {
			t.Errorf("%s → %s: %.2f %% of our samples, %.2f %% of Go's, tolerance %.2f %%", call[0], call[1], 100*a, 100*b, 100*tolerance)
		}
	}
	t.Logf("%d shares of calls compared, of %.0f and %.0f samples", compared, ours.count, want.count)
	require.GreaterOrEqual(t, compared, p.count)
}

func (s stack) isKernel(i int) bool { return s.modules[i] == "vmlinux" }

// TestGoStacks profiles Go programs, linked in the ways that there are, and
// compares with what Go's own profiler says of the same run: small functions
// that call each other in all the ways of the language, the standard library
// with its assembly, and C functions that call Go.
func TestGoStacks(t *testing.T) {
	requireKernel(t)
	const frequency = 797
	programs := []*selfProfiled{
		{source: "small", env: "CGO_ENABLED=0", calls: allCalls, count: 20},
		{source: "small", env: "CGO_ENABLED=0", flags: []string{"-buildmode=pie", "-ldflags=-s -w"}, calls: allCalls, count: 20},
		{source: "small", env: "CGO_ENABLED=1", flags: []string{"-ldflags=-linkmode=external"}, calls: allCalls, count: 20},
		{source: "library", env: "CGO_ENABLED=1", calls: allCalls, count: 40},
		{source: "callback", env: "CGO_ENABLED=1", calls: mainCalls, count: 4},
	}
	requireTool(t, "gcc", "gcc and libc6-dev")
	dir := t.TempDir()
	for i, p := range programs {
		bin := filepath.Join(dir, fmt.Sprint(p.source, i))
		p.own = bin + ".pprof"
		cmd := exec.Command("go", append(append([]string{"build"}, p.flags...), "-o", bin, "./testdata/golang/"+p.source)...)
		cmd.Env = append(os.Environ(), p.env)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	m, _, stop := startSource(t, frequency)
	for _, p := range programs {
		var err error
		p.result, err = burn(t, []string{strings.TrimSuffix(p.own, ".pprof")}, "6", p.own)
		require.NoError(t, err)
	}
	stop()
	for _, p := range programs {
		t.Run(strings.Join(append([]string{p.source, p.env}, p.flags...), " "), func(t *testing.T) {
			ss := m.stacks("pid", p.result.pid)
			p.checkWhole(t, ss)
			p.checkShares(t, ss, frequency)
			if p.source == "callback" {
				inner := sum(ss, func(s stack) bool { return slices.Contains(s.functions, "main.inner") })
				whole := sum(ss, func(s stack) bool {
					c, g := slices.Index(s.functions, "main._Cfunc_viaC"), slices.Index(s.functions, "main.goLeaf")
					return s.has("main.outer", "main.inner") && s.has("main.turn", "main._Cfunc_viaC", "runtime.cgocall", "runtime.asmcgocall") &&
						c < g && slices.Contains(s.functions[c:g], "crosscall2") && slices.Contains(s.functions[c:g], "runtime.cgocallback")
				})
				require.Greater(t, inner, 0.2*p.result.process)
				require.Greater(t, whole, 0.97*inner, "of the samples in Go called by C have the C functions and their Go callers")
			}
		})
	}
}
