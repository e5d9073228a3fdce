//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"
	"encoding/binary"
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

// addSPSize returns the length of the instruction ADDQ $n, SP; for 128 it is
// SUBQ $-128, SP.
func addSPSize(n int32) uint64 {
	if n <= 128 {
		return 4
	}
	return 7
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

// findStyle finds out how the program's functions begin, and whether it calls
// duffzero or duffcopy.
func (g *goStacks) findStyle() error {
	known := false
	for i := range g.code.count {
		f, err := g.code.function(i)
		if err != nil {
			return err
		}
		g.duffs = g.duffs || bytes.HasPrefix(f.name, []byte("runtime.duff"))
		if known {
			continue
		}
		if rules := g.rulesAt(&f); len(rules) == 0 || rules[0].Info != framePointer {
			continue
		}
		if g.rs, err = f.runs(g.rs[:0]); err != nil {
			return err
		}
		if len(g.rs) < 3 || g.rs[0].used != 0 || g.rs[1].used < 8 {
			continue
		}
		g.old = g.rs[1].used > 8
		known = g.old || g.rs[2].used > 8
	}
	return nil
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
		if g.old && i+1 < len(g.rs) && g.rs[i+1].used == 0 && r.end-body > addSPSize(r.used) {
			g.rule(r.end-addSPSize(r.used), noFrame(r.used))
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

// addMorestack adds the rules of the function that a goroutine calls when its
// stack is too small. It goes on on the scheduler's stack, from where no way
// leads back.
func (g *goStacks) addMorestack(f *goFunction) {
	g.rule(f.start, noFrame(0))
	// MOVQ x(BX), SP
	code := g.code.code(f.start, f.end)
	if i := bytes.Index(code, []byte{0x48, 0x8b, 0x63}); i >= 0 {
		g.rule(f.start+uint64(i)+4, stopRule)
	}
}
