// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// The gate is what the timer of each CPU calls. It decides which ticks are
// samples and passes those on to the unwinder's entry program by a tail call.
//
// Ticks come several times faster than samples. Of every ticks_per_sample of
// them one is taken at random, so that sampling cannot run in step with work
// that is periodic itself, and a busy CPU still yields exactly the same number
// of samples in every second.
//
// The ticks that are no samples have a use too: they find code that the unwinder
// does not know yet, several times sooner than samples would.
//
// The unwinder drops the samples of processes that it does not know yet. Short
// processes would lose most of their time that way, so the gate reports those
// samples itself: with the kernel's part of the stacktrace, and what the user's part
// can be unwound from.

#include "only.h"
#include "unwind.h"

// Bounds of what a process that always runs code that is not known costs.
#define ASK_BURST 64
#define ASK_FIRST 3              // while a process maps its libraries
#define ASK_FIRST_GAP 5000000ULL // ns
#define ASK_GAP 20000000ULL      // ns
#define ASK_EVERY 2000000000ULL  // ns

#define YOUNG 2000000000ULL // ns: how old a process is while it maps its libraries

// The unwinder's number for an event that says that pid_events has a process.
#define EVENT_PROCESS 1

enum counter {
	COUNT_UNKNOWN = COUNT_OWN, // samples of a process that the unwinder does not know
	COUNT_ASKED,               // how often the unwinder was asked to read mappings
};

struct turn {
	__u32 tick;  // of this round of ticks_per_sample
	__u32 taken; // the tick of this round that is a sample
};

// What the unwinder is told, see pid_events.
struct unwinder_event {
	__u32 type;
};

// How often the unwinder was asked to read a process' mappings.
struct asked {
	__u64 since; // CLOCK_MONOTONIC, ns: left was counted up
	__u64 last;  // CLOCK_MONOTONIC, ns: it was asked
	__u64 left;
};

volatile const __u32 ticks_per_sample = 1;
// unread is how old a process of native code is before it is read, in ns.
volatile const __u64 unread = 0;

// The unwinder's own maps too: processes that it shall read the mappings of, by
// process and thread, events that wake it up, and whether one is under way.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, _Bool);
} pid_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, _Bool);
} inhibit_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
} report_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct asked);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct turn);
} turns SEC(".maps");

// A file, with the device as the kernel numbers it. The same layout as the Go type
// executableKey.
struct file_key {
	__u64 inode;
	__u64 device;
};

// What processes ran when they were seen before. Go has the same type executableKind.
enum executable {
	EXECUTABLE_UNKNOWN,
	EXECUTABLE_NATIVE,
	EXECUTABLE_INTERPRETER,
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct file_key);
	__type(value, __u32);
} executables SEC(".maps");

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

// program_counter returns where this CPU was interrupted. Only constant offsets
// from ctx are allowed, so the two accesses must not be merged into one.
static __always_inline __u64 program_counter(struct bpf_perf_event_data *ctx)
{
	__u64 pc;
	if (arm64)
		asm volatile("%0 = *(u64 *)(%1 + 256)" : "=r"(pc) : "r"(ctx)); // user_pt_regs.pc
	else
		asm volatile("%0 = *(u64 *)(%1 + 128)" : "=r"(pc) : "r"(ctx)); // pt_regs.ip
	return pc;
}

// user_counter returns where this thread is in user space; 0 for a thread of the
// kernel. Addresses of the kernel have their highest bits set.
static __always_inline __u64 user_counter(struct bpf_perf_event_data *ctx)
{
	__u64 pc = program_counter(ctx);
	if (pc >> 56 && bpf_get_stack(ctx, &pc, sizeof(pc), BPF_F_USER_STACK) <= 0)
		return 0;
	return pc;
}

// may_ask reports whether the unwinder may be asked once more to read a process'
// mappings: ASK_BURST times with a gap between them, then once in ASK_EVERY.
static __always_inline int may_ask(__u32 pid)
{
	__u64 now = bpf_ktime_get_ns();
	struct asked *a = bpf_map_lookup_elem(&asked, &pid);
	if (!a) {
		struct asked first = {.since = now, .last = now, .left = ASK_BURST - 1};
		bpf_map_update_elem(&asked, &pid, &first, BPF_ANY);
		return 1;
	}
	__u64 more = (now - a->since) / ASK_EVERY;
	if (more > 0) {
		a->since = now;
		a->left = a->left + more > ASK_BURST ? ASK_BURST : a->left + more;
	}
	__u64 gap = a->left > ASK_BURST - ASK_FIRST ? ASK_FIRST_GAP : ASK_GAP;
	if (a->left == 0 || now - a->last < gap)
		return 0;
	a->left--;
	a->last = now;
	return 1;
}

// ask has the unwinder read a process' mappings, in the way in which its own
// programs do. Those wait 100 ms after every time, and up to 25 s for a process
// that maps code again and again, as one with a JIT compiler does.
static __always_inline void ask(struct bpf_perf_event_data *ctx, __u64 id)
{
	if (!may_ask(id >> 32))
		return;
	_Bool yes = 1;
	if (bpf_map_update_elem(&pid_events, &id, &yes, BPF_ANY))
		return;
	count(COUNT_ASKED);
	struct unwinder_event event = {.type = EVENT_PROCESS};
	if (bpf_map_lookup_elem(&inhibit_events, &event.type) ||
	    bpf_map_update_elem(&inhibit_events, &event.type, &yes, BPF_NOEXIST))
		return; // it is about to look
	bpf_perf_event_output(ctx, &report_events, BPF_F_CURRENT_CPU, &event, sizeof(event));
}

// Only what is used; its place in the kernel's own struct is filled in when the program
// is loaded.
struct super_block {
	__u32 s_dev;
} __attribute__((preserve_access_index));

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
} __attribute__((preserve_access_index));

struct file {
	struct inode *f_inode;
} __attribute__((preserve_access_index));

struct mm_struct {
	struct file *exe_file;
} __attribute__((preserve_access_index));

struct task_struct {
	struct task_struct *group_leader;
	struct mm_struct *mm;
	__u64 start_time; // CLOCK_MONOTONIC, ns
} __attribute__((preserve_access_index));

// executable returns what the executable of the current process ran before.
static __always_inline enum executable executable(void)
{
	if (!kernel_types)
		return EXECUTABLE_UNKNOWN;
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file_key key = {
		.inode = BPF_CORE_READ(task, mm, exe_file, f_inode, i_ino),
		.device = BPF_CORE_READ(task, mm, exe_file, f_inode, i_sb, s_dev),
	};
	enum executable *kind = bpf_map_lookup_elem(&executables, &key);
	return kind ? *kind : EXECUTABLE_UNKNOWN;
}

// is_younger reports whether the current process began less than so many ns ago.
static __always_inline int is_younger(__u64 than)
{
	if (!kernel_types)
		return 0;
	struct task_struct *leader = 0;
	__u64 began = 0;
	struct task_struct *task = (void *)bpf_get_current_task();
	if (bpf_core_read(&leader, sizeof(leader), &task->group_leader) ||
	    bpf_core_read(&began, sizeof(began), &leader->start_time))
		return 0;
	return bpf_ktime_get_ns() - began < than;
}

SEC("perf_event")
int gate(struct bpf_perf_event_data *ctx)
{
	int sample = take();
	__u64 id = bpf_get_current_pid_tgid();
	if (id >> 32 == 0 || !is_measured(id >> 32))
		return 0; // idle, or another process
	int process_known = is_known(id, 0);
	// Processes are read only once they are sampled: many are over before that.
	int code_known = process_known && is_known(id, user_counter(ctx));
	enum executable runs = process_known ? EXECUTABLE_UNKNOWN : executable();
	// What an interpreter runs can only be unwound once it is read, so that is asked for
	// as soon as it is seen.
	if (process_known ? !code_known : runs == EXECUTABLE_INTERPRETER)
		ask(ctx, id);
	if (!sample)
		return 0;
	count(COUNT_STACKS);
	// Code that a process has had for long and that is not known is a JIT compiler's.
	if (!code_known && (!process_known || is_younger(YOUNG))) {
		enum reported did = report(ctx, id, ORIGIN_CPU);
		if (did != REPORTED_NOTHING)
			count(COUNT_UNKNOWN);
		if (did == REPORTED_LOST)
			count(COUNT_UNKNOWN_LOST);
		if (did != REPORTED_NOTHING && process_known)
			return 0; // the unwinder would not drop it
		// The unwinder would have the process read, which takes longer than to unwind
		// some of its stacktraces afterwards.
		if (did == REPORTED_WHOLE && runs == EXECUTABLE_NATIVE && is_younger(unread))
			return 0;
	}
	bpf_tail_call(ctx, &unwinder, 0);
	count(COUNT_NOT_PASSED);
	return 0;
}

// Some of the helpers ask for it.
char _license[] SEC("license") = "GPL";
