// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// What the programs in front of the unwinder share: its table of the processes
// that it knows, the tail call into it, and the report of a stacktrace that it
// would drop because it does not know the process yet.

#ifndef FLAMELINE_UNWIND_H
#define FLAMELINE_UNWIND_H

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_FRAMES 127

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

#endif
