package profile_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// Types as senders write them. Where they are defined stands in kind_table.go.
func TestFlowsAndStates(t *testing.T) {
	for _, c := range []struct {
		of           string
		flows, state string // IDs, one a line
	}{
		{
			"Go: runtime/pprof, pyroscope-go",
			`process_cpu:samples:count:cpu:nanoseconds
			process_cpu:cpu:nanoseconds:cpu:nanoseconds
			memory:alloc_objects:count:space:bytes
			memory:alloc_space:bytes:space:bytes
			allocs:alloc_space:bytes:space:bytes
			godeltaprof_memory:alloc_space:bytes:space:bytes
			mutex:contentions:count:contentions:count
			mutex:delay:nanoseconds:contentions:count
			block:contentions:count:contentions:count
			block:delay:nanoseconds:contentions:count
			fgprof:samples:count:wallclock:nanoseconds
			fgprof:time:nanoseconds:wallclock:nanoseconds`,
			`memory:inuse_objects:count:space:bytes
			memory:inuse_space:bytes:space:bytes
			goroutine:goroutine:count:goroutine:count
			goroutines:goroutine:count:goroutine:count
			goroutine:goroutines:count::
			goroutineleak:goroutineleak:count:goroutineleak:count
			threadcreate:threadcreate:count:threadcreate:count
			net/http.connections:net/http.connections:count:net/http.connections:count
			leases:leases:count:leases:count
			http:requests_in_flight:count:requests_in_flight:count
			io:pending_writes:count::
			rpc:active_calls:count::`,
		},
		{
			"JVM: jfr-parser, async-profiler's converters",
			`process_cpu:cpu:nanoseconds:cpu:nanoseconds
			wall:wall:nanoseconds:wall:nanoseconds
			events:samples:count:events:count
			memory:alloc_in_new_tlab_objects:count:space:bytes
			memory:alloc_in_new_tlab_bytes:bytes:space:bytes
			memory:alloc_outside_tlab_bytes:bytes:space:bytes
			memory:alloc_sample_objects:count:space:bytes
			memory:alloc_sample_bytes:bytes:space:bytes
			memory:malloc_objects:count::
			memory:malloc_bytes:bytes::
			mutex:contentions:count:mutex:count
			block:delay:nanoseconds:block:count
			exceptions:exceptions:count:exceptions:count
			allocations:allocations:bytes::
			locks:locks:count::`,
			`memory:live:count:objects:count
			memory:live_bytes:bytes::`,
		},
		{
			"Node: @datadog/pprof, @pyroscope/nodejs",
			`wall:sample:count:wall:nanoseconds
			wall:wall:nanoseconds:wall:nanoseconds
			process_cpu:cpu:nanoseconds:wall:nanoseconds`,
			`memory:objects:count:space:bytes
			memory:space:bytes:space:bytes
			memory:objects:count::
			heap:space:bytes:space:bytes`,
		},
		{
			"Python, Ruby, PHP, .NET: libdatadog, Pyroscope's agents",
			`profile:cpu-time:nanoseconds:wall-time:nanoseconds
			profile:cpu-samples:count:wall-time:nanoseconds
			profile:wall-time:nanoseconds:wall-time:nanoseconds
			profile:alloc-samples:count:wall-time:nanoseconds
			profile:alloc-samples-unscaled:count::
			profile:alloc-space:bytes::
			profile:alloc-size:bytes::
			alloc:alloc_samples:count::
			alloc:alloc_size:bytes::
			profile:exception-samples:count::
			exception:exception:count::
			exceptions:samples:count::
			profile:lock-acquire:count::
			profile:lock-acquire-wait:nanoseconds::
			profile:lock-release-hold:nanoseconds::
			lock:lock_count:count::
			lock:lock_time:nanoseconds::
			profile:timeline:nanoseconds::
			profile:socket-read-size:bytes::
			profile:file-io-write-size-samples:count::
			profile:gpu-space:bytes::
			profile:gpu-flops:count::
			profile:request-time:nanoseconds::`,
			`profile:heap-space:bytes:wall-time:nanoseconds
			profile:heap-live-samples:count:cpu-time:nanoseconds
			profile:heap-live-size:bytes:cpu-time:nanoseconds
			memory:inuse-objects:count::
			memory:inuse-space:bytes::
			memory:inuse_space:bytes::`,
		},
		{
			"C and C++: jemalloc, gperftools, tcmalloc, heapprofd; Rust: jemalloc_pprof, pprof-rs",
			`memory:alloc_objects:count:space:bytes
			contention:delay:microseconds:contentions:count
			allocs:objects:count:space:bytes
			allocations:space:bytes:space:bytes
			lifetimes:allocated_space:bytes:space:bytes
			lifetimes:deallocated_objects:count:space:bytes
			lifetimes:censored_allocated_space:bytes:space:bytes
			native:Total malloc size:bytes::
			native:Total malloc count:count::
			process_cpu:samples:count:cpu:nanoseconds`,
			`memory:inuse_space:bytes:space:bytes
			heap:objects:count:space:bytes
			growth:space:bytes:space:bytes
			growthz:objects:count:space:bytes
			fragmentation:space:bytes:space:bytes
			heap:resident_space:bytes:space:bytes
			heap:swapped_space:bytes:space:bytes
			peakheap:space:bytes:space:bytes
			threadz:thread:count:thread:count
			native:Unreleased malloc size:bytes::
			native:Unreleased malloc count:count::`,
		},
		{
			"eBPF and perf: OpenTelemetry's profiler, Parca's agent, this collector",
			`process_cpu:cpu:nanoseconds:cpu:nanoseconds
			off_cpu:off_cpu:nanoseconds::
			off_cpu:events:count::
			off_cpu:blocks:count::
			page_faults:page_faults:bytes::
			oom:kills:count::
			events:events:count::
			parca_agent:samples:count:cpu:nanoseconds
			parca_agent:wallclock:nanoseconds:samples:count
			parca_agent:cuda:nanoseconds:cuda:nanoseconds
			perf:cycles:count:cycles:count
			perf:cache-misses:count:cache-misses:count
			perf:page-faults:count:page-faults:count
			perf:context-switches:count::`,
			``,
		},
		{
			"types that only their sender knows",
			`custom:widgets:count::
			custom:age:nanoseconds::
			custom:live_time:seconds::
			io:payload:bytes::
			net:bytesSent:bytes::
			active_record:queries:count::
			memory:page-faults:count::
			pages:pages:pages:wall:nanoseconds`,
			`app:inUseBytes:bytes::
			app:in_use:kilobytes::
			app:InuseSpace:By::
			app:rss:KiB::
			app:resident memory:bytes::
			app:heap-live:MB::
			app:memory_usage:bytes::
			app:heapSize:bytes::
			app:live-handles:count::
			app:queue depth:items::
			app:current:count::
			app:retained_size:bytes::
			workers:count:threads::
			inuse:things:count::
			goroutine:samples:count::
			memory:samples:bytes::
			app:blocks:count:goroutine:count`,
		},
	} {
		for want, ids := range map[bool]string{true: c.flows, false: c.state} {
			for id := range strings.SplitSeq(ids, "\n") {
				if id = strings.TrimSpace(id); id == "" {
					continue
				}
				typ, err := profile.ParseType(id)
				require.NoError(t, err, id)
				require.Equal(t, want, typ.Cumulative(), "%s: %s", c.of, id)
			}
		}
	}
}

func TestCPUTime(t *testing.T) {
	for id, want := range map[string]bool{
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds":         true,
		"process_cpu:cpu:ns:cpu:ns":                           true,
		"profile:cpu-time:nanoseconds:wall-time:nanoseconds":  true,
		"profile:cpu_time:microseconds::":                     true,
		"profile:cpuTime:ms::":                                true,
		"process_cpu:itimer:nanoseconds::":                    true,
		"process_cpu:time:nanoseconds:cpu:nanoseconds":        true,
		"process_cpu:samples:count:cpu:nanoseconds":           false,
		"process_cpu:cpu:count:cpu:nanoseconds":               false,
		"profile:cpu-samples:count::":                         false,
		"off_cpu:off_cpu:nanoseconds::":                       false,
		"off-cpu:off-cpu:nanoseconds::":                       false,
		"off_cpu:time:nanoseconds::":                          false,
		"wall:wall:nanoseconds:wall:nanoseconds":              false,
		"wall:wall:nanoseconds:cpu:nanoseconds":               false,
		"profile:gpu-time:nanoseconds:cpu-time:nanoseconds":   false,
		"mutex:delay:nanoseconds:contentions:count":           false,
		"fgprof:time:nanoseconds:wallclock:nanoseconds":       false,
		"profile:cpu-wait-time:nanoseconds::":                 false,
		"profile:heap-space:bytes:cpu-time:nanoseconds":       false,
		"process_cpu:wall-time:nanoseconds:cpu:nanoseconds":   false,
		"parca_agent:wallclock:nanoseconds:samples:count":     false,
		"profile:lock-acquire-wait:nanoseconds:cpu-time:nano": false,
	} {
		typ, err := profile.ParseType(id)
		require.NoError(t, err)
		require.Equal(t, want, typ.CPUTime(), id)
	}
}

func TestUnits(t *testing.T) {
	for names, want := range map[string]struct {
		dimension profile.Dimension
		size      float64
	}{
		"ns nanosecond nanoseconds Nanoseconds NANOSECONDS nanos": {profile.Time, 1},
		"us µs μs usec microsecond microseconds":                  {profile.Time, 1e3},
		"ms millisecond milliseconds":                             {profile.Time, 1e6},
		"s sec secs second seconds":                               {profile.Time, 1e9},
		"min minute minutes":                                      {profile.Time, 60e9},
		"hours":                                                   {profile.Time, 3600e9},
		"B By b byte bytes Bytes":                                 {profile.Bytes, 1},
		"kb kB KB KiB kilobyte kilobytes":                         {profile.Bytes, 1024},
		"MB mb MiB megabytes":                                     {profile.Bytes, 1 << 20},
		"GiB gigabytes":                                           {profile.Bytes, 1 << 30},
		"count counts 1 samples sample objects events {request}":  {profile.Count, 1},
		"widgets cycles m k % goroutines":                         {profile.Other, 1},
	} {
		for name := range strings.SplitSeq(names, " ") {
			d, size := profile.ParseUnit(name)
			require.Equal(t, want.dimension, d, name)
			require.Equal(t, want.size, size, name)
		}
	}
	d, _ := profile.ParseUnit("")
	require.Equal(t, profile.Count, d)

	for unit, want := range map[string]string{"ns": "nanoseconds", "Seconds": "seconds", "By": "bytes", "KiB": "none", "minutes": "none", "count": "none"} {
		var b strings.Builder
		require.NoError(t, (&profile.Tree{}).WriteSpeedscope(&b, "", unit))
		require.Contains(t, b.String(), `"unit":"`+want+`"`, unit)
	}
}
