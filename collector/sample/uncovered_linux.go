//go:build linux && (amd64 || arm64)

package sample

import (
	"cmp"
	"debug/elf"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"
)

// Bounds of looking at code that no unwind information covers. Files with more
// than maxScanned of it, or for which the time is over, are walked by frame
// pointers without regard to prologues and epilogues.
const (
	maxAddress     = 1 << 47  // what is above is not in user space
	maxUncovered   = 1 << 30  // bytes of a file; with more there are no rules
	maxScanned     = 64 << 20 // bytes of a file that is scanned as a whole
	maxFollowed    = 4 << 20  // bytes of a file of which each instruction is looked at
	maxScanTime    = 5 * time.Second
	sampleParts    = 128     // of a file that is not, scanChunk/16 bytes each
	maxTableRules  = 2 << 20 // of a file; each takes 8 bytes in the kernel
	maxTableSpan   = 4 << 30 // addresses from the first to the last one of a table
	scanChunk      = 1 << 20 // bytes read at once
	scanContext    = 64      // bytes around an address that rules are derived from
	minGap         = stackdeltatypes.MinimumGap + 1
	minPrologues   = 2 // that say that code keeps frame pointers
	prologueFactor = 2 // as many of them as of functions without frame pointers
)

// ofV8 matches files in which the library looks for V8's own functions. It finds
// them as a gap in the table, and unwinds them in another way.
var ofV8 = regexp.MustCompile(`(^|/)((node|nsolid)\d*|libnode\.so[.\d]*)$`)

// refineUncovered adds rules for code that no unwind information covers:
// Chromium, libraries for musl, and others that are built with
// -fno-asynchronous-unwind-tables. If the functions there keep frame pointers,
// the stack is walked by them, except in prologues and epilogues, where the
// caller's address is found relative to the stack pointer. Code that does not
// keep frame pointers stays without rules, apart from the PLT.
func refineUncovered(ref *pfelf.Reference, table *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
	ef, err := ref.GetELF()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref.FileName(), err)
	}
	if ofV8.MatchString(ref.FileName()) {
		return table, nil
	}
	if ef.Machine == elf.EM_AARCH64 && len(table.Blocks) == 0 && strings.Contains(ref.FileName(), "vdso") {
		return table, nil // the library makes that one itself, if it is given none
	}
	for _, p := range ef.Progs {
		if p.Type == elf.PT_LOAD && max(p.Off, p.Vaddr, p.Filesz, p.Memsz) >= maxAddress {
			return nil, fmt.Errorf("segment of %s: offset 0x%x, address 0x%x, 0x%x of 0x%x bytes", ref.FileName(), p.Off, p.Vaddr, p.Filesz, p.Memsz)
		}
	}
	u := &uncovered{file: ef, deadline: time.Now().Add(maxScanTime), room: maxTableRules - int(min(table.NumDeltas, maxTableRules))}
	if u.scanner = scannerFor(ef.Machine); u.scanner == nil {
		return table, nil
	}
	// The library leaves blocks without rules for some of .debug_frame, and does
	// not always sort them.
	covered := slices.DeleteFunc(slices.Clone(table.Blocks), func(b *stackdeltatypes.BasicBlock) bool {
		return len(b.Deltas) == 0 || b.End <= b.Start
	})
	slices.SortStableFunc(covered, byStart)
	u.visit(gaps(codeSections(ef), covered))
	if len(u.blocks) == 0 {
		return table, nil
	}
	all := slices.Concat(covered, u.blocks)
	slices.SortStableFunc(all, byStart)
	if s, e := all[0].Start, all[len(all)-1].End; e < s || e-s > maxTableSpan {
		return nil, fmt.Errorf("code of %s spans 0x%x to 0x%x", ref.FileName(), s, e)
	}
	refined := &stackdeltatypes.IntervalData{Blocks: all, NumDeltas: table.NumDeltas}
	for _, b := range u.blocks {
		refined.NumDeltas += uint32(len(b.Deltas))
	}
	return refined, nil
}

func byStart(a, b *stackdeltatypes.BasicBlock) int { return cmp.Compare(a.Start, b.Start) }

// A scanner derives rules from machine code.
type scanner interface {
	// scan looks at the code from the offset from on up to the offset to, and
	// passes on rules by rising addresses. code[0] is at addr; what is before
	// from and after to is there for context, as far as the gap reaches.
	scan(code []byte, from, to int, addr uint64, rule func(addr uint64, info stackdeltatypes.UnwindInfo))
	// evidence returns how many functions were seen that keep a frame pointer,
	// and how many that do not.
	evidence() (with, without int)
	// body is the rule inside of functions that keep a frame pointer, plt that
	// of the PLT, entered that at the first instruction of a function.
	body() stackdeltatypes.UnwindInfo
	plt() stackdeltatypes.UnwindInfo
	entered() stackdeltatypes.UnwindInfo
}

// scannerFor returns a scanner for an architecture, nil for those of which the
// code is not known.
func scannerFor(m elf.Machine) scanner {
	switch m {
	case elf.EM_X86_64:
		return &x86Scanner{}
	case elf.EM_AARCH64:
		return &armScanner{}
	}
	return nil
}

// keeps reports whether code that was scanned keeps frame pointers.
func keeps(s scanner) bool {
	with, without := s.evidence()
	return with >= minPrologues && with >= prologueFactor*without
}

// uncovered makes rules for the gaps of a file.
type uncovered struct {
	scanner
	file     *pfelf.File
	deadline time.Time
	room     int // rules that may still be made

	blocks []*stackdeltatypes.BasicBlock
}

// visit makes the rules of gaps.
func (u *uncovered) visit(gaps []codeSection) {
	var byPointer, others []*stackdeltatypes.BasicBlock
	var total uint64
	for _, g := range gaps {
		total += g.end - g.start
	}
	if total > maxUncovered {
		return
	}
	every := uint64(scanChunk)
	if total > maxScanned {
		u.room = 0
		every = total / sampleParts
	}
	for _, g := range gaps {
		b := &stackdeltatypes.BasicBlock{Start: g.start, End: g.end}
		switch {
		case strings.HasPrefix(g.name, ".plt.") || g.name == ".iplt":
			b.Deltas.Add(0, u.entered())
			others = append(others, b)
		case g.name == ".plt":
			b.Deltas.Add(0, u.plt())
			others = append(others, b)
		default:
			if u.gap(b, every) {
				byPointer = append(byPointer, b)
			}
		}
	}
	switch follower, ok := u.scanner.(follower); {
	case !keeps(u.scanner):
		byPointer = u.entry(gaps)
	case ok && total <= maxFollowed:
		for _, b := range byPointer {
			u.follow(b, follower)
		}
	}
	u.blocks = append(byPointer, others...)
}

// A follower is a scanner that can look at each instruction. code[0] is at addr.
type follower interface {
	flow(code []byte, addr uint64, rule func(addr uint64, info stackdeltatypes.UnwindInfo))
}

// follow gives a block the rules that following its instructions gives.
func (u *uncovered) follow(b *stackdeltatypes.BasicBlock, f follower) {
	code := make([]byte, b.End-b.Start) // no more than maxFollowed, and the file has them
	if _, err := u.file.ReadAt(code, int64(b.Start)); err != nil || time.Now().After(u.deadline) {
		return
	}
	u.room += len(b.Deltas)
	b.Deltas = nil
	b.Deltas.Add(0, u.body())
	f.flow(code, b.Start, func(addr uint64, info stackdeltatypes.UnwindInfo) { u.add(b, addr, info) })
	u.stop(b)
}

// entry returns a block that ends stacks at the program's entry point, if that
// is in a gap. The loader's own is.
func (u *uncovered) entry(gaps []codeSection) []*stackdeltatypes.BasicBlock {
	for _, g := range gaps {
		if e := u.file.Entry; e >= g.start && e < g.end && u.reads(e) {
			b := &stackdeltatypes.BasicBlock{Start: e, End: min(e+maxEntryCode, g.end)}
			b.Deltas.Add(0, stackdeltatypes.UnwindInfoStop)
			return []*stackdeltatypes.BasicBlock{b}
		}
	}
	return nil
}

// gap scans the code of a block, scanChunk bytes or less in every so many bytes,
// and gives the block its rules. It shortens the block to what the file holds,
// and reports whether that is anything.
func (u *uncovered) gap(b *stackdeltatypes.BasicBlock, every uint64) bool {
	b.Deltas.Add(0, u.body())
	if !u.reads(b.End - 1) {
		// The headers say more than there is. Then all is read up to there.
		every = scanChunk
	}
	rule := func(addr uint64, info stackdeltatypes.UnwindInfo) { u.add(b, addr, info) }
	part := uint64(scanChunk)
	if every > part {
		part /= 16
	}
	buf := make([]byte, min(b.End-b.Start, part)+2*scanContext)
	for at := b.Start; at < b.End; at += every {
		if time.Now().After(u.deadline) {
			rule(at, u.body())
			break
		}
		to := min(at+part, b.End)
		first, last := max(b.Start, at-min(at, scanContext)), min(b.End, to+scanContext)
		code := buf[:last-first]
		if n, err := u.file.ReadAt(code, int64(first)); err != nil {
			// The file ends before its headers say, or has no such segment.
			code = code[:max(n, 0)]
			b.End = first + uint64(len(code))
			if to = min(to, b.End); to <= at {
				break
			}
		}
		u.scan(code, int(at-first), int(to-first), first, rule)
	}
	if b.End <= b.Start || !u.reads(b.End-1) {
		return false
	}
	u.stop(b)
	return true
}

// reads reports whether the file has a byte at an address.
func (u *uncovered) reads(addr uint64) bool {
	var b [1]byte
	_, err := u.file.ReadAt(b[:], int64(addr))
	return err == nil
}

// add adds a rule to a block, whose last one may be for the same address.
func (u *uncovered) add(b *stackdeltatypes.BasicBlock, addr uint64, info stackdeltatypes.UnwindInfo) {
	if addr < b.Start || addr >= b.End || u.room <= 0 && !byFramePointer(info) {
		return
	}
	n, offset := len(b.Deltas), uint32(addr-b.Start)
	switch last := b.Deltas[n-1].Offset; {
	case last > offset:
		return
	case last == offset && n == 1:
		b.Deltas[0].Info = info
		return
	case last == offset:
		b.Deltas = b.Deltas[:n-1]
		u.room++
	}
	n = len(b.Deltas)
	b.Deltas.Add(offset, info)
	u.room -= len(b.Deltas) - n
}

// byFramePointer reports whether a rule finds the caller by frame pointer.
func byFramePointer(info stackdeltatypes.UnwindInfo) bool {
	return info == stackdeltatypes.UnwindInfoFramePointer || info.BaseReg == support.UnwindRegFp
}

// maxEntryCode is how long the code at a program's entry is taken to be, which
// nobody called.
const maxEntryCode = 64 // bytes

// stop ends stacks at the program's entry point, if that is in the block: there
// the frame pointer is zero.
func (u *uncovered) stop(b *stackdeltatypes.BasicBlock) {
	entry := u.file.Entry
	if entry < b.Start || entry >= b.End {
		return
	}
	start := uint32(entry - b.Start)
	end := uint32(min(entry+maxEntryCode, b.End) - b.Start)
	var out stackdeltatypes.StackDeltaArray
	after := u.body()
	for i, d := range b.Deltas {
		if d.Offset < start {
			out = append(out, d)
			continue
		}
		if d.Offset < end && d.Offset > start && d.Info == u.entered() {
			end = d.Offset // the next function
		}
		if d.Offset >= end {
			out.Add(start, stackdeltatypes.UnwindInfoStop)
			if d.Offset > end {
				out = append(out, stackdeltatypes.StackDelta{Offset: end, Info: after})
			}
			b.Deltas = append(out, b.Deltas[i:]...)
			return
		}
		after = d.Info
	}
	out.Add(start, stackdeltatypes.UnwindInfoStop)
	if uint64(end) < b.End-b.Start {
		out.Add(end, after)
	}
	b.Deltas = out
}

// command is a rule without parameters.
func command(param int32) stackdeltatypes.UnwindInfo {
	return stackdeltatypes.UnwindInfo{Flags: support.UnwindFlagCommand, Param: param}
}
