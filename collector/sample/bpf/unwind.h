// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// What the programs in front of the unwinder share: its table of the processes
// that it knows, the tail call into it, the report of a stacktrace that it would
// drop because it does not know the process yet, counters, and a bound of how many
// stacktraces are taken.

#ifndef FLAMELINE_UNWIND_H
#define FLAMELINE_UNWIND_H

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_FRAMES 127

// The first counters of every program. Read by Go; their order is that of the
// type counter there.
enum {
	COUNT_STACKS,       // threads that were passed to the unwinder
	COUNT_NOT_PASSED,   // stacktraces lost, as the tail call failed
	COUNT_UNKNOWN_LOST, // stacktraces of new processes lost, as their buffer was full
	COUNT_OWN,          // the first counter of the program's own
};

#define MAX_COUNTERS 16

// What an unknown_sample is a sample of. Read by Go; its order is that of type
// origin there.
enum origin {
	ORIGIN_CPU,
	ORIGIN_OFF_CPU,
	ORIGIN_PAGE_FAULTS,
	ORIGIN_ALLOC,
};

// The same layout as the Go type unknownSample.
struct unknown_sample {
	__u64 time; // CLOCK_MONOTONIC, ns
	__u32 pid, tid, cpu;
	__u32 kernel_frames;
	__u32 origin;
	__u32 padding;
	char comm[16];
	struct bpf_stack_build_id leaf;
	__u64 kernel[KERNEL_FRAMES]; // leaf first
};

// The key of the unwinder's table of mappings. Page 0 stands for the process.
struct process_key {
	__u32 prefix_bits;
	__u32 pid_be;
	__u64 page;
};

struct mapping_info {
	__u64 file_id;
	__u64 bias_and_unwind_program;
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} unwinder SEC(".maps");

// Replaced by the unwinder's own map when the programs are loaded.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct process_key);
	__type(value, struct mapping_info);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} known SEC(".maps");

// Replaced by the gate's in the other programs.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} unknown SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&counts, &which);
	if (n)
		(*n)++;
}

// How many stacktraces may be taken at once, of all CPUs. The same layout as the Go
// type credit.
struct credit {
	__u64 last; // CLOCK_MONOTONIC, ns: left was counted up
	__u64 left; // ns: times the gap between two
};

// affordable reports whether one more stacktrace may be taken: one in gap ns on the
// average, and as many at once as most ns are for. Two CPUs that count at once may
// count wrong; that is rare, and costs or saves one stacktrace.
static __always_inline int affordable(struct credit *c, __u64 gap, __u64 most, __u64 now)
{
	if (now > c->last)
		c->left += now - c->last;
	c->last = now;
	if (c->left > most)
		c->left = most;
	if (c->left < gap)
		return 0;
	c->left -= gap;
	return 1;
}

// is_known reports whether the unwinder knows the code at an address of a
// process. Address 0 stands for the process.
static __always_inline int is_known(__u64 id, __u64 address)
{
	struct process_key key = {
		.prefix_bits = 32 + 64,
		.pid_be = bpf_htonl(id >> 32),
		.page = bpf_cpu_to_be64(address),
	};
	return bpf_map_lookup_elem(&known, &key) != 0;
}

// What report did.
enum reported {
	REPORTED_NOTHING, // a kernel thread: the unwinder takes those as they are
	REPORTED,
	REPORTED_LOST, // the ring buffer was full
};

// report keeps a stacktrace that the unwinder will drop: the kernel's part, and
// the leaf of the user's part. Kernel threads have no stack in user space.
static __always_inline enum reported report(struct bpf_perf_event_data *ctx, __u64 id, enum origin origin)
{
	struct bpf_stack_build_id leaf = {};
	if (bpf_get_stack(ctx, &leaf, sizeof(leaf), BPF_F_USER_STACK | BPF_F_USER_BUILD_ID) <= 0)
		return REPORTED_NOTHING;
	struct unknown_sample *s = bpf_ringbuf_reserve(&unknown, sizeof(*s), 0);
	if (!s)
		return REPORTED_LOST;
	s->time = bpf_ktime_get_ns();
	s->pid = id >> 32;
	s->tid = id;
	s->cpu = bpf_get_smp_processor_id();
	s->origin = origin;
	s->padding = 0;
	s->leaf = leaf;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	long bytes = bpf_get_stack(ctx, s->kernel, sizeof(s->kernel), 0);
	s->kernel_frames = bytes > 0 ? bytes / sizeof(__u64) : 0;
	bpf_ringbuf_submit(s, 0);
	return REPORTED;
}

// unwind passes the current thread on to the unwinder. It does not return if that
// works.
static __always_inline void unwind(struct bpf_perf_event_data *ctx, __u64 id, enum origin origin)
{
	count(COUNT_STACKS);
	if (!is_known(id, 0) && report(ctx, id, origin) == REPORTED_LOST)
		count(COUNT_UNKNOWN_LOST);
	bpf_tail_call(ctx, &unwinder, 0);
	count(COUNT_NOT_PASSED);
}

#endif
