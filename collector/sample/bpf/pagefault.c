// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Page faults: which functions make memory resident, and which processes the kernel
// kills for lack of it.
//
// Each fault counts with the memory that it makes resident: a page, or the larger
// piece that the kernel has allocated for it. Of the bytes of each thread every
// stride is sampled, from a random one on: a fault that reaches or passes it is
// unwound and stands for stride bytes, several times if it passes several. So a fault
// of 2 MB and 512 faults of 4 KB count the same.

#include "only.h"
#include "unwind.h"

#include <bpf/bpf_core_read.h>

// A large allocation belongs to the fault that is handled within this time.
#define LARGE_AGE 1000000000ULL // ns: the thread may have been preempted

#define CREDIT 20000000000ULL // ns: growth comes in bursts

// Flags of page allocations: include/linux/gfp_types.h, the same from 4.20 to 6.18.
#define GFP_HIGHMEM 0x02
#define GFP_MOVABLE 0x08
#define GFP_NOMEMALLOC 0x80000

// Read by Go; its order is that of type faultCounter there.
enum counter {
	COUNT_FAULTS = COUNT_OWN,
	COUNT_LARGE, // of them, faults that made more than a page resident
	COUNT_LATER, // samples put off, as too many stacktraces were taken lately
	COUNT_LOST,  // samples and kills lost, as the ring buffer was full
};

// A sampled fault, or a kill. The same layout as the Go type fault.
struct fault {
	__u64 time;  // CLOCK_MONOTONIC, ns
	__u64 bytes; // that it stands for; 0 for a kill
	__u32 pid, tid;
};

// What user space sets.
struct settings {
	__u64 stride; // bytes
	__u64 gap;    // ns between two stacktraces on the average
};

// How far a thread is.
struct progress {
	__u64 left; // bytes until the next sample
	__u64 due;  // bytes of samples that were put off
};

struct large {
	__u64 time, bytes;
};

// Only the fields used here; where they are is found out when the programs are loaded.
struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));

volatile const __u64 page_size = 4096;
volatile const _Bool victim_is_task = 1; // or a PID, before 6.9

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); // TID
	__type(value, struct progress);
} progresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // TID
	__type(value, struct large);
} larges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} faults SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct credit);
} credits SEC(".maps");

// is_huge reports whether an allocation is for a large piece of a process' memory:
// pages that can be moved, for which the kernel does not try hard.
static __always_inline int is_huge(__u64 gfp)
{
	const __u64 flags = GFP_HIGHMEM | GFP_MOVABLE | GFP_NOMEMALLOC;
	return (gfp & flags) == flags;
}

SEC("tp_btf/mm_page_alloc")
int page_alloc(__u64 *ctx)
{
	__u32 order = ctx[1];
	if (order == 0 || order > 20 || !ctx[0])
		return 0;
	if (!is_huge((__u32)ctx[2]))
		return 0;
	__u32 tid = bpf_get_current_pid_tgid();
	struct large l = {.time = bpf_ktime_get_ns(), .bytes = page_size << order};
	bpf_map_update_elem(&larges, &tid, &l, BPF_ANY);
	return 0;
}

// bytes_of returns what a fault of a thread has made resident.
static __always_inline __u64 bytes_of(__u32 tid, __u64 now)
{
	struct large *l = bpf_map_lookup_elem(&larges, &tid);
	if (!l || !l->bytes)
		return page_size;
	__u64 bytes = l->bytes;
	l->bytes = 0;
	if (now - l->time > LARGE_AGE)
		return page_size;
	count(COUNT_LARGE);
	return bytes;
}

// The kernel counts a fault once it is handled.
SEC("perf_event")
int page_fault(struct bpf_perf_event_data *ctx)
{
	__u32 zero = 0;
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32, tid = id;
	struct settings *s = bpf_map_lookup_elem(&settings, &zero);
	if (!pid || !s || !s->stride || !is_measured(pid))
		return 0;
	count(COUNT_FAULTS);
	__u64 now = bpf_ktime_get_ns();
	__u64 bytes = bytes_of(tid, now), stride = s->stride;
	struct progress *p = bpf_map_lookup_elem(&progresses, &tid);
	if (!p) {
		struct progress first = {.left = bpf_get_prandom_u32() % stride};
		bpf_map_update_elem(&progresses, &tid, &first, BPF_ANY);
		p = bpf_map_lookup_elem(&progresses, &tid);
		if (!p)
			return 0;
	}
	if (bytes <= p->left) {
		p->left -= bytes;
		return 0;
	}
	bytes -= p->left + 1; // past the byte that is sampled
	p->due += stride * (1 + bytes / stride);
	p->left = stride - 1 - bytes % stride;
	struct credit *c = bpf_map_lookup_elem(&credits, &zero);
	if (!c || !affordable(c, s->gap, CREDIT, now)) {
		count(COUNT_LATER);
		return 0;
	}
	struct fault *f = bpf_ringbuf_reserve(&faults, sizeof(*f), 0);
	if (!f) {
		count(COUNT_LOST);
		return 0;
	}
	f->time = now;
	f->bytes = p->due;
	f->pid = pid;
	f->tid = tid;
	bpf_ringbuf_submit(f, BPF_RB_NO_WAKEUP); // user space looks by itself
	p->due = 0;
	unwind(ctx, id, ORIGIN_PAGE_FAULTS);
	return 0;
}

SEC("tp_btf/mark_victim")
int oom_victim(__u64 *ctx)
{
	__u32 pid;
	if (victim_is_task) {
		struct task_struct *t = (void *)ctx[0];
		pid = t->tgid;
	} else {
		pid = ctx[0];
	}
	struct fault *f = bpf_ringbuf_reserve(&faults, sizeof(*f), 0);
	if (!f) {
		count(COUNT_LOST);
		return 0;
	}
	f->time = bpf_ktime_get_ns();
	f->bytes = 0;
	f->pid = pid;
	f->tid = pid;
	bpf_ringbuf_submit(f, BPF_RB_NO_WAKEUP);
	return 0;
}

// Some of the helpers ask for it.
char _license[] SEC("license") = "GPL";
