package record

import (
	"log/slog"

	"github.com/flameline/flameline/pkg/profile"
)

// SessionOptions configure a Session.
type SessionOptions struct {
	Selection   Selection
	FrequencyHz int          // samples per second and CPU; 0 is that of package sample
	Threads     bool         // a profile for each thread
	Event       Event        // what is sampled; "" is CPU
	Logger      *slog.Logger // nil discards
}

// An Event is what a sample is taken of.
type Event string

// Events.
const (
	CPU        Event = "cpu"         // threads that run: CPU time
	OffCPU     Event = "off-cpu"     // threads that wait: the time until they run again
	Wall       Event = "wall"        // both
	PageFaults Event = "page-faults" // threads that get memory from the kernel: bytes
	Alloc      Event = "alloc"       // sampled allocations that an allocator reports: bytes
)

// Events are all events, for help texts.
var Events = []string{string(CPU), string(OffCPU), string(Wall), string(PageFaults), string(Alloc)}

// offCPU reports whether waits are measured.
func (e Event) offCPU() bool { return e == OffCPU || e == Wall }

// takes reports whether the profiles with a name are of the event.
func (e Event) takes(name string) bool {
	switch e {
	case OffCPU:
		return name == offCPUName
	case Wall:
		return name == offCPUName || name == cpuName
	case PageFaults:
		return name == faultsName
	case Alloc:
		return name == memoryName
	default:
		return name == cpuName
	}
}

// Names of package sample's profiles.
const (
	cpuName    = "process_cpu"
	offCPUName = "off_cpu"
	faultsName = "page_faults"
	memoryName = "memory"
)

// Title names what is measured.
func (e Event) Title() string {
	switch e {
	case OffCPU:
		return "off-CPU time"
	case Wall:
		return "wall-clock time"
	case PageFaults:
		return "memory by page faults"
	case Alloc:
		return "allocated memory"
	default:
		return "CPU time"
	}
}

// Type is the profile type of a recording's values.
func (e Event) Type() profile.Type {
	switch e {
	case OffCPU:
		return profile.Type{Name: offCPUName, SampleType: "off_cpu", SampleUnit: "nanoseconds"}
	case Wall:
		return profile.Type{Name: "wall", SampleType: "wall", SampleUnit: "nanoseconds"}
	case PageFaults:
		return profile.Type{Name: faultsName, SampleType: "page_faults", SampleUnit: "bytes"}
	case Alloc:
		return profile.Type{Name: memoryName, SampleType: "alloc_space", SampleUnit: "bytes", PeriodType: "space", PeriodUnit: "bytes"}
	default:
		return profile.Type{Name: cpuName, SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds"}
	}
}

// Counts names what a recording counts beside its values.
func (e Event) Counts() string {
	switch e {
	case OffCPU:
		return "wait"
	case PageFaults:
		return "page"
	case Alloc:
		return "object"
	}
	return "sample"
}
