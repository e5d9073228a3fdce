package dataset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// The size of a program, as CPU profiles of large Go services have it.
const (
	stacksPerProgram = 4700
	ownFunctions     = 3200
)

// Few are seen often and many seldom: the weight of the nth stack or function
// is 1/(n+shift).
const (
	stackShift    = 2.0
	functionShift = 1000.0
)

// A function has a name, a file and the line where it starts.
type function struct {
	name, file string
	start      int64
	address    uint64
	inlined    *function // called at the same address, or nil
}

// A call is a function at one of its lines, which is a location of a pprof.
type call struct {
	*function
	site  int // which of the function's calls
	layer int // that the function was called in
}

func (c call) address() uint64 { return c.function.address + uint64(c.site)*0x24 }
func (c call) line() int64     { return c.start + 3 + 7*int64(c.site) }

// A layer is what calls what: requests come in, handlers work, libraries do it.
type layer struct {
	functions   []*function
	least, most int // frames of a stack
}

// A program is one service's code and the stacks that its profiles show, root
// first, those seen most often first.
type program struct {
	stacks [][]call
	pick   zipf
}

// newProgram makes the program of a service. Libraries are the same functions
// in every service, at other addresses.
func newProgram(service string, seed uint64) *program {
	r := rand.New(rand.NewPCG(seed, 0x666c616d656c696e))
	g := grower{r: r}
	g.roots, g.layers = codeOf(service, r)
	for _, l := range g.layers {
		g.picks = append(g.picks, newZipf(len(l.functions), functionShift))
	}
	p := &program{pick: newZipf(stacksPerProgram, stackShift)}
	seen := map[string]bool{}
	for len(p.stacks) < stacksPerProgram {
		stack := g.grow(p.stacks)
		if key := key(stack); !seen[key] {
			seen[key] = true
			p.stacks = append(p.stacks, stack)
		}
	}
	// What is seen often is anywhere in the call tree.
	r.Shuffle(len(p.stacks), func(i, j int) { p.stacks[i], p.stacks[j] = p.stacks[j], p.stacks[i] })
	return p
}

// A grower makes the stacks of a program.
type grower struct {
	r      *rand.Rand
	roots  [][]call
	layers []layer
	picks  []zipf // of each layer
}

// grow makes a stack. Most leave an earlier one close to its leaf, so that a
// stack adds few nodes to the call tree.
func (g *grower) grow(earlier [][]call) []call {
	last := len(g.layers) - 1
	if len(earlier) == 0 || g.r.IntN(60) == 0 {
		stack := slices.Clone(g.roots[g.fewest(len(g.roots))])
		for i, l := range g.layers {
			for range l.least + g.r.IntN(l.most-l.least+1) {
				stack = append(stack, g.call(i))
			}
		}
		return stack
	}
	other := earlier[g.r.IntN(len(earlier))]
	keep := max(2, len(other)-1-g.fewest(9))
	stack := slices.Clone(other[:keep])
	for range g.fewest(9) {
		stack = append(stack, g.call(min(stack[len(stack)-1].layer+g.r.IntN(4)/3, last)))
	}
	return append(stack, g.call(last))
}

// fewest draws a number below n, small ones most often.
func (g *grower) fewest(n int) int { return min(g.r.IntN(n), g.r.IntN(n)) }

// call draws what is called in a layer.
func (g *grower) call(layer int) call {
	return call{g.layers[layer].functions[g.picks[layer].draw(g.r)], g.r.IntN(4), layer}
}

func key(stack []call) string {
	var b strings.Builder
	for _, c := range stack {
		fmt.Fprintf(&b, "%x ", c.address())
	}
	return b.String()
}

// codeOf names a service's functions: the ways in, then its own in the middle
// and libraries below them.
func codeOf(service string, r *rand.Rand) (roots [][]call, layers []layer) {
	address := uint64(0x401000)
	known := map[string]*function{}
	link := func(fs []function) (out []*function) {
		for _, f := range fs {
			if known[f.name] == nil {
				f.start = 20 + int64(r.IntN(900))
				f.address = address
				address += 0x80 + uint64(r.IntN(0x600))&^0xf
				known[f.name] = &f
			}
			out = append(out, known[f.name])
		}
		return out
	}
	for line := range strings.Lines(strings.TrimSpace(entries)) {
		var root []call
		for _, f := range link(libraryFunctions(line, "")) {
			root = append(root, call{f, 0, 0})
		}
		roots = append(roots, root)
	}
	of := func(library, methods string) []*function {
		fs := link(libraryFunctions(library, methods))
		r.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
		return inline(fs)
	}
	own := inline(link(serviceFunctions(service, ownFunctions, r)))
	middleware, handlers := len(own)/20, len(own)/4
	return roots, []layer{
		{own[:middleware], 1, 2},
		{own[middleware:handlers], 1, 3},
		{own[handlers:], 3, 8},
		{of(clients, clientMethods), 0, 2},
		{of(encodings, encodingMethods), 1, 3},
		{of(leaves, ""), 1, 2},
	}
}

// inline has the compiler put every sixth function's callee into it.
func inline(fs []*function) []*function {
	for i := 0; i+1 < len(fs); i += 6 {
		fs[i].inlined = fs[i+1]
	}
	return fs
}

// A zipf draws numbers from 0, small ones most often.
type zipf struct{ cumulative []float64 }

func newZipf(n int, shift float64) zipf {
	z := zipf{make([]float64, n)}
	sum := 0.0
	for i := range z.cumulative {
		sum += 1 / (float64(i) + shift)
		z.cumulative[i] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	n := len(z.cumulative)
	i, _ := slices.BinarySearch(z.cumulative, r.Float64()*z.cumulative[n-1])
	return min(i, n-1)
}
