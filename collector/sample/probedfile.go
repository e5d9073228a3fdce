package sample

// A ProbedFile is a file with probes of sampled allocations that a process maps.
type ProbedFile struct {
	Path         string // as the process sees it
	Allocs       int    // probes otel_memory:alloc
	Frees        int    // probes otel_memory:free
	NotReadable  error  // why the file's probes cannot be used, nil if they can
	HasSemaphore bool   // the program asks whether anyone listens before it samples
}
