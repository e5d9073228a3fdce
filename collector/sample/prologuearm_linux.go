//go:build linux && (amd64 || arm64)

package sample

import (
	"encoding/binary"

	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// Instructions of arm64, with the bits that belong to their operands masked
// out. x29 is the frame pointer, x30 the link register.
const (
	armOperandsPair = 0xffc07fff // all but the offset of stp and ldp
	armPushPair     = 0xa9807bfd // stp x29, x30, [sp, #-n]!
	armStorePair    = 0xa9007bfd // stp x29, x30, [sp, #n]
	armPopPair      = 0xa8c07bfd // ldp x29, x30, [sp], #n
	armLoadPair     = 0xa9407bfd // ldp x29, x30, [sp, #n]

	armOperandsAdd = 0xffc003ff // all but the number of add and sub
	armAddFrame    = 0x910003fd // add x29, sp, #n; mov x29, sp is the same with 0
	armAddStack    = 0x910003ff // add sp, sp, #n
	armSubStack    = 0xd10003ff // sub sp, sp, #n

	armOperandsPush = 0xffe00fff // all but the offset of str
	armPushLink     = 0xf8000ffe // str x30, [sp, #-n]!

	armRet     = 0xd65f03c0
	armBti     = 0xd503245f // bti c
	armPaciasp = 0xd503233f
	armJump    = 0x14000000 // b
	armJumpOp  = 0xfc000000 // all but the distance of b
)

// armMaxPrologue is how far the instructions of a prologue are apart.
const armMaxPrologue = 6 // instructions

// An armScanner finds functions that store x29 and x30 as a pair and then set
// x29 to where they are.
type armScanner struct{ with, without int }

func (s *armScanner) evidence() (with, without int)       { return s.with, s.without }
func (s *armScanner) body() stackdeltatypes.UnwindInfo    { return stackdeltatypes.UnwindInfoFramePointer }
func (s *armScanner) plt() stackdeltatypes.UnwindInfo     { return stackdeltatypes.UnwindInfoLR }
func (s *armScanner) entered() stackdeltatypes.UnwindInfo { return stackdeltatypes.UnwindInfoLR }

// armFrame is the rule where the pair is at an offset from a register and the
// caller's stack pointer at another one.
func armFrame(register uint8, pair, caller int32) stackdeltatypes.UnwindInfo {
	return stackdeltatypes.UnwindInfo{
		Flags:   support.UnwindFlagFrame,
		BaseReg: register, Param: caller,
		AuxBaseReg: register, AuxParam: pair + 8,
	}
}

// armEntered is the rule while the caller's address is in x30 and the stack
// pointer has moved by size bytes.
func armEntered(size int32) stackdeltatypes.UnwindInfo {
	info := stackdeltatypes.UnwindInfoLR
	info.Param = size
	return info
}

// armPairOffset returns the offset in bytes of stp or ldp.
func armPairOffset(w uint32) int32 { return int32(w<<10) >> 25 * 8 }

// armNumber returns the number of add or sub.
func armNumber(w uint32) int32 { return int32(w >> 10 & 0xfff) }

func (s *armScanner) scan(code []byte, from, to int, addr uint64, rule func(uint64, stackdeltatypes.UnwindInfo)) {
	from += int(-(addr + uint64(from)) & 3)
	word := func(i int) uint32 {
		if i < 0 || i+4 > len(code) {
			return 0
		}
		return binary.LittleEndian.Uint32(code[i:])
	}
	// next returns where an instruction is after the offset i, -1 if not in a
	// prologue's length.
	next := func(i int, mask, want uint32) int {
		for n := 1; n <= armMaxPrologue; n++ {
			if w := word(i + 4*n); w&mask == want {
				return i + 4*n
			} else if w == armRet {
				break
			}
		}
		return -1
	}
	body := s.body()
	for i := from; i < to; i += 4 {
		w := word(i)
		at := addr + uint64(i)
		start := at
		if p := word(i - 4); p == armBti || p == armPaciasp {
			start -= 4
		}
		switch {
		case w&armOperandsPair == armPushPair:
			set := next(i, 0xffffffff, armAddFrame)
			if set < 0 {
				s.without++
				continue
			}
			s.with++
			size := -armPairOffset(w)
			rule(start, armEntered(0))
			rule(at+4, armFrame(support.UnwindRegSp, 0, size))
			body = armFrame(support.UnwindRegFp, 0, size)
			rule(addr+uint64(set)+4, body)
			i = set
		case w&armOperandsAdd == armSubStack:
			store := next(i, armOperandsPair, armStorePair)
			if store < 0 {
				continue
			}
			size, pair := armNumber(w), armPairOffset(word(store))
			set := next(store, 0xffffffff, armAddFrame|uint32(pair)<<10)
			if set < 0 || pair < 0 || pair+16 > size {
				s.without++
				continue
			}
			s.with++
			rule(start, armEntered(0))
			rule(at+4, armEntered(size))
			rule(addr+uint64(store)+4, armFrame(support.UnwindRegSp, pair, size))
			body = armFrame(support.UnwindRegFp, 0, size-pair)
			rule(addr+uint64(set)+4, body)
			i = set
		case w&armOperandsPush == armPushLink:
			s.without++
		case w&armOperandsPair == armPopPair:
			rule(at+4, armEntered(0))
		case w&armOperandsPair == armLoadPair:
			if add := next(i, armOperandsAdd, armAddStack); add > 0 {
				rule(at+4, armEntered(armNumber(word(add))))
				rule(addr+uint64(add)+4, armEntered(0))
				i = add
			}
		case w == armRet || w&armJumpOp == armJump && armPops(word(i-4)):
			rule(at+4, body)
		}
	}
}

// armPops reports whether an instruction is the last of an epilogue before ret.
func armPops(w uint32) bool {
	return w&armOperandsPair == armPopPair || w&armOperandsAdd == armAddStack
}
