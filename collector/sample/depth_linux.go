//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"go.opentelemetry.io/ebpf-profiler/support"
	"go.opentelemetry.io/ebpf-profiler/tracer"
)

// A frameLoop is a program of the unwinder that unwinds some frames and then calls
// itself or another one. The kernel allows 33 such calls for a stack, of which the
// unwinder makes 29, so what it does in one call bounds how deep stacks may be.
type frameLoop struct {
	program string // in the unwinder's file
	slot    uint32 // in its table of programs
	frames  int32  // that it unwinds in one call
	more    int32  // that it unwinds once it is deepened
	slow    bool   // the kernel takes long to verify it then
}

// The bounds leave room in the kernel's limit of 1,000,000 instructions that its verifier
// goes through: 45,000 for each native frame, and 2,000 for each of the JVM's.
var frameLoops = []frameLoop{
	{program: "perf_unwind_native", slot: support.ProgUnwindNative, frames: 5, more: 15, slow: true},
	{program: "perf_unwind_hotspot", slot: support.ProgUnwindHotspot, frames: 4, more: 16},
}

// programTable is the unwinder's table of programs.
const programTable = "perf_progs"

// deepen replaces the unwinder's programs by the same ones with a larger bound of their
// loops. An error says why some of them are the library's own still. It leaves to later,
// which must be called, what the kernel verifies for a second: until then native stacks
// are cut sooner.
func deepen(ctx context.Context, t *tracer.Tracer) (later func() error, err error) {
	d := &deepener{}
	err = enable(ctx, t, d)
	return func() error {
		var failed []error
		for _, load := range d.later {
			failed = append(failed, load())
		}
		return errors.Join(failed...)
	}, err
}

// A deepener loads the unwinder's programs once more.
type deepener struct{ later []func() error }

// Load is called by the unwinder.
func (d *deepener) Load(_ context.Context, _ tracer.ProbeRegistrar, pc *tracer.ProbeContext) (link.Link, error) {
	table, err := ownMap(programTable)
	if err != nil {
		return nil, err
	}
	defer table.Close()
	var failed []error
	for _, l := range frameLoops {
		load, err := l.prepare(pc, table)
		switch {
		case err != nil:
		case l.slow:
			d.later = append(d.later, load)
		default:
			err = load()
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// prepare returns what puts the deepened program in the place of the unwinder's.
func (l frameLoop) prepare(pc *tracer.ProbeContext, table *ebpf.Map) (load func() error, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", l.program, err)
		}
	}()
	spec, err := pc.CollectionSpecWith(nil, []string{l.program}, nil)
	if err != nil {
		return nil, err
	}
	if err := l.deepen(spec.Programs[l.program].Instructions); err != nil {
		return nil, err
	}
	if err := pc.RewriteMaps(spec, nil); err != nil {
		return nil, err
	}
	own, err := table.Clone()
	if err != nil {
		return nil, err
	}
	return func() error {
		defer own.Close()
		// A verifier that refuses the program would be asked again for its log.
		collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}})
		if err != nil {
			return fmt.Errorf("%s: %w", l.program, err)
		}
		defer collection.Close()
		if err := own.Put(l.slot, collection.Programs[l.program]); err != nil {
			return fmt.Errorf("%s: put into the unwinder's table: %w", l.program, err)
		}
		return nil
	}, nil
}

// deepen changes the loop's bound in a program's instructions. The loop ends with a
// 32-bit counter that is counted up and compared for equality; an error says that the
// program has no such comparison, or several.
func (l frameLoop) deepen(code asm.Instructions) error {
	var bounds []int
	for i := range code {
		if isLoopEnd(code[:i+1], l.frames) {
			bounds = append(bounds, i)
		}
	}
	if len(bounds) != 1 {
		return fmt.Errorf("%d loops over %d frames, want 1", len(bounds), l.frames)
	}
	code[bounds[0]].Constant = int64(l.more)
	return nil
}

// isLoopEnd reports whether code ends with the comparison of a 32-bit counter, which was
// counted up just before, with a bound.
func isLoopEnd(code asm.Instructions, bound int32) bool {
	n := len(code) - 1
	if n < 4 || code[n].OpCode.JumpOp() != asm.JEq || code[n].OpCode.Source() != asm.ImmSource || code[n].Constant != int64(bound) {
		return false
	}
	counter := code[n].Dst
	shifted := func(i asm.Instruction, op asm.ALUOp) bool {
		return i.OpCode.ALUOp() == op && i.Dst == counter && i.Constant == 32
	}
	return shifted(code[n-1], asm.RSh) && shifted(code[n-2], asm.LSh) &&
		slices.ContainsFunc(code[max(0, n-5):n-2], func(i asm.Instruction) bool {
			return i.OpCode.ALUOp() == asm.Add && i.OpCode.Source() == asm.ImmSource && i.Constant == 1
		})
}
