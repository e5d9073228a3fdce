//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/tracer"
)

// unwindTables makes the unwind tables of executables: for each address, where
// the caller's address and frame pointer are. The library reads them from the
// file; refiners then correct what the library gets wrong for certain kinds of
// programs. It runs on the library's goroutine that reads processes.
//
// A panic while a file is read becomes an error of that file.
type unwindTables struct {
	nativeunwind.StackDeltaProvider // the library's own

	refiners []refiner
	metrics  *metrics
	log      *slog.Logger
}

// A refiner corrects the table that the library made of a file. It returns the
// same table if there is nothing to correct, and must not change its argument
// if it returns an error, since the table is then used as it was. An address that
// is in no block ends a stacktrace with an error.
type refiner struct {
	name   string // the kind of program, for the log and the metric
	refine func(*pfelf.Reference, *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error)
}

// refiners returns those that there are, in the order in which they run.
func refiners() []refiner {
	return []refiner{
		{name: "Go", refine: refineGo},
		{name: "uncovered", refine: refineUncovered},
		{name: "Ruby", refine: showRubySymbols},
	}
}

// useUnwindTables puts our tables in front of the library's. It must be called
// before the library looks at the first process, and within seconds of making the
// tracer, as the library then begins to ask the provider for statistics every
// MonitorInterval. An error means that the
// library has changed: sampling then goes on with the library's own tables.
func useUnwindTables(t *tracer.Tracer, log *slog.Logger, m *metrics) error {
	provider, err := providerOf(t)
	if err != nil {
		return err
	}
	*provider = &unwindTables{StackDeltaProvider: *provider, refiners: refiners(), metrics: m, log: log}
	return nil
}

// providerPath are the fields that lead from a tracer to its provider of unwind
// tables. The library has no option for it.
var providerPath = []string{"processManager", "eim", "sdp"}

// providerOf returns where a tracer keeps its provider of unwind tables.
func providerOf(t *tracer.Tracer) (*nativeunwind.StackDeltaProvider, error) {
	return fieldOf[nativeunwind.StackDeltaProvider](t, providerPath...)
}

// GetIntervalDataForFile returns the unwind table of a file.
func (u *unwindTables) GetIntervalDataForFile(ref *pfelf.Reference) (*stackdeltatypes.IntervalData, error) {
	table, err := guarded(func() (*stackdeltatypes.IntervalData, error) {
		return u.StackDeltaProvider.GetIntervalDataForFile(ref)
	})
	if err != nil {
		u.count(ref, "library", err)
		return nil, err
	}
	u.metrics.unwindTables.WithLabelValues("library", "ok").Inc()
	for _, r := range u.refiners {
		refined, err := guarded(func() (*stackdeltatypes.IntervalData, error) {
			return r.refine(ref, table)
		})
		switch {
		case err != nil:
			u.count(ref, r.name, err)
		case refined != table:
			u.metrics.unwindTables.WithLabelValues(r.name, "ok").Inc()
			table = refined
		}
	}
	return table, nil
}

// count counts and logs a file that could not be read.
func (u *unwindTables) count(ref *pfelf.Reference, reader string, err error) {
	outcome, level := "error", slog.LevelDebug
	if p := (*panicError)(nil); errors.As(err, &p) {
		outcome, level = "panic", slog.LevelWarn
	}
	u.metrics.unwindTables.WithLabelValues(reader, outcome).Inc()
	u.log.Log(context.Background(), level, "unwind table not read", "file", ref.FileName(), "reader", reader, "err", err)
}

// A panicError is a panic while a file was read.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// guarded calls a function and turns its panic into an error. A fault while
// mapped memory is read, as of a file that was cut off meanwhile, is one too.
func guarded[T any](read func() (T, error)) (result T, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return read()
}
