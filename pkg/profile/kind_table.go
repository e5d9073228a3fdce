package profile

// sampleKinds are the kinds of common profilers' sample types. Keys are a type's words
// in lower case joined by underscores, so that one row covers inuse_space and
// inuse-space. Types whose unit is a time are flows and not listed. samples, objects and
// space alone are not listed either, since profiles of different kinds have them: the
// profile's name decides (Type.kind).
//
// The source of each group's types is named above it.
var sampleKinds = map[string]kind{
	// Go: runtime/pprof/pprof.go, proto.go, protomem.go. The counts of allocations and
	// contentions are since the program's start; SDKs and the scraper send their growth.
	"alloc_objects": flow,
	"alloc_space":   flow,
	"inuse_objects": state,
	"inuse_space":   state,
	"goroutine":     state,
	"goroutines":    state, // Pyroscope's name for it: pkg/ingester/pyroscope/ingest_adapter.go
	"goroutineleak": state, // from Go 1.26 on
	"threadcreate":  state,
	"contentions":   flow, // mutex and block

	// Go, Java and C++ as text: google/pprof, profile/legacy_profile.go and
	// legacy_java_profile.go, which also read jemalloc's and gperftools' heap profiles.
	"thread": state, // threadz

	// JVM: grafana/jfr-parser, pprof/pprof.go; async-profiler, one/convert/JfrConverter.java.
	"live":                       state,
	"live_objects":               state,
	"live_bytes":                 state,
	"alloc_in_new_tlab_objects":  flow,
	"alloc_in_new_tlab_bytes":    flow,
	"alloc_outside_tlab_objects": flow,
	"alloc_outside_tlab_bytes":   flow,
	"alloc_sample_objects":       flow,
	"alloc_sample_bytes":         flow,
	"malloc_objects":             flow,
	"malloc_bytes":               flow,
	"malloc":                     flow,
	"allocations":                flow,
	"locks":                      flow,

	// Node: DataDog/pprof-nodejs, ts/src/profile-serializer.ts. Its heap profile has the
	// types objects and space, which hold what is in use; its others are sample, and wall
	// and cpu, which are times.

	// Python, Ruby, PHP, .NET and Node of Datadog: libdatadog, libdd-profiling,
	// src/api/sample_type.rs; dd-trace-rb, stack_recorder.c; dd-trace-dotnet, *Provider.cpp.
	"alloc_samples":              flow,
	"alloc_samples_unscaled":     flow,
	"alloc_size":                 flow,
	"cpu_samples":                flow,
	"cpu_sample":                 flow,
	"wall_samples":               flow,
	"exception":                  flow,
	"exception_samples":          flow,
	"exceptions":                 flow,
	"file_io_read_size":          flow,
	"file_io_read_size_samples":  flow,
	"file_io_read_time_samples":  flow,
	"file_io_write_size":         flow,
	"file_io_write_size_samples": flow,
	"file_io_write_time_samples": flow,
	"socket_read_size":           flow,
	"socket_read_size_samples":   flow,
	"socket_read_time_samples":   flow,
	"socket_write_size":          flow,
	"socket_write_size_samples":  flow,
	"socket_write_time_samples":  flow,
	"gpu_alloc_samples":          flow,
	"gpu_flops":                  flow,
	"gpu_flops_samples":          flow,
	"gpu_samples":                flow,
	"gpu_space":                  flow, // what the operations of the time took, not what they hold
	"heap_live_samples":          state,
	"heap_live_size":             state,
	"heap_space":                 state,
	"lock_acquire":               flow,
	"lock_release":               flow,
	"lock_count":                 flow,

	// C++: google/tcmalloc, internal/profile_builder.cc. Its heap, peak and fragmentation
	// profiles have objects and space as well, and so have its allocations.
	"resident_space":             state,
	"swapped_space":              state,
	"allocated_objects":          flow, // of the lifetimes of a while
	"allocated_space":            flow,
	"deallocated_objects":        flow,
	"deallocated_space":          flow,
	"censored_allocated_objects": flow,
	"censored_allocated_space":   flow,

	// Android's heapprofd: google/perfetto, src/traceconv/pprof_builder.cc.
	"total_malloc_count":      flow,
	"total_malloc_size":       flow,
	"unreleased_malloc_count": state,
	"unreleased_malloc_size":  state,
	"total_count":             flow,
	"total_size":              flow,
	"unreleased_count":        state,
	"unreleased_size":         state,
	"total_allocation_count":  flow,
	"total_allocation_size":   flow,

	// eBPF: open-telemetry/opentelemetry-ebpf-profiler, support/types.go; parca-agent,
	// reporter/parca_reporter.go. A sender's probes are events.
	"events":  flow,
	"off_cpu": flow,
	"cpu":     flow,
	"wall":    flow,
	"cuda":    flow,

	// This repository's sampler: collector/sample/window.go. off_cpu is above.
	"page_faults": flow, // bytes that became resident
	"kills":       flow, // for lack of memory
}
