// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Sampled allocations: which functions allocate, and whose memory is in use. Allocators
// report them by the USDT probes otel_memory:alloc and otel_memory:free.
//
// The unwinder's programs are for perf events, and a uprobe cannot call them. So the
// program at a probe puts the allocation aside and touches an address where no memory is.
// That page fault is a software event of the same thread, at once, and the program of
// the event passes the thread to the unwinder. The kernel keeps the CPU's other perf
// events out meanwhile, so no CPU sample overwrites the unwinder's memory.

#include "only.h"
#include "unwind.h"

#include <bpf/bpf_core_read.h>

// Where the page fault is: in the first page, which the kernel lets nobody map.
#define NOWHERE 8

#define CREDIT 20000000000ULL // ns: allocations come in bursts

#define MAX_SITES 1024
#define MAX_ARGUMENTS 3

// Read by Go; its order is that of type allocCounter there.
enum counter {
	COUNT_ALLOCS = COUNT_OWN, // calls of the probe alloc
	COUNT_FREES,              // calls of the probe free
	COUNT_SKIPPED,            // left out by chance; others count for them
	COUNT_LATER,              // put off, as too many stacktraces were taken lately
	COUNT_LOST,               // allocations lost, as the ring buffer was full
	COUNT_FREES_LOST,         // frees lost, as the ring buffer was full
	COUNT_NO_STACK,           // the page fault was not seen
	COUNT_NOT_LIVE,           // allocations for which the table of live ones had no room
	COUNT_UNREADABLE,         // calls of probes whose arguments could not be read
};

// What a happening is. Read by Go: type happeningKind.
enum kind {
	KIND_ALLOC,
	KIND_FREE,
	KIND_END, // of a process, or of its program by exec
};

// The same layout as the Go type happening.
struct happening {
	__u64 time; // CLOCK_MONOTONIC, ns
	__u64 pointer;
	__u64 size;   // bytes asked for
	__u64 weight; // bytes that the allocation stands for
	__u64 due;    // bytes of allocations of the thread that were put off
	__u32 pid, tid;
	__u32 kind;
	__u32 live; // whether its free will be reported
};

// Where an argument of a probe is. The same layout as the Go type probeArgument.
struct argument {
	__s64 offset;  // the constant, or what is added to the address
	__u16 base;    // of the register in struct pt_regs, bytes
	__u16 index;   // of a second register that is added, shifted
	__u8 kind;     // ARGUMENT_*
	__u8 shift;    // of the index to the left, of a register to the right
	__u8 size;     // bytes
	__u8 negative; // whether it has a sign
};

#define ARGUMENT_CONSTANT 0
#define ARGUMENT_REGISTER 1
#define ARGUMENT_MEMORY 2  // at base + offset
#define ARGUMENT_INDEXED 3 // at base + index << shift + offset

struct site {
	struct argument arguments[MAX_ARGUMENTS];
};

// What user space sets.
struct settings {
	__u64 gap;     // ns between two stacktraces on the average
	__u32 halving; // of 2^halving allocations one is taken
	__u32 padding;
};

struct live_key {
	__u64 pointer;
	__u32 pid;
	__u32 padding;
};

struct signal_struct {
	struct {
		int counter;
	} live;
} __attribute__((preserve_access_index));

// Only the fields used here; where they are is found out when the programs are loaded.
struct task_struct {
	int tgid;
	struct signal_struct *signal;
} __attribute__((preserve_access_index));

// By attach cookie.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SITES);
	__type(key, __u32);
	__type(value, struct site);
} sites SEC(".maps");

// Allocations whose stacktrace is being taken.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // TID
	__type(value, struct happening);
} pending SEC(".maps");

// Bytes of allocations that were put off.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // TID
	__type(value, __u64);
} dues SEC(".maps");

// Allocations whose free is to be reported. User space removes those of ended processes.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct live_key);
	__type(value, __u8);
} live SEC(".maps");

// Processes that have had allocations.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32); // PID
	__type(value, __u8);
} tracked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} happenings SEC(".maps");

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

// tell passes a happening on to user space.
static __always_inline int tell(struct happening *h)
{
	return bpf_ringbuf_output(&happenings, h, sizeof(*h), BPF_RB_NO_WAKEUP); // user space looks by itself
}

static __always_inline __u64 reg(void *ctx, __u16 offset)
{
	__u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), ctx + offset);
	return value;
}

// argument reads an argument of a probe, and returns 0 if it can be read.
static __always_inline int argument(void *ctx, struct argument *a, __u64 *value)
{
	__u64 v = a->offset, loaded = 0;
	__u32 bytes = a->size;
	if (bytes < 1 || bytes > 8)
		return -1;
	switch (a->kind) {
	case ARGUMENT_CONSTANT:
		*value = v;
		return 0;
	case ARGUMENT_REGISTER:
		v = reg(ctx, a->base) >> (a->shift & 63);
		break;
	case ARGUMENT_MEMORY:
	case ARGUMENT_INDEXED:
		v += reg(ctx, a->base);
		if (a->kind == ARGUMENT_INDEXED)
			v += reg(ctx, a->index) << (a->shift & 63);
		if (bpf_probe_read_user(&loaded, bytes, (void *)v))
			return -1;
		v = loaded;
		break;
	default:
		return -1;
	}
	// Little endian: what is wanted is the lower part.
	__u32 unused = 64 - 8 * bytes;
	v <<= unused & 63;
	*value = a->negative ? (__u64)((__s64)v >> (unused & 63)) : v >> (unused & 63);
	return 0;
}

static __always_inline struct site *site_of(void *ctx)
{
	__u32 cookie = bpf_get_attach_cookie(ctx);
	return bpf_map_lookup_elem(&sites, &cookie);
}

// put_off adds the bytes of an allocation to those of the next one of its thread.
static __always_inline void put_off(__u32 tid, __u64 bytes)
{
	__u64 *due = bpf_map_lookup_elem(&dues, &tid);
	if (due)
		*due += bytes;
	else
		bpf_map_update_elem(&dues, &tid, &bytes, BPF_ANY);
	count(COUNT_LATER);
}

SEC("uprobe.s")
int allocated(void *ctx)
{
	__u32 zero = 0;
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32, tid = id;
	struct settings *s = bpf_map_lookup_elem(&settings, &zero);
	struct site *site = site_of(ctx);
	if (!s || !s->gap || !site || !is_measured(pid))
		return 0;
	count(COUNT_ALLOCS);
	__u32 halving = s->halving & 31;
	if (bpf_get_prandom_u32() & ((1U << halving) - 1)) {
		count(COUNT_SKIPPED);
		return 0;
	}
	struct happening h = {.pid = pid, .tid = tid, .kind = KIND_ALLOC};
	if (argument(ctx, &site->arguments[0], &h.pointer) || argument(ctx, &site->arguments[1], &h.size) ||
	    argument(ctx, &site->arguments[2], &h.weight)) {
		count(COUNT_UNREADABLE);
		return 0;
	}
	h.weight <<= halving;
	h.time = bpf_ktime_get_ns();
	struct credit *c = bpf_map_lookup_elem(&credits, &zero);
	if (!c || !affordable(c, s->gap, CREDIT, h.time)) {
		put_off(tid, h.weight);
		return 0;
	}
	__u64 *due = bpf_map_lookup_elem(&dues, &tid);
	if (due) {
		h.due = *due;
		*due = 0;
	}
	__u8 one = 1;
	bpf_map_update_elem(&tracked, &pid, &one, BPF_ANY);
	struct live_key key = {.pointer = h.pointer, .pid = pid};
	h.live = !bpf_map_update_elem(&live, &key, &one, BPF_ANY);
	if (!h.live)
		count(COUNT_NOT_LIVE);
	if (bpf_map_update_elem(&pending, &tid, &h, BPF_ANY)) {
		count(COUNT_LOST);
		return 0;
	}
	__u8 nothing;
	bpf_copy_from_user(&nothing, sizeof(nothing), (void *)NOWHERE);
	if (!bpf_map_delete_elem(&pending, &tid)) {
		count(COUNT_NO_STACK);
		if (tell(&h))
			count(COUNT_LOST);
	}
	return 0;
}

SEC("uprobe.s")
int freed(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct happening h = {.pid = id >> 32, .tid = id, .kind = KIND_FREE};
	struct site *site = site_of(ctx);
	if (!site || !is_measured(h.pid))
		return 0;
	count(COUNT_FREES);
	if (argument(ctx, &site->arguments[0], &h.pointer)) {
		count(COUNT_UNREADABLE);
		return 0;
	}
	struct live_key key = {.pointer = h.pointer, .pid = h.pid};
	if (bpf_map_delete_elem(&live, &key))
		return 0; // its allocation was not taken
	h.time = bpf_ktime_get_ns();
	if (tell(&h))
		count(COUNT_FREES_LOST);
	return 0;
}

// Runs at every page fault while a probe is attached.
SEC("perf_event")
int alloc_unwind(struct bpf_perf_event_data *ctx)
{
	if (ctx->addr != NOWHERE)
		return 0;
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = id;
	struct happening *p = bpf_map_lookup_elem(&pending, &tid);
	if (!p)
		return 0;
	p->time = bpf_ktime_get_ns();
	if (tell(p)) {
		count(COUNT_LOST);
		bpf_map_delete_elem(&pending, &tid);
		return 0;
	}
	bpf_map_delete_elem(&pending, &tid);
	unwind(ctx, id, ORIGIN_ALLOC);
	return 0;
}

static __always_inline void end(__u32 pid)
{
	if (bpf_map_delete_elem(&tracked, &pid))
		return;
	struct happening h = {.time = bpf_ktime_get_ns(), .pid = pid, .tid = pid, .kind = KIND_END};
	if (tell(&h))
		count(COUNT_FREES_LOST);
}

SEC("tp_btf/sched_process_exit")
int alloc_exit(__u64 *ctx)
{
	struct task_struct *t = (void *)ctx[0];
	if (t->signal->live.counter == 0) // it was the last thread
		end(t->tgid);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int alloc_exec(__u64 *ctx)
{
	struct task_struct *t = (void *)ctx[0];
	end(t->tgid);
	return 0;
}

// Some of the helpers ask for it.
char _license[] SEC("license") = "GPL";
