//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.opentelemetry.io/ebpf-profiler/reporter/samples"
	"go.opentelemetry.io/ebpf-profiler/tracer"
)

// originVariable is the constant of the unwinder's entry program that says what its
// stacktraces are samples of.
const originVariable = "origin_id_sampling"

// probesAreEnabled is the field of the unwinder that lets Enable run. Without
// LoadProbe it is false.
const probesAreEnabled = "kprobeChainLoaded"

// needsProbeChain reports whether the unwinder has to load its chain of kprobe programs
// so that it allows an entry. The chain itself is not used here: the entry is a program
// for perf events and uses the same programs as the CPU sampler. Loading the chain takes
// as long as loading the unwinder once more.
func needsProbeChain() bool {
	f, ok := reflect.TypeFor[tracer.Tracer]().FieldByName(probesAreEnabled)
	return !ok || f.Type.Kind() != reflect.Bool
}

// An entry is the unwinder's entry program, loaded once more so that stacktraces which
// come from it can be told apart. Both entries use the unwinder's memory of one CPU, so
// they must not interrupt each other: the programs that call them run with interrupts
// off, or the kernel keeps another program of a perf event out meanwhile.
type entry struct {
	kind    samples.TypeMetadata // its address tells the stacktraces
	program *ebpf.Program
}

var _ tracer.Probe = (*entry)(nil)

// enable has the unwinder call a probe's Load.
func enable(ctx context.Context, t *tracer.Tracer, p tracer.Probe) error {
	if allowed, err := fieldOf[bool](t, probesAreEnabled); err == nil {
		was := *allowed
		*allowed = true
		defer func() { *allowed = was }()
	}
	return t.Enable(ctx, p)
}

// newEntry loads an entry for samples of a type.
func newEntry(ctx context.Context, t *tracer.Tracer, name, unit string) (*entry, error) {
	e := &entry{kind: samples.TypeMetadata{SampleType: name, SampleUnit: unit}}
	if err := enable(ctx, t, e); err != nil {
		return nil, fmt.Errorf("load the unwinder's entry for %s: %w", name, err)
	}
	if e.program == nil {
		return nil, fmt.Errorf("load the unwinder's entry for %s: no program", name)
	}
	return e, nil
}

// Load is called by the unwinder. There is no link: our own programs call the entry.
func (e *entry) Load(_ context.Context, reg tracer.ProbeRegistrar, pc *tracer.ProbeContext) (link.Link, error) {
	id, err := reg.Register(&e.kind)
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	spec, err := pc.CollectionSpecWith(nil, []string{entryProgram}, []string{originVariable})
	if err != nil {
		return nil, err
	}
	if err := spec.Variables[originVariable].Set(id); err != nil {
		return nil, fmt.Errorf("set %s: %w", originVariable, err)
	}
	if err := pc.RewriteMaps(spec, nil); err != nil {
		return nil, err
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, err
	}
	defer collection.Close()
	if e.program = collection.DetachProgram(entryProgram); e.program == nil {
		return nil, errors.New("the unwinder has no entry program")
	}
	return nil, nil //nolint:nilnil // see above
}

// Close unloads the entry.
func (e *entry) Close() error {
	if e == nil || e.program == nil {
		return nil
	}
	return e.program.Close()
}
