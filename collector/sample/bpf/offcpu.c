// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Off-CPU time: how long each thread waits, and where.
//
// Every wait is measured: the tracepoints of the scheduler say when a thread
// leaves a CPU, becomes runnable, and runs again. Waits are added up by site,
// which is a thread and the place where it left user space: instruction and
// stack pointer, system call, and state of the thread.
//
// The stacktraces of waits are sampled, since unwinding costs more than all the
// rest. A site's first wait of each window is unwound, later ones with a
// probability that falls with their number. User space divides a site's exact
// time among its stacktraces, by their own durations over their probabilities.
// Sums are kept by duration, so that a long wait is not divided among the
// stacktraces of many short ones.
//
// A thread is unwound when it leaves the CPU, while it is still the current one.
// The tracepoint decides, and the event of the context switch, which follows on
// the same CPU, calls the unwinder: only programs for perf events may.

#include "only.h"
#include "unwind.h"

#include <bpf/bpf_core_read.h>

#define PF_KTHREAD 0x00200000 // task_struct.flags: a thread of the kernel
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED_OR_TRACED 0xc
#define TASK_DEAD 0x80 // of a thread that leaves a CPU for the last time

// How many waits of a site in a window are looked at while the unwinder does not
// know the process.
#define NEW_PROCESS_STACKS 2
#define NEW_PROCESS_GAPS 4 // and how many times rarer they are at most

#define CREDIT 2000000000ULL // ns

// Read by Go; its order is that of countWaits and the following ones there.
enum counter {
	COUNT_WAITS = COUNT_OWN, // that began
	COUNT_OVER_BUDGET,       // waits chosen, but not unwound as too many were lately
	COUNT_NO_THREAD,         // waits lost, as the table of threads was full
	COUNT_NO_SITE,           // waits reported one by one, as the table of sites was full
	COUNT_LOST,              // ended waits lost, as the ring buffer was full
};

// Why a thread left the CPU. Read by Go; its order is that of type waitState there.
enum state {
	STATE_RUNNABLE, // it was preempted, or has yielded
	STATE_NEW,      // it never ran; there is no stacktrace
	STATE_INTERRUPTIBLE,
	STATE_UNINTERRUPTIBLE,
	STATE_IO, // the kernel accounts the wait as one for a block device
	STATE_STOPPED,
	STATE_OTHER,
};

// The same layout as the Go type site.
struct site {
	__u32 tid, pid;
	__u64 ip, sp;  // where the thread was in user space, if it was in a system call
	__s32 syscall; // negative if it was in none
	__u32 state;
};

// Waits are classed by their duration: below 64 µs, 512 µs, 4 ms, 33 ms, 262 ms, and
// above. Read by Go, as waitClass.
#define CLASSES 6
#define FIRST_CLASS 64000ULL // ns
#define CLASS_FACTOR_BITS 3

// What was added up of waits of one class. The same layout as the Go type pool.
struct sum {
	__u64 blocked; // ns until the thread became runnable
	__u64 queued;  // ns from then on until it ran
	__u64 ended;   // waits that are in the two sums
};

// What was added up for a site in one window. The same layout as the Go type waited.
struct waited {
	__u64 began; // waits that began, up to the last that is in a sum or was passed on
	struct sum by_class[CLASSES];
};

// A thread that is off the CPU since out; 0 while it runs. The same layout as the Go
// type offThread.
struct thread {
	__u64 out, woken; // CLOCK_MONOTONIC, ns; woken is 0 while it is blocked
	struct site at;
	__u32 weight; // 256 / probability if it was unwound, else 0
	__u32 padding;
	__u64 window; // CLOCK_MONOTONIC, ns: begin of the window that nth is of
	__u64 nth;    // number of the wait at its site in the window
};

// A wait that has ended and is not in a site's sum. The same layout as the Go type
// endedWait.
struct ended {
	struct thread wait;
	__u64 in; // CLOCK_MONOTONIC, ns
};

// What user space sets.
struct settings {
	__u64 window;     // CLOCK_MONOTONIC, ns: begin of the window
	__u64 generosity; // 256 times the number of a site's first waits that are all unwound
	__u64 gap;        // ns between two stacktraces on the average
};

struct decision {
	__u32 tid;  // that is to be unwound; 0 for none
};

struct credits {
	struct credit usual, unknown; // of processes that the unwinder knows, and others
};

// These structs of the kernel have only the fields used here; where they are is found
// out when the programs are loaded.
struct sched_entity {
	__u64 sum_exec_runtime; // ns that the thread has run
	__u64 prev_sum_exec_runtime; // the same when it got the CPU that it has
} __attribute__((preserve_access_index));

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	struct sched_entity se;
	unsigned in_iowait : 1;
	int pid, tgid;
} __attribute__((preserve_access_index));

struct pt_regs___x86 {
	unsigned long orig_ax, ip, sp;
} __attribute__((preserve_access_index));

struct pt_regs___arm64 {
	__u64 sp, pc;
	__s32 syscallno;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32); // TID
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct site);
	__type(value, struct waited);
} sites SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decision);
} decisions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct credits);
} all_credits SEC(".maps");

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&settings, &zero);
}

// locate fills in where the current thread left user space. A thread that was
// preempted, or waits for a page, may have been at any instruction; a site for each
// of them would have one wait.
static __always_inline void locate(struct site *at)
{
	at->syscall = -1;
	if (at->state == STATE_RUNNABLE)
		return;
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	if (arm64) {
		struct pt_regs___arm64 *r = regs;
		at->syscall = r->syscallno;
		if (at->syscall < 0)
			return;
		at->sp = r->sp;
		at->ip = r->pc;
	} else {
		struct pt_regs___x86 *r = regs;
		at->syscall = (__s32)r->orig_ax;
		if (at->syscall < 0)
			return;
		at->sp = r->sp;
		at->ip = r->ip;
	}
}

static __always_inline __u32 state_of(struct task_struct *t, _Bool preempted)
{
	if (preempted || t->__state == 0)
		return STATE_RUNNABLE;
	if (BPF_CORE_READ_BITFIELD(t, in_iowait))
		return STATE_IO;
	if (t->__state & TASK_INTERRUPTIBLE)
		return STATE_INTERRUPTIBLE;
	if (t->__state & TASK_UNINTERRUPTIBLE)
		return STATE_UNINTERRUPTIBLE;
	return t->__state & TASK_STOPPED_OR_TRACED ? STATE_STOPPED : STATE_OTHER;
}

// choose returns the weight of the nth wait of a site in this window, 0 if it is
// not to be unwound.
static __always_inline __u32 choose(struct settings *s, __u64 n, __u64 now)
{
	__u32 zero = 0;
	struct credits *c = bpf_map_lookup_elem(&all_credits, &zero);
	if (!c)
		return 0;
	__u64 share = n << 8;
	__u64 weight = 1 << 8;
	if (share > s->generosity) {
		if (((__u64)bpf_get_prandom_u32() >> 8) * share >= s->generosity << 24)
			return 0;
		weight = (share << 8) / (s->generosity | 1);
	}
	// While the unwinder does not know the process, its stacktraces differ little
	// within a site, and cost user space more.
	__u64 id = bpf_get_current_pid_tgid();
	int known_process = is_known(id, 0);
	if (!known_process && n > NEW_PROCESS_STACKS)
		return 0;
	if (!(known_process ? affordable(&c->usual, s->gap, CREDIT, now) : affordable(&c->unknown, s->gap * NEW_PROCESS_GAPS, CREDIT, now))) {
		count(COUNT_OVER_BUDGET);
		return 0;
	}
	return weight > 0xffffffffULL ? 0xffffffffU : weight;
}

static __always_inline int is_same(struct site *a, struct site *b)
{
	return a->ip == b->ip && a->sp == b->sp && a->syscall == b->syscall && a->state == b->state && a->pid == b->pid;
}

// site_of returns what is added up for the site of a wait, 0 if the table is full.
static __always_inline struct waited *site_of(struct thread *wait)
{
	struct waited *w = bpf_map_lookup_elem(&sites, &wait->at);
	if (!w) { // the first wait, or user space has taken it since
		struct waited none = {};
		bpf_map_update_elem(&sites, &wait->at, &none, BPF_NOEXIST);
		w = bpf_map_lookup_elem(&sites, &wait->at);
	}
	if (w && wait->nth > w->began)
		w->began = wait->nth;
	return w;
}

// tell passes on one wait that has ended.
static __always_inline void tell(struct thread *wait, __u64 now)
{
	struct ended *e = bpf_ringbuf_reserve(&waits, sizeof(*e), 0);
	if (!e) {
		count(COUNT_LOST);
		return;
	}
	e->wait = *wait;
	e->in = now;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP); // user space looks by itself
}

static __always_inline __u32 class_of(__u64 ns)
{
	__u32 class = 0;
#pragma unroll
	for (int i = 0; i < CLASSES - 1; i++)
		if (ns >= FIRST_CLASS << (CLASS_FACTOR_BITS * i))
			class = i + 1;
	return class;
}

// finish adds a wait, which has ended, to its site's sum, or passes it on.
static __always_inline void finish(struct thread *t, __u64 in)
{
	struct thread wait = *t;
	t->out = 0;
	if (wait.at.state <= STATE_NEW)
		wait.woken = wait.out;
	else if (!wait.woken)
		wait.woken = in;
	struct settings *s = get_settings();
	if (!s || wait.out < s->window) {
		tell(&wait, in);
		return;
	}
	struct waited *w = site_of(&wait);
	if (!w && !wait.weight)
		count(COUNT_NO_SITE);
	if (!w || wait.weight) {
		tell(&wait, in);
		return;
	}
	struct sum *sum = &w->by_class[class_of(in - wait.out)];
	sum->blocked += wait.woken - wait.out;
	sum->queued += in - wait.woken;
	sum->ended++;
}

// finish_late finishes a wait whose end was not reported, now that the thread leaves its
// CPU again: some kernels keep the switches of single processes to themselves.
static __always_inline void finish_late(struct thread *t, struct task_struct *task, __u64 now)
{
	__u64 ran = task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime;
	__u64 least = t->woken ? t->woken : t->out;
	finish(t, ran < now - least ? now - ran : least);
}

// leave notes that the current thread leaves its CPU.
static __always_inline void leave(struct task_struct *t, _Bool preempted, __u64 now)
{
	__u32 zero = 0, tid = t->pid;
	if (t->__state & TASK_DEAD) {
		bpf_map_delete_elem(&threads, &tid);
		return;
	}
	if (!is_measured(t->tgid))
		return;
	struct settings *s = get_settings();
	struct decision *d = bpf_map_lookup_elem(&decisions, &zero);
	if (!s || !d)
		return;
	struct thread wait = {
		.out = now,
		.at = {.tid = tid, .pid = t->tgid, .state = state_of(t, preempted)},
		.window = s->window,
	};
	locate(&wait.at);
	count(COUNT_WAITS);
	struct thread *before = bpf_map_lookup_elem(&threads, &tid);
	if (before && before->out)
		finish_late(before, t, now);
	if (before && before->window == wait.window && is_same(&before->at, &wait.at)) {
		wait.nth = before->nth + 1;
	} else {
		struct waited *w = bpf_map_lookup_elem(&sites, &wait.at);
		wait.nth = w ? w->began + 1 : 1;
	}
	wait.weight = choose(s, wait.nth, now);
	d->tid = wait.weight ? tid : 0;
	if (before)
		*before = wait;
	else if (bpf_map_update_elem(&threads, &tid, &wait, BPF_ANY)) {
		count(COUNT_NO_THREAD);
		d->tid = 0;
	}
}

// arrive notes that a thread runs again.
static __always_inline void arrive(__u32 tid, __u64 now)
{
	struct thread *t = bpf_map_lookup_elem(&threads, &tid);
	if (t && t->out)
		finish(t, now);
}

SEC("tp_btf/sched_switch")
int off_cpu_switch(__u64 *ctx)
{
	_Bool preempted = ctx[0];
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	__u64 now = bpf_ktime_get_ns();
	if (prev->pid && !(prev->flags & PF_KTHREAD))
		leave(prev, preempted, now);
	if (next->pid && !(next->flags & PF_KTHREAD))
		arrive(next->pid, now);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int off_cpu_wakeup(__u64 *ctx)
{
	struct task_struct *p = (void *)ctx[0];
	__u32 tid = p->pid;
	if (p->flags & PF_KTHREAD)
		return 0;
	struct thread *t = bpf_map_lookup_elem(&threads, &tid);
	if (t && t->out && !t->woken)
		t->woken = bpf_ktime_get_ns();
	return 0;
}

// A new thread waits for a CPU from its first moment.
SEC("tp_btf/sched_wakeup_new")
int off_cpu_new(__u64 *ctx)
{
	struct task_struct *p = (void *)ctx[0];
	__u32 tid = p->pid;
	if (p->flags & PF_KTHREAD || !is_measured(p->tgid))
		return 0;
	__u64 now = bpf_ktime_get_ns();
	struct thread wait = {
		.out = now,
		.woken = now,
		.at = {.tid = tid, .pid = p->tgid, .syscall = -1, .state = STATE_NEW},
	};
	if (bpf_map_update_elem(&threads, &tid, &wait, BPF_ANY))
		count(COUNT_NO_THREAD);
	return 0;
}

SEC("perf_event")
int off_cpu_unwind(struct bpf_perf_event_data *ctx)
{
	__u32 zero = 0;
	__u64 id = bpf_get_current_pid_tgid();
	struct decision *d = bpf_map_lookup_elem(&decisions, &zero);
	if (!d || !d->tid || d->tid != (__u32)id)
		return 0;
	d->tid = 0;
	unwind(ctx, id, ORIGIN_OFF_CPU);
	return 0;
}

// Some of the helpers ask for it.
char _license[] SEC("license") = "GPL";
