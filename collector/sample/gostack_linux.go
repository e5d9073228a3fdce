//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"

	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// refineGo corrects the unwind table of a Go program, for x86-64 or arm64. The
// library has the unwinder walk Go functions by frame pointers. That is wrong
// where a function has not yet set up its frame or has given it up, and
// everywhere in a function without one: the frame pointer is still the caller's,
// and so the caller is left out. Go's own table of stack use says where that is;
// there the return address is at the stack pointer, or on arm64 in the link
// register.
//
// Functions that the library does not walk by frame pointers keep its rules:
// assembly code and functions that call assembly that uses the frame pointer
// for something else. So do all functions of programs for arm64 that Go before
// 1.21 compiled, for which the library uses Go's table itself.
func refineGo(ref *pfelf.Reference, table *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
	ef, err := ref.GetELF()
	if err != nil {
		return nil, err
	}
	if ef.Machine != elf.EM_X86_64 && ef.Machine != elf.EM_AARCH64 {
		return table, nil
	}
	code, err := openGoCode(ef)
	if errors.Is(err, errNoGoCode) {
		return table, nil
	}
	if err != nil {
		return nil, err
	}
	defer ef.SetDontNeed()
	g := goStacks{code: code, library: table, arm: ef.Machine == elf.EM_AARCH64}
	return g.refine()
}

// Bounds for one program. The largest that we know have less than a million
// rules.
const (
	goMaxRules = 4 << 20
	goMaxRuns  = 16 << 20
)

// goStacks makes the unwind table of one Go program.
type goStacks struct {
	code    *goCode
	library *stackdeltatypes.IntervalData
	block   stackdeltatypes.BasicBlock // the rules so far
	arm     bool                       // the program is for arm64, not x86-64
	old     bool                       // the program's compiler was older than Go 1.21
	duffs   bool                       // its code may have calls as in duffCall
	rs      []stackRun                 // reused
	rules   []stackdeltatypes.StackDelta
}

// Rules: where the caller's stack pointer and frame pointer are.
var (
	// framePointer: both are where the frame pointer points to.
	framePointer = stackdeltatypes.UnwindInfoFramePointer
	// unknownRule ends a stacktrace with an error.
	unknownRule = stackdeltatypes.UnwindInfoInvalid
	stopRule    = stackdeltatypes.UnwindInfoStop
)

// noFrame is the rule where a function uses that much stack and the frame
// pointer is still the caller's.
func noFrame(used int32) stackdeltatypes.UnwindInfo {
	return stackdeltatypes.UnwindInfo{BaseReg: support.UnwindRegSp, Param: used + 8}
}

// saved is the rule where a function uses that much stack and has saved the
// caller's frame pointer below the return address.
func saved(used int32) stackdeltatypes.UnwindInfo {
	return stackdeltatypes.UnwindInfo{
		BaseReg: support.UnwindRegSp, Param: used + 8,
		AuxBaseReg: support.UnwindRegCfa, AuxParam: -16,
	}
}

// refine returns the library's table with other rules for the Go functions.
func (g *goStacks) refine() (*stackdeltatypes.IntervalData, error) {
	byPointer, err := g.findStyle()
	if err != nil {
		return nil, err
	}
	if g.arm && !byPointer {
		return g.library, nil
	}
	c := g.code
	start, end := c.entry(0), c.entry(c.count)
	if end <= start || end-start > 1<<32-1 || !c.loads(start, end) {
		return nil, fmt.Errorf("read Go program: code from %#x to %#x is not in the file", start, end)
	}
	g.block = stackdeltatypes.BasicBlock{Start: start, End: end,
		Deltas: make(stackdeltatypes.StackDeltaArray, 0, min(6*c.count, 1<<20))}
	missing, runs := 0, 0
	for i := range c.count {
		f, err := c.function(i)
		if err != nil {
			return nil, err
		}
		if f.start == f.end {
			continue
		}
		known, err := g.add(&f)
		if err != nil {
			return nil, err
		}
		if !known {
			missing++
		}
		if runs += len(g.rs); len(g.block.Deltas) > goMaxRules || runs > goMaxRuns {
			return nil, fmt.Errorf("read Go program: it has more than %d rules or %d changes of the stack", goMaxRules, goMaxRuns)
		}
	}
	if missing > c.count/10 {
		return nil, fmt.Errorf("the unwinder knows only %d of %d Go functions", c.count-missing, c.count)
	}
	refined := &stackdeltatypes.IntervalData{}
	put := false
	for _, b := range g.library.Blocks {
		if b.Start >= start && !put {
			refined.Add(g.block)
			put = true
		}
		if b.End <= start || b.Start >= end {
			refined.Add(*b)
		}
	}
	if !put {
		refined.Add(g.block)
	}
	return refined, nil
}

// add adds the rules of one function. It reports whether the library has some.
func (g *goStacks) add(f *goFunction) (known bool, err error) {
	g.rs = g.rs[:0]
	rules := g.rulesAt(f)
	if len(rules) == 0 {
		g.rule(f.start, unknownRule)
		return f.pcsp == nil, nil
	}
	if f.pcsp == nil {
		g.copy(rules)
		return true, nil
	}
	if g.rs, err = f.runs(g.rs); err != nil {
		return false, err
	}
	switch {
	case g.arm:
		g.addArm(f, rules)
	case g.keepsPointer(f):
		g.copy(rules)
	case rules[0].Info == framePointer:
		g.addFramed()
	case rules[0].Info.Flags&support.UnwindFlagCommand != 0:
		g.copy(rules) // stop, signal
	case g.addSwitch(f):
	case !g.framed(f):
		g.copy(rules)
	case f.spWrite && bytes.HasPrefix(f.name, []byte("runtime.")):
		// It goes on on another stack, but keeps the frame pointer.
		g.addFramed()
	default:
		g.addAssembly()
	}
	return true, nil
}

// rule sets the rule from an address on.
func (g *goStacks) rule(addr uint64, info stackdeltatypes.UnwindInfo) {
	offset := uint32(addr - g.block.Start)
	d := g.block.Deltas
	for len(d) > 0 && d[len(d)-1].Offset >= offset {
		d = d[:len(d)-1]
	}
	d.Add(offset, info)
	g.block.Deltas = d
}

// copy adds rules of the library, whose offsets are from the block's start.
func (g *goStacks) copy(rules []stackdeltatypes.StackDelta) {
	for _, r := range rules {
		g.rule(g.block.Start+uint64(r.Offset), r.Info)
	}
}

// rulesAt returns the library's rules for a function, with offsets from the
// start of the block. There are none where the library has left it out.
// The next call overwrites them.
func (g *goStacks) rulesAt(f *goFunction) []stackdeltatypes.StackDelta {
	b := g.library.Find(f.start)
	if b == nil {
		return nil
	}
	rules := g.rules[:0]
	for _, d := range b.Deltas {
		addr := b.Start + uint64(d.Offset)
		if addr >= f.end {
			break
		}
		if addr <= f.start {
			rules, addr = rules[:0], f.start
		}
		rules = append(rules, stackdeltatypes.StackDelta{Offset: uint32(addr - g.block.Start), Info: d.Info})
	}
	g.rules = rules
	return rules
}
