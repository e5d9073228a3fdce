package sample

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

// Defaults and limits of Options.
const (
	DefaultFrequency = 19 // Hz
	DefaultInterval  = 5 * time.Second
	// DefaultOffCPUStacks is the default of OffCPU.StacksPerSecond.
	DefaultOffCPUStacks = 50
	MaxFrequency        = 1000 // Hz
	minInterval         = time.Second
	maxOffCPUStacks     = 10000 // per second
)

// ErrUnsupported is wrapped by the errors of Supported and Start where this
// system or these privileges do not allow sampling.
var ErrUnsupported = errors.New("eBPF sampling is not possible here")

// An Appender takes profiles. Append is called by one goroutine at a time, once
// per window; it is called again with the same IDs if it returns an error.
type Appender interface {
	Append(ctx context.Context, ps []profile.Profile) error
}

// A Symbolizer finds the functions at addresses of native code.
type Symbolizer interface {
	Add(id symbolize.FileID, b symbolize.Binary)
	Lookup(id symbolize.FileID, addr uint64) ([]symbolize.Line, bool)
	LookupAll(id symbolize.FileID, addrs []uint64) [][]symbolize.Line
}

// A Labeler finds the labels of processes.
type Labeler interface {
	// Labels returns the labels of a process. A process without labels is left
	// out: its stacktraces are not named, counted or stored.
	Labels(pid int, hint target.Hint) labels.Labels
}

// A Finisher turns the labels that a Labeler found into those of a series, when their
// window is over. It may wait for what is not known yet, until ctx ends. Without labels,
// the series is left out. It is called by several goroutines.
type Finisher func(ctx context.Context, ls labels.Labels) labels.Labels

// Labels of threads, which stacktraces have with Options.Threads.
const (
	LabelThreadID   = "thread_id"
	LabelThreadName = "thread_name"
)

// Options configure a Source.
type Options struct {
	Appender   Appender   // required
	Symbolizer Symbolizer // nil shows native frames as module+0xoffset
	Targets    Labeler    // required
	Finish     Finisher   // nil leaves labels as they are

	// FrequencyHz is the number of samples per second and CPU; 0 is
	// DefaultFrequency. Primes do not run in step with periodic work.
	FrequencyHz int
	// Interval is the length of a window; 0 is DefaultInterval. Windows are
	// cut at its multiples on the wall clock.
	Interval time.Duration

	// SampleTimes keeps the time of each CPU sample, to 20 ms, in the samples' label
	// profile.LabelSampleTime: samples of a stacktrace at different times are apart.
	SampleTimes bool

	// OffCPU adds profiles of the time that threads wait, off_cpu:off_cpu:nanoseconds::
	// and off_cpu:blocks:count::, in the same windows.
	OffCPU OffCPU

	// PageFaults adds profiles of the memory that functions make resident,
	// page_faults:page_faults:bytes::, and of processes that the kernel kills for lack of
	// memory, oom:kills:count:: with oom:page_faults:bytes:: so far.
	PageFaults PageFaults

	// Allocations adds profiles of the memory that functions allocate,
	// memory:alloc_space:bytes:space:bytes and memory:alloc_objects:count:space:bytes, and
	// of what is in use at the end of a window, with inuse_space and inuse_objects, of
	// programs whose allocator has the probes otel_memory:alloc and otel_memory:free.
	Allocations Allocations

	// PIDs are the processes that OffCPU, PageFaults and Allocations are about, with those that they
	// start while the Source runs; nil means all. Of this process itself only the
	// processes that it starts are measured. CPU samples are of all processes, unless
	// OnlyPIDs is set.
	PIDs []int
	// OnlyPIDs takes CPU samples of PIDs alone: other processes cost nothing. It needs
	// type information (BTF).
	OnlyPIDs bool

	// Threads gives each thread a series of its own, with the labels
	// LabelThreadID and LabelThreadName. It is meant for recordings of a few
	// processes.
	Threads bool
	// WithoutPython says that no process of interest is one of CPython. The kernel takes
	// half of the time of Start to verify what unwinds its stacks.
	WithoutPython bool
	// First lists processes that the unwinder reads before sampling begins, so
	// that their first stacktraces are complete. Those that do not exist are
	// passed over. It is called once the unwinder is loaded, seconds after Start
	// was. nil is none.
	First func() []int

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
}

// OffCPU configures the profiles of waiting threads. Every wait of every thread is
// measured; which functions wait is sampled.
type OffCPU struct {
	Enabled bool
	// StacksPerSecond is the number of waits per second, on the whole machine, whose
	// stacktraces are taken, on the average; 0 is DefaultOffCPUStacks. Where there are
	// fewer waits, all of them are taken.
	StacksPerSecond int
}

// PageFaults configures the profiles of memory that becomes resident.
type PageFaults struct {
	Enabled bool
}

// Allocations configures the profiles of sampled allocations.
type Allocations struct {
	Enabled bool
	// Required says that Start returns an error where the system does not allow them.
	// Else the reason is logged, and everything else is measured.
	Required bool
}

// withDefaults fills in what was left out and reports what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.FrequencyHz == 0 {
		o.FrequencyHz = DefaultFrequency
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.OffCPU.StacksPerSecond == 0 {
		o.OffCPU.StacksPerSecond = DefaultOffCPUStacks
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Appender == nil:
		return o, errors.New("sample options: no appender")
	case o.Targets == nil:
		return o, errors.New("sample options: no source of labels")
	case o.FrequencyHz < 1 || o.FrequencyHz > MaxFrequency:
		return o, fmt.Errorf("sample options: frequency %d Hz is not between 1 and %d", o.FrequencyHz, MaxFrequency)
	case o.OffCPU.StacksPerSecond < 1 || o.OffCPU.StacksPerSecond > maxOffCPUStacks:
		return o, fmt.Errorf("sample options: %d stacktraces of waits per second are not between 1 and %d", o.OffCPU.StacksPerSecond, maxOffCPUStacks)
	case o.Interval < minInterval || o.Interval%time.Millisecond != 0:
		return o, fmt.Errorf("sample options: interval %v is not a whole number of milliseconds of at least %v", o.Interval, minInterval)
	}
	return o, nil
}

// measures reports whether there are profiles besides those of CPU samples.
func (o Options) measures() bool {
	return o.OffCPU.Enabled || o.PageFaults.Enabled || o.Allocations.Enabled
}

// bufferRate is the number of the longest stacktraces per second and CPU that the
// unwinder's buffer has room for. Those of waits come in bursts, but are of usual length.
func (o Options) bufferRate() int {
	n := o.FrequencyHz
	if o.OffCPU.Enabled {
		n += o.OffCPU.StacksPerSecond/4/runtime.NumCPU() + 1
	}
	return n
}

// period is the CPU time in nanoseconds that one sample stands for.
func (o Options) period() int64 { return int64(time.Second) / int64(o.FrequencyHz) }
