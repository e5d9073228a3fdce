//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Since Go 1.21 a function with a frame begins and returns like this, on
// x86-64, with what it uses of the stack before each instruction:
//
//	0    PUSHQ BP
//	8    MOVQ  SP, BP
//	8    SUBQ  $n, SP      (not if n is 0)
//	8+n  ...
//	8+n  ADDQ  $n, SP
//	8    POPQ  BP
//	0    RET
//
// and before that like this:
//
//	0    SUBQ  $n, SP
//	n    MOVQ  BP, n-8(SP)
//	n    LEAQ  n-8(SP), BP
//	n    ...
//	n    MOVQ  n-8(SP), BP
//	n    ADDQ  $n, SP
//	0    RET
var (
	pushBP   = []byte{0x55}
	moveSPBP = []byte{0x48, 0x89, 0xe5}
)

// storeBP returns the instruction MOVQ BP, offset(SP). LEAQ offset(SP), BP is
// as long.
func storeBP(offset int32) []byte {
	switch {
	case offset == 0:
		return []byte{0x48, 0x89, 0x2c, 0x24}
	case offset < 128:
		return []byte{0x48, 0x89, 0x6c, 0x24, byte(offset)}
	}
	return binary.LittleEndian.AppendUint32([]byte{0x48, 0x89, 0xac, 0x24}, uint32(offset))
}

// addSP returns the instruction ADDQ $n, SP; for 128 it is SUBQ $-128, SP.
func addSP(n int32) []byte {
	switch {
	case n < 128:
		return []byte{0x48, 0x83, 0xc4, byte(n)}
	case n == 128:
		return []byte{0x48, 0x83, 0xec, 0x80}
	}
	return binary.LittleEndian.AppendUint32([]byte{0x48, 0x81, 0xc4}, uint32(n))
}

// A call of duffzero or duffcopy, which clear and copy memory, until Go 1.25:
//
//	MOVQ BP, -16(SP)
//	LEAQ -16(SP), BP
//	CALL duffzero+x
//	MOVQ (BP), BP
//
// While it lasts the frame pointer points to a frame that is made up for the
// callee, and of which the caller seems to be called by itself.
var (
	duffStart = []byte{0x48, 0x89, 0x6c, 0x24, 0xf0, 0x48, 0x8d, 0x6c, 0x24, 0xf0, 0xe8}
	duffEnd   = []byte{0x48, 0x8b, 0x6d, 0x00}
)

const (
	duffMove = 10 // bytes until the frame pointer has moved
	duffCall = 15 // bytes until the call has returned
)

// goMaxTried bounds the functions whose frames are looked at to find out how all
// of them begin. One of the first tells.
const goMaxTried = 4096

// findStyle finds out how the program's functions begin, and whether it calls
// duffzero or duffcopy. It reports whether the library walks functions by frame
// pointers.
func (g *goStacks) findStyle() (byPointer bool, err error) {
	known, tried := false, 0
	for i := range g.code.count {
		f, err := g.code.function(i)
		if err != nil {
			return false, err
		}
		g.duffs = g.duffs || bytes.HasPrefix(f.name, []byte("runtime.duff"))
		if known || tried == goMaxTried {
			continue
		}
		if rules := g.rulesAt(&f); len(rules) == 0 || rules[0].Info != framePointer {
			continue
		}
		byPointer = true
		tried++
		if g.arm {
			known = true
			continue
		}
		if g.rs, err = f.runs(g.rs[:0]); err != nil {
			return false, err
		}
		if len(g.rs) < 3 || g.rs[0].used != 0 || g.rs[1].used < 8 {
			continue
		}
		g.old = g.rs[1].used > 8
		known = g.old || g.rs[2].used > 8
	}
	return byPointer, nil
}

// addFramed adds the rules of a function that is walked by frame pointers.
func (g *goStacks) addFramed() {
	entered := false
	for i, r := range g.rs {
		if r.used == 0 {
			g.rule(r.start, noFrame(0))
			continue
		}
		body := r.start
		if !entered {
			entered = true
			g.rule(r.start, noFrame(r.used))
			if g.old {
				body += 2 * uint64(len(storeBP(r.used-8)))
			} else {
				body += uint64(len(moveSPBP))
			}
		}
		if body = min(body, r.end); body < r.end {
			g.addBody(body, r.end, r.used)
		}
		if g.old && i+1 < len(g.rs) && g.rs[i+1].used == 0 && bytes.HasSuffix(g.code.code(body, r.end), addSP(r.used)) {
			g.rule(r.end-uint64(len(addSP(r.used))), noFrame(r.used))
		}
	}
}

// addBody adds the rules of a range in which the frame pointer is set.
func (g *goStacks) addBody(start, end uint64, used int32) {
	g.rule(start, framePointer)
	if !g.duffs {
		return
	}
	code := g.code.code(start, end)
	for at := 0; ; {
		i := bytes.Index(code[at:], duffStart)
		if i < 0 {
			return
		}
		at += i
		if bytes.HasPrefix(code[min(at+duffCall, len(code)):], duffEnd) {
			g.rule(start+uint64(at)+duffMove, saved(used))
			at += duffCall + len(duffEnd)
			if at < len(code) {
				g.rule(start+uint64(at), framePointer)
			}
		} else {
			at += len(duffStart)
		}
	}
}

// framed reports whether a function saves the frame pointer where one that the
// compiler made does. Only the code tells, since assembly may use the stack in
// any way.
func (g *goStacks) framed(f *goFunction) bool {
	for _, r := range g.rs {
		if r.used == 0 {
			continue
		}
		if r.used < 8 || r.start == f.start {
			return false
		}
		if g.old {
			store := storeBP(r.used - 8)
			return bytes.HasPrefix(g.code.code(r.start, f.end), store)
		}
		return bytes.HasPrefix(g.code.code(r.start-1, f.end), append(pushBP, moveSPBP...))
	}
	return false
}

// addAssembly adds the rules of a function that saves the frame pointer and may
// then use its register for something else.
func (g *goStacks) addAssembly() {
	entered := false
	for _, r := range g.rs {
		switch {
		case r.used == 0:
			g.rule(r.start, noFrame(0))
		case g.old && !entered:
			g.rule(r.start, noFrame(r.used))
			g.rule(min(r.end, r.start+uint64(len(storeBP(r.used-8)))), saved(r.used))
			entered = true
		default:
			g.rule(r.start, saved(r.used))
		}
	}
}

// goFramed are the assembly functions that go on on another stack and keep the
// frame pointer, if they have no frame of their own: before Go 1.21. The library
// walks them by frame pointers, and so must we, although their caller is missing
// then.
var goFramed = []string{"runtime.systemstack", "runtime.asmcgocall", "runtime.nanotime1", "runtime.walltime", "time.now"}

// keepsPointer reports whether a function is in goFramed and has no frame.
func (g *goStacks) keepsPointer(f *goFunction) bool {
	for _, r := range g.rs {
		if r.used != 0 {
			return false
		}
	}
	return slices.ContainsFunc(goFramed, f.is)
}

// goSwitches are the functions without a frame that go on on another stack, with
// the instruction that takes them there: morestack, which a goroutine calls when
// its stack is too small or it must let others run, goes to the scheduler's
// stack, and gogo from there to a goroutine's. No way leads back.
var goSwitches = []struct {
	name string
	code []byte
}{
	{"runtime.morestack", []byte{0x48, 0x8b, 0x63, 0x38}}, // MOVQ 56(BX), SP
	{"gogo", []byte{0x48, 0x8b, 0x23}},                    // MOVQ (BX), SP
}

// addSwitch adds the rules of a function that is in goSwitches, and reports
// whether it is.
func (g *goStacks) addSwitch(f *goFunction) bool {
	for _, s := range goSwitches {
		if !f.is(s.name) {
			continue
		}
		i := bytes.Index(g.code.code(f.start, f.end), s.code)
		if i < 0 {
			return false
		}
		g.rule(f.start, noFrame(0))
		g.rule(f.start+uint64(i+len(s.code)), stopRule)
		return true
	}
	return false
}
