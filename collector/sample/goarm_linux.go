//go:build linux && (amd64 || arm64)

package sample

import (
	"encoding/binary"

	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// Since Go 1.21 a function with a frame begins and returns like this, on arm64,
// with what it uses of the stack before each instruction:
//
//	0    MOVD.W R30, -n(RSP)
//	n    MOVD   R29, -8(RSP)
//	n    SUB    $8, RSP, R29
//	n    ...
//	n    MOVD   -8(RSP), R29
//	n    MOVD.P n(RSP), R30
//	0    RET
//
// and if the frame is larger than 240 bytes:
//
//	0    SUB    $n, RSP, R20
//	0    STP    (R29, R30), -8(R20)
//	0    MOVD   R20, RSP
//	n    SUB    $8, RSP, R29
//	n    ...
//	n    LDP    -8(RSP), (R29, R30)
//	n    ADD    $n, RSP
//	0    RET
//
// So the caller's address is at the stack pointer and the caller's frame pointer
// 8 bytes below; R29 points to this pair. Functions that call no others return
// with ADD $(n-8), RSP, R29, and do not load R30, as it is unchanged. Before Go
// 1.26 small frames end like large ones. Assembly has the same frames, unless it
// is marked as NOFRAME.
const (
	armMoveStack = 0x9100029f // mov sp, x20
	armSetFrame  = 0xd10023fd // sub x29, sp, #8
	armLoadFrame = 0xf85f83fd // ldur x29, [sp, #-8]
	armLoadBoth  = 0xa97ffbfd // ldp x29, x30, [sp, #-8]

	armOperandsSum  = 0xff8003ff // all but the number, and its shift, of add
	armOperandsSumX = 0xffe0ffff // all but the register that is added to x29 or sp
	armAddFrameX    = 0x8b2063fd // add x29, sp, xM

	armOperandsPop = 0xffe00fff // all but the offset of ldr
	armPopLink     = 0xf84007fe // ldr x30, [sp], #n

	armCall        = 0x94000000 // bl; armJumpOp masks its distance
	armOperandsReg = 0xfffffc1f // all but the register of br and blr
	armCallReg     = 0xd63f0000 // blr
	armJumpReg     = 0xd61f0000 // br
)

// A call of duffzero or duffcopy, which clear and copy memory, until Go 1.25:
//
//	ADR  ret, R27
//	STP  (R29, R27), -24(RSP)
//	SUB  $24, RSP, R29
//	CALL duffzero+x
//	ret:
//	SUB  $8, RSP, R29
//
// While it lasts the frame pointer points to a frame that is made up for the
// callee, and of which the caller seems to be called by itself.
const (
	armStoreDuff = 0xa93eeffd // stp x29, x27, [sp, #-24]
	armDuffFrame = 0xd10063fd // sub x29, sp, #24
)

const (
	// goArmSetUp is how many instructions after the stack pointer moved set the
	// frame pointer.
	goArmSetUp = 3
	// goArmReturn is how many instructions give up a frame.
	goArmReturn = 8
)

// goArmFrame is the rule where the frame pointer is set, in a function with a
// frame of that many bytes. Functions that go on on another stack, as systemstack
// does, keep the frame pointer.
func goArmFrame(size int32) stackdeltatypes.UnwindInfo {
	return armFrame(support.UnwindRegFp, 0, size+8)
}

// goArmSaved is the rule where the caller's address and frame pointer are on the
// stack and the stack pointer has not moved since.
func goArmSaved(size int32) stackdeltatypes.UnwindInfo {
	return armFrame(support.UnwindRegSp, -8, size)
}

// A goArmFunction is a function of a program for arm64 whose rules are made.
type goArmFunction struct {
	*goStacks
	start uint64
	code  []byte
}

// word returns the instruction at an address; 0 if the function has none there.
func (f *goArmFunction) word(addr uint64) uint32 {
	if addr < f.start || addr-f.start+4 > uint64(len(f.code)) {
		return 0
	}
	return binary.LittleEndian.Uint32(f.code[addr-f.start:])
}

// addArm adds the rules of a function of a program for arm64, of which the
// library has the rules given and g.rs are the runs.
func (g *goStacks) addArm(fn *goFunction, rules []stackdeltatypes.StackDelta) {
	f := goArmFunction{goStacks: g, start: fn.start, code: g.code.code(fn.start, fn.end)}
	first := -1
	for i, r := range g.rs {
		if r.used != 0 {
			first = i
			break
		}
	}
	switch {
	case rules[0].Info != framePointer:
		g.copy(rules) // stop, signal
	case first < 0:
		f.addFrameless(fn)
	case first == 0:
		g.copy(rules)
	case f.frameSet(g.rs[first]) != 0:
		f.addFramed(fn)
	case f.pairStored(g.rs[first]) != 0:
		f.addPair(first)
	default:
		g.copy(rules)
	}
}

// addFrameless adds the rules of a function that does not use the stack. The
// caller's address is in the link register until it calls another function. How
// assembly that does so keeps the address cannot be known; the library's rule
// leaves out the caller there. Where it returns, the address is back.
//
// Two functions go on on another stack: see goSwitches. gogo does so after a
// call. morestack is called while the caller's address is in R3, which the
// unwinder does not read, and so nothing is known beyond who called it.
func (f *goArmFunction) addFrameless(fn *goFunction) {
	if fn.is("runtime.morestack") || fn.is("runtime.morestack_noctxt") {
		f.rule(fn.start, stopRule)
		return
	}
	called := framePointer
	if fn.is("gogo") {
		called = stopRule
	}
	f.rule(fn.start, armEntered(0))
	first := true
	for _, r := range f.rs {
		for at := r.start; at < r.end; at += 4 {
			switch w := f.word(at); {
			case w&armJumpOp == armCall, w&armOperandsReg == armCallReg:
				if first {
					f.rule(at, called)
					first = false
				}
			case w == armRet && !first:
				f.rule(at, armEntered(0))
				if at+4 < r.end {
					f.rule(at+4, called)
				}
			}
		}
	}
}

// frameSet returns the address after the instruction that sets the frame
// pointer, if a run begins as one does whose function has just made its frame;
// otherwise 0.
func (f *goArmFunction) frameSet(r stackRun) uint64 {
	before := f.word(r.start - 4)
	if r.used < 8 || before&armOperandsPush != armPushLink && before != armMoveStack && before&armOperandsAdd != armSubStack {
		return 0
	}
	for n := range uint64(goArmSetUp) {
		if at := r.start + 4*n; at < r.end && f.word(at) == armSetFrame {
			return at + 4
		}
	}
	return 0
}

// addFramed adds the rules of a function with a frame.
func (f *goArmFunction) addFramed(fn *goFunction) {
	size := int32(0) // of the frame, once it is made
	for i, r := range f.rs {
		if r.used == 0 {
			f.rule(r.start, armEntered(0))
			continue
		}
		body := r.start
		if i > 0 && f.rs[i-1].used == 0 {
			if set := f.frameSet(r); set != 0 {
				size = r.used
				f.rule(r.start, armEntered(size))
				body = set
			}
		}
		if body < r.end {
			f.rule(body, goArmFrame(size))
			if f.duffs {
				f.addDuffs(body, r.end, size)
			}
			if fn.spWrite {
				f.addTailCalls(body, r.end, size)
			}
		}
		if i+1 < len(f.rs) && f.rs[i+1].used == 0 && r.used == size {
			f.addReturn(body, r.end, size)
		}
	}
}

// addDuffs adds the rules of the calls of duffzero and duffcopy.
func (f *goArmFunction) addDuffs(start, end uint64, size int32) {
	for at := start; at+16 <= end; at += 4 {
		if f.word(at) == armStoreDuff && f.word(at+4) == armDuffFrame && f.word(at+12) == armSetFrame {
			f.rule(at+8, goArmSaved(size))
			if at += 12; at+4 < end {
				f.rule(at+4, goArmFrame(size))
			}
		}
	}
}

// addTailCalls adds the rules of the places where assembly gives up its frame
// and jumps to another function, which Go's table does not tell. systemstack has
// one:
//
//	MOVD.P n(RSP), R30
//	SUB    $8, RSP, R29
//	...
//	B      (R3)
func (f *goArmFunction) addTailCalls(start, end uint64, size int32) {
	for at := start; at+8 <= end; at += 4 {
		if f.word(at)&armOperandsPop != armPopLink || f.word(at+4) != armSetFrame {
			continue
		}
		if at += 8; at < end {
			f.rule(at, armEntered(0))
		}
		for at < end && f.word(at)&armOperandsReg != armJumpReg {
			at += 4
		}
		if at+4 < end {
			f.rule(at+4, goArmFrame(size))
		}
	}
}

// addReturn adds the rules of the end of a run after which the frame is given up.
func (f *goArmFunction) addReturn(start, end uint64, size int32) {
	for n := uint64(1); n <= goArmReturn && end >= start+4*n; n++ {
		at := end - 4*n
		switch w := f.word(at); {
		case w == armLoadFrame, w == armLoadBoth,
			w&armOperandsSum == armAddFrame, w&armOperandsSumX == armAddFrameX:
		default:
			continue
		}
		f.rule(at, goArmSaved(size))
		// Two instructions may move the stack pointer, each by a part of the frame.
		moved := int32(0)
		for ; at+4 < end; at += 4 {
			w := f.word(at)
			if w&armOperandsSum != armAddStack {
				continue
			}
			if moved += armNumber(w) << (12 * (w >> 22 & 1)); moved > size {
				return
			}
			f.rule(at+4, armEntered(size-moved))
		}
		return
	}
}

// pairStored returns the address after the instruction that stores the frame
// pointer and the link register, if a run begins with the stack pointer just
// moved and has one; otherwise 0. Assembly that C calls does so.
func (f *goArmFunction) pairStored(r stackRun) uint64 {
	if r.used < 16 || f.word(r.start-4)&armOperandsAdd != armSubStack {
		return 0
	}
	for at := r.start; at < r.end; at += 4 {
		w := f.word(at)
		if w&armJumpOp == armCall || w&armOperandsReg == armCallReg {
			break
		}
		if offset := armPairOffset(w); w&armOperandsPair == armStorePair && offset >= 0 && offset+16 <= r.used {
			return at + 4
		}
	}
	return 0
}

// addPair adds the rules of a function whose run number first stores the frame
// pointer and the link register.
func (f *goArmFunction) addPair(first int) {
	for i, r := range f.rs {
		switch {
		case r.used == 0:
			f.rule(r.start, armEntered(0))
		case i == first:
			f.rule(r.start, armEntered(r.used))
			if stored := f.pairStored(r); stored < r.end {
				f.rule(stored, armFrame(support.UnwindRegSp, armPairOffset(f.word(stored-4)), r.used))
			}
		default:
			f.rule(r.start, framePointer)
		}
	}
}
