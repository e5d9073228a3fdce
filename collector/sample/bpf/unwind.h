// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// What the programs in front of the unwinder share: its table of the processes
// that it knows, the tail call into it, the report of a stacktrace that it would
// drop because it does not know the process yet, counters, and a bound of how many
// stacktraces are taken.

#ifndef FLAMELINE_UNWIND_H
#define FLAMELINE_UNWIND_H

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_FRAMES 127

// What is kept of a thread's stack in user space: as many bytes from the stack
// pointer on, and as many registers.
#define STACK_BYTES (32 << 10)
#define READ_BYTES 4096 // read at once: the next page may not be in memory
#define REGISTERS 34    // of arm64, which has more of them

// The bytes of struct user_pt_regs of arm64 and of struct pt_regs of x86-64.
#define REGISTER_BYTES_ARM64 (34 * 8)
#define REGISTER_BYTES_X86 (21 * 8)

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

// The same layout as the Go type unknownSample, which the stack follows.
struct unknown_sample {
	__u64 time; // CLOCK_MONOTONIC, ns
	__u32 pid, tid, cpu;
	__u32 kernel_frames;
	__u32 origin;
	__u32 stack_bytes; // that were read; 0 means that the registers were not either
	char comm[16];
	struct bpf_stack_build_id leaf;
	__u64 kernel[KERNEL_FRAMES]; // leaf first
	__u64 registers[REGISTERS];  // of user space, in the kernel's order
	char stack[STACK_BYTES];
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

volatile const _Bool arm64 = 0;
// kernel_types says that this kernel describes its types. Without, fields of its structs
// cannot be read.
volatile const _Bool kernel_types = 0;
// keeps_stacks says that this kernel tells a thread's registers.
volatile const _Bool keeps_stacks = 0;

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

#define UNKNOWN_BYTES (4 << 20)

// Replaced by the gate's in the other programs.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, UNKNOWN_BYTES);
} unknown SEC(".maps");

// Where a sample is put together, by CPU: a program is not interrupted by itself.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); // of CPUs, set when the programs are loaded
	__type(key, __u32);
	__type(value, struct unknown_sample);
} drafts SEC(".maps");

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
	REPORTED_WHOLE, // with its stack
	REPORTED_LOST,  // the ring buffer was full
};

// Only what is used; its place in the kernel's own struct is filled in when the program
// is loaded.
struct task_struct___any {
	unsigned int flags;
} __attribute__((preserve_access_index));

#define PF_KTHREAD 0x00200000

// is_kernel_thread reports whether the current thread, which has no memory in user space, is
// one of the kernel; it may have given that up at its end.
static __always_inline int is_kernel_thread(void)
{
	if (!kernel_types)
		return 1;
	struct task_struct___any *task = (void *)bpf_get_current_task();
	unsigned int flags = 0;
	bpf_core_read(&flags, sizeof(flags), &task->flags);
	return flags & PF_KTHREAD;
}

// keep_stack reads the registers that a thread has in user space, and its stack
// from the stack pointer on. It returns how many bytes of the stack it read.
static __always_inline __u64 keep_stack(struct unknown_sample *s)
{
	// The stacktraces of later samples matter as much: without room for many whole
	// ones, each goes without its stack.
	if (!keeps_stacks || bpf_ringbuf_query(&unknown, BPF_RB_AVAIL_DATA) > UNKNOWN_BYTES / 2)
		return 0;
	void *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	if (bpf_probe_read_kernel(s->registers, arm64 ? REGISTER_BYTES_ARM64 : REGISTER_BYTES_X86, registers))
		return 0;
	__u64 sp = s->registers[arm64 ? 31 : 19];
	__u64 n = 0;
	for (int i = 0; i <= STACK_BYTES / READ_BYTES; i++) {
		asm volatile("" : "+r"(n)); // the kernel's verifier needs this very comparison
		if (n > STACK_BYTES - READ_BYTES)
			break;
		__u64 bytes = READ_BYTES - ((sp + n) & (READ_BYTES - 1));
		if (bpf_probe_read_user(s->stack + n, bytes, (void *)(sp + n)))
			break;
		n += bytes;
	}
	return n;
}

// report keeps a stacktrace that the unwinder will drop: the kernel's part, and for
// the user's part its leaf, registers and stack, from which it is unwound later.
// Kernel threads have no stack in user space.
static __always_inline enum reported report(struct bpf_perf_event_data *ctx, __u64 id, enum origin origin)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct unknown_sample *s = bpf_map_lookup_elem(&drafts, &cpu);
	if (!s)
		return REPORTED_LOST;
	int in_user_space = bpf_get_stack(ctx, &s->leaf, sizeof(s->leaf), BPF_F_USER_STACK | BPF_F_USER_BUILD_ID) > 0;
	if (!in_user_space && is_kernel_thread())
		return REPORTED_NOTHING;
	if (!in_user_space) // it has given up its memory, at its end
		s->leaf.status = BPF_STACK_BUILD_ID_EMPTY;
	s->time = bpf_ktime_get_ns();
	s->pid = id >> 32;
	s->tid = id;
	s->cpu = cpu;
	s->origin = origin;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	long bytes = bpf_get_stack(ctx, s->kernel, sizeof(s->kernel), 0);
	s->kernel_frames = bytes > 0 ? bytes / sizeof(__u64) : 0;
	__u64 stack = in_user_space ? keep_stack(s) : 0;
	asm volatile("" : "+r"(stack)); // as in keep_stack
	if (stack > STACK_BYTES)
		stack = 0;
	s->stack_bytes = stack;
	if (bpf_ringbuf_output(&unknown, s, __builtin_offsetof(struct unknown_sample, stack) + stack, 0))
		return REPORTED_LOST;
	return stack ? REPORTED_WHOLE : REPORTED;
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
