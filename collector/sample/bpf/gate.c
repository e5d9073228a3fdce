// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// The gate is what the timer of each CPU calls. It decides which ticks are
// samples and passes those on to the unwinder's entry program by a tail call.
//
// Ticks come several times faster than samples. Of every ticks_per_sample of
// them one is taken at random, so that sampling cannot run in step with work
// that is periodic itself, and a busy CPU still yields exactly the same number
// of samples in every second.
//
// The unwinder drops the samples of processes that it does not know yet. Short
// processes would lose most of their time that way, so the gate reports those
// samples itself: with the kernel's part of the stacktrace and the leaf of the
// user's part, as build ID and offset.

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_FRAMES 127

// Read by Go; its order is that of type counter there.
enum counter {
	COUNT_SAMPLES,      // ticks that are samples of a thread
	COUNT_UNKNOWN,      // of them, of a process that the unwinder does not know
	COUNT_UNKNOWN_LOST, // of them, lost as the ring buffer was full
	COUNT_NOT_PASSED,   // lost as the tail call failed
	COUNTERS,
};

// The same layout as the Go type unknownSample.
struct unknown_sample {
	__u64 time; // CLOCK_MONOTONIC, ns
	__u32 pid, tid, cpu;
	__u32 kernel_frames;
	char comm[16];
	struct bpf_stack_build_id leaf;
	__u64 kernel[KERNEL_FRAMES]; // leaf first
};

struct turn {
	__u32 tick;  // of this round of ticks_per_sample
	__u32 taken; // the tick of this round that is a sample
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

volatile const __u32 ticks_per_sample = 1;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} unwinder SEC(".maps");

// Replaced by the unwinder's own map when the gate is loaded.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct process_key);
	__type(value, struct mapping_info);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} known SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} unknown SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct turn);
} turns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&counts, &which);
	if (n)
		(*n)++;
}

// take reports whether this tick is a sample.
static __always_inline int take(void)
{
	__u32 zero = 0;
	struct turn *t = bpf_map_lookup_elem(&turns, &zero);
	if (!t)
		return 0;
	if (t->tick == 0)
		t->taken = bpf_get_prandom_u32() % ticks_per_sample;
	int now = t->tick == t->taken;
	t->tick = t->tick + 1 >= ticks_per_sample ? 0 : t->tick + 1;
	return now;
}

// report keeps a sample that the unwinder will drop. Kernel threads have no
// stack in user space; the unwinder takes them as they are.
static __always_inline void report(struct bpf_perf_event_data *ctx, __u64 id)
{
	struct bpf_stack_build_id leaf = {};
	if (bpf_get_stack(ctx, &leaf, sizeof(leaf), BPF_F_USER_STACK | BPF_F_USER_BUILD_ID) <= 0)
		return;
	count(COUNT_UNKNOWN);
	struct unknown_sample *s = bpf_ringbuf_reserve(&unknown, sizeof(*s), 0);
	if (!s) {
		count(COUNT_UNKNOWN_LOST);
		return;
	}
	s->time = bpf_ktime_get_ns();
	s->pid = id >> 32;
	s->tid = id;
	s->cpu = bpf_get_smp_processor_id();
	s->leaf = leaf;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	long bytes = bpf_get_stack(ctx, s->kernel, sizeof(s->kernel), 0);
	s->kernel_frames = bytes > 0 ? bytes / sizeof(__u64) : 0;
	bpf_ringbuf_submit(s, 0);
}

SEC("perf_event")
int gate(struct bpf_perf_event_data *ctx)
{
	if (!take())
		return 0;
	__u64 id = bpf_get_current_pid_tgid();
	if (id >> 32 == 0)
		return 0; // idle
	count(COUNT_SAMPLES);
	struct process_key key = {
		.prefix_bits = 32 + 64,
		.pid_be = bpf_htonl(id >> 32),
	};
	if (!bpf_map_lookup_elem(&known, &key))
		report(ctx, id);
	bpf_tail_call(ctx, &unwinder, 0);
	count(COUNT_NOT_PASSED);
	return 0;
}

// Some of the helpers ask for it.
char _license[] SEC("license") = "GPL";
