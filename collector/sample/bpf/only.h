// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// The set of processes that are measured, for the programs that measure.

#ifndef FLAMELINE_ONLY_H
#define FLAMELINE_ONLY_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

// Values of the map.
#define ONLY_CHILDREN 1 // the processes that it starts are measured
#define ONLY_MEASURED 2 // the process is measured too

// By PID. In programs that measure it is replaced by the one of only.c, or of no
// use.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} only SEC(".maps");

// all_processes is 0 if the map says which are measured.
volatile const _Bool all_processes = 1;

// is_measured reports whether a process is measured.
static __always_inline int is_measured(__u32 pid)
{
	if (all_processes)
		return 1;
	__u32 *how = bpf_map_lookup_elem(&only, &pid);
	return how && *how == ONLY_MEASURED;
}

#endif
