package record

import (
	"fmt"
	"log/slog"
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
	Alloc      Event = "alloc"       // allocations of a language's runtime: bytes
)

// Events are all events, for help texts.
var Events = []string{string(CPU), string(OffCPU), string(Wall), string(PageFaults), string(Alloc)}

// check returns an error for what cannot be sampled yet.
func (e Event) check() error {
	switch e {
	case CPU, "":
		return nil
	case Alloc:
		return fmt.Errorf("-e alloc is not possible yet: allocations are scraped of Go programs by `flameline serve` (scrape_configs), or pushed by the agents of other languages")
	default:
		return fmt.Errorf("-e %s is not possible yet: this version samples -e cpu", e)
	}
}
