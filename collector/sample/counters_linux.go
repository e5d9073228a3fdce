//go:build linux && (amd64 || arm64)

package sample

import "github.com/cilium/ebpf"

// A counter is one that an eBPF program has for each CPU. The first ones are the same in
// all programs, see bpf/unwind.h; the others follow in the order of enum counter in the
// program's source.
type counter uint32

const (
	countStacks      counter = iota // threads that were passed to the unwinder
	countNotPassed                  // stacktraces lost, as the tail call failed
	countUnknownLost                // stacktraces of new processes lost, as their buffer was full
	countOwn                        // the first counter of the program's own
)

// numCounters is MAX_COUNTERS in bpf/unwind.h.
const numCounters = 16

// counts are a program's counters, summed over the CPUs.
type counts [numCounters]uint64

// news returns what a program has counted since the last call.
func (c *counts) news(m *ebpf.Map) (n counts, err error) {
	for i := range n {
		var perCPU []uint64
		if err := m.Lookup(uint32(i), &perCPU); err != nil {
			return counts{}, err
		}
		sum := uint64(0)
		for _, v := range perCPU {
			sum += v
		}
		n[i], c[i] = sum-c[i], sum
	}
	return n, nil
}

// A credit is how much time worth of stacktraces may be taken at once: struct credit in
// bpf/unwind.h.
type credit struct{ Last, Left uint64 } // ns
