package symbolize

import (
	"cmp"
	"container/heap"
	"slices"
)

// A span is a half-open address range [start, end) with a name. Where spans
// overlap, the one with the highest priority shows.
type span struct {
	start, end uint64
	name       uint32
	priority   uint32
}

// flatten cuts overlapping spans into disjoint ones, sorted by start. It sorts
// spans in place and returns at most 2n-1 spans.
func flatten(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var (
		out    = make([]span, 0, len(spans))
		active spanHeap
		pos    uint64
	)
	// advance emits what shows between pos and to.
	advance := func(to uint64) {
		for len(active) > 0 && pos < to {
			top := active[0]
			if top.end <= pos {
				heap.Pop(&active)
				continue
			}
			end := min(top.end, to)
			if n := len(out); n > 0 && out[n-1].end == pos && out[n-1].name == top.name && out[n-1].priority == top.priority {
				out[n-1].end = end
			} else {
				out = append(out, span{start: pos, end: end, name: top.name, priority: top.priority})
			}
			pos = end
		}
		pos = max(pos, to)
	}
	for _, s := range spans {
		if s.end <= s.start {
			continue
		}
		advance(s.start)
		heap.Push(&active, s)
	}
	advance(^uint64(0))
	return out
}

// A spanHeap has the span of highest priority on top.
type spanHeap []span

func (h spanHeap) Len() int           { return len(h) }
func (h spanHeap) Less(i, j int) bool { return h[i].priority > h[j].priority }
func (h spanHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *spanHeap) Push(x any)        { *h = append(*h, x.(span)) }
func (h *spanHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
