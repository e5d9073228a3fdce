package sample

// A ProbedFile is a file with probes of sampled allocations that a process maps.
type ProbedFile struct {
	Path         string // as the process sees it
	Allocs       int    // probes otel_memory:alloc
	Frees        int    // probes otel_memory:free
	NotReadable  error  // why the file's probes cannot be used, nil if they can
	HasSemaphore bool   // the program asks whether anyone listens before it samples
}

// HowToGetAllocProbes says how a program comes to have the probes of sampled allocations.
const HowToGetAllocProbes = "the program's allocator has to report sampled allocations by the USDT probes otel_memory:alloc and otel_memory:free: " +
	"Rust programs by the global allocator of the crate libdd-profiling-heap-allocator, others by an allocator with these probes in LD_PRELOAD; readelf -n FILE lists probes"
