//go:build linux && (amd64 || arm64)

package sample

import (
	"bytes"

	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// Rules for x86-64. In the first instruction the caller's address is at the
// stack pointer, after push rbp it is one word above.
var (
	x86Entered = stackdeltatypes.UnwindInfo{BaseReg: support.UnwindRegSp, Param: 8}
	x86Pushed  = stackdeltatypes.UnwindInfo{BaseReg: support.UnwindRegSp, Param: 16}
)

// Bytes of x86-64 instructions.
const (
	x86PushRBP  = 0x55
	x86PopRBP   = 0x5d
	x86Leave    = 0xc9
	x86Ret      = 0xc3
	x86Prefix41 = 0x41 // selects r8 to r15
)

var (
	x86Endbr64  = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	x86Searches = [...][]byte{
		{0x48, 0x89, 0xe5}, // mov rbp, rsp
		{0x48, 0x8b, 0xec}, // the same in its other encoding
		{x86Ret},
		{x86PopRBP, 0xe9}, // pop rbp and a tail call, with a displacement of 4 bytes
	}
)

// x86MaxPrologue is how far push rbp may be from mov rbp, rsp: compilers put
// other instructions between them.
const x86MaxPrologue = 32 // bytes

// An x86Scanner finds functions that begin with push rbp; mov rbp, rsp, and end
// with pop rbp or leave before ret.
type x86Scanner struct{ with, without int }

func (s *x86Scanner) evidence() (with, without int)       { return s.with, s.without }
func (s *x86Scanner) body() stackdeltatypes.UnwindInfo    { return stackdeltatypes.UnwindInfoFramePointer }
func (s *x86Scanner) plt() stackdeltatypes.UnwindInfo     { return command(support.UnwindCommandPLT) }
func (s *x86Scanner) entered() stackdeltatypes.UnwindInfo { return x86Entered }

func (s *x86Scanner) scan(code []byte, from, to int, addr uint64, rule func(uint64, stackdeltatypes.UnwindInfo)) {
	// Searches for a few bytes run side by side, as they are much faster than a
	// loop over all of them.
	var searches [len(x86Searches)]search
	for i, what := range x86Searches {
		searches[i] = search{code: code, what: what, end: to}
		searches[i].from(from)
	}
	for {
		first := &searches[0]
		for i := range searches {
			if searches[i].at < first.at {
				first = &searches[i]
			}
		}
		i := first.at
		switch {
		case i == to:
			return
		case first.what[0] == 0x48:
			s.prologue(code, i, addr, rule)
		case len(first.what) == 1:
			s.ret(code, i, addr, rule)
		case i == 0 || code[i-1] != x86Prefix41:
			rule(addr+uint64(i)+1, x86Entered)
			if !x86FunctionAt(code, i+6, addr) {
				rule(addr+uint64(i)+6, stackdeltatypes.UnwindInfoFramePointer)
			}
		}
		first.from(i + 1)
	}
}

// A search finds the places of some bytes one after the other; end stands for
// no more.
type search struct {
	code []byte
	what []byte
	end  int
	at   int
}

func (s *search) from(i int) {
	s.at = s.end
	last := min(s.end+len(s.what)-1, len(s.code))
	if i < last {
		if n := bytes.Index(s.code[i:last], s.what); n >= 0 {
			s.at = i + n
		}
	}
}

// prologue makes the rules of a function whose mov rbp, rsp is at the offset mov.
func (s *x86Scanner) prologue(code []byte, mov int, addr uint64, rule func(uint64, stackdeltatypes.UnwindInfo)) {
	push := x86Push(code, mov, addr)
	if push < 0 {
		return
	}
	s.with++
	start := push
	if start >= 4 && bytes.Equal(code[start-4:start], x86Endbr64) {
		start -= 4
	}
	rule(addr+uint64(start), x86Entered)
	rule(addr+uint64(push)+1, x86Pushed)
	rule(addr+uint64(mov)+3, stackdeltatypes.UnwindInfoFramePointer)
}

// ret makes the rules of the end of a function whose ret is at the offset i.
func (s *x86Scanner) ret(code []byte, i int, addr uint64, rule func(uint64, stackdeltatypes.UnwindInfo)) {
	if i >= 7 && x86OtherEpilogue(code[i-7:i]) {
		s.without++
		return
	}
	if i == 0 {
		return
	}
	if last := code[i-1]; last != x86PopRBP && last != x86Leave || i >= 2 && code[i-2] == x86Prefix41 {
		return
	}
	rule(addr+uint64(i), x86Entered)
	if !x86FunctionAt(code, i+1, addr) {
		rule(addr+uint64(i)+1, stackdeltatypes.UnwindInfoFramePointer)
	}
}

// x86Push returns where push rbp is that belongs to mov rbp, rsp at the offset
// mov, -1 if there is none.
func x86Push(code []byte, mov int, addr uint64) int {
	if mov > 0 && code[mov-1] == x86PushRBP {
		return mov - 1
	}
	for i := mov - 2; i >= max(0, mov-x86MaxPrologue); i-- {
		if code[i] != x86PushRBP {
			continue
		}
		start := i
		if start >= 4 && bytes.Equal(code[start-4:start], x86Endbr64) {
			start -= 4
		}
		// Other code may hold such a byte; functions are aligned or follow ret.
		if (addr+uint64(start))%16 == 0 || start > 0 && code[start-1] == x86Ret {
			return i
		}
	}
	return -1
}

// x86FunctionAt reports whether at the offset i padding begins, or nothing is,
// before a function that keeps a frame pointer.
func x86FunctionAt(code []byte, i int, addr uint64) bool {
	begins := func(i int) bool {
		if i+4 <= len(code) && bytes.Equal(code[i:i+4], x86Endbr64) {
			i += 4
		}
		return i+4 <= len(code) && code[i] == x86PushRBP && code[i+1] == 0x48 &&
			(code[i+2] == 0x89 && code[i+3] == 0xe5 || code[i+2] == 0x8b && code[i+3] == 0xec)
	}
	aligned := i + int(-(addr+uint64(i))&15)
	return begins(i) || begins(aligned)
}

// x86OtherEpilogue reports whether the seven bytes before ret are the end of a
// function that does not restore rbp last: pop of another register, or add to
// rsp.
func x86OtherEpilogue(b []byte) bool {
	last := b[6]
	if last >= 0x58 && last <= 0x5f && (last != x86PopRBP || b[5] == x86Prefix41) {
		return true
	}
	return b[3] == 0x48 && b[4] == 0x83 && b[5] == 0xc4 || b[0] == 0x48 && b[1] == 0x81 && b[2] == 0xc4
}
