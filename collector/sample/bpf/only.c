// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Which processes are measured, if not all: a set of PIDs that grows with the
// processes which those start.

#include "only.h"

struct task_struct {
	int pid, tgid;
} __attribute__((preserve_access_index));

SEC("tp_btf/sched_process_fork")
int only_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	__u32 from = parent->tgid, pid = child->tgid;
	if (from == pid || !bpf_map_lookup_elem(&only, &from))
		return 0;
	__u32 measured = ONLY_MEASURED;
	bpf_map_update_elem(&only, &pid, &measured, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int only_exit(__u64 *ctx)
{
	struct task_struct *t = (void *)ctx[0];
	__u32 pid = t->tgid;
	if (t->pid == t->tgid)
		bpf_map_delete_elem(&only, &pid);
	return 0;
}

// Some of the helpers ask for it.
char _license[] SEC("license") = "GPL";
