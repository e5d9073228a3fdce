package profile

import (
	"cmp"
	"slices"
	"strings"
)

// A Gap is the value of the stacktraces that lack something for one reason, on both sides
// of a comparison.
type Gap struct {
	Reason string
	Value  [2]int64
}

// Gaps are what the stacktraces of a tree lack, the largest gaps first. A stacktrace counts
// once in each list.
type Gaps struct {
	// Unnamed are stacktraces with a function without a name. The reason is where the
	// outermost one is: the module, such as libc.so.6, or the kind of code.
	Unnamed []Gap
	// Cut are stacktraces that lack callers, or all frames. The reason is the unwinder's.
	Cut []Gap
}

// Sum adds up gaps.
func Sum(gaps []Gap) (v [2]int64) {
	for i := range gaps {
		v[0] += gaps[i].Value[0]
		v[1] += gaps[i].Value[1]
	}
	return v
}

// Gaps adds up what the tree's stacktraces lack, by the names of its calls. What is in rest
// nodes is not known and does not count.
func (t *DiffTree) Gaps() Gaps {
	const unnamed, cut = 1, 2
	kinds, reasons := make([]uint8, len(t.Names)), make([]string, len(t.Names))
	found := false
	for i, name := range t.Names {
		if reason := unnamedIn(name); reason != "" {
			kinds[i], reasons[i], found = unnamed, reason, true
		} else if reason := cutReason(name); reason != "" {
			kinds[i], reasons[i], found = cut, reason, true
		}
	}
	if !found {
		return Gaps{}
	}
	sums := [3]map[string][2]int64{unnamed: {}, cut: {}}
	above := make([]uint8, len(t.Nodes)) // the kinds of a call and its callers, as bits
	for i := 1; i < len(t.Nodes); i++ {
		n := &t.Nodes[i]
		above[i] = above[n.Parent]
		if n.Name == t.Rest && t.Rest != 0 {
			continue
		}
		if k := kinds[n.Name]; k != 0 && above[i]&k == 0 {
			above[i] |= k
			v := sums[k][reasons[n.Name]]
			v[0] += n.Total
			v[1] += n.TotalRight
			sums[k][reasons[n.Name]] = v
		}
	}
	return Gaps{Unnamed: largestGaps(sums[unnamed]), Cut: largestGaps(sums[cut])}
}

// Gaps is DiffTree.Gaps of a tree, whose values are those of the left side.
func (t *Tree) Gaps() Gaps {
	d := DiffTree{Names: t.Names, Nodes: make([]DiffNode, len(t.Nodes)), Rest: t.Rest}
	for i, n := range t.Nodes {
		d.Nodes[i] = DiffNode{Parent: n.Parent, Name: n.Name, Total: n.Total}
	}
	return d.Gaps()
}

func largestGaps(sums map[string][2]int64) (out []Gap) {
	for reason, v := range sums {
		if v != [2]int64{} {
			out = append(out, Gap{reason, v})
		}
	}
	slices.SortFunc(out, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(max(b.Value[0], b.Value[1]), max(a.Value[0], a.Value[1])), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// unnamedIn returns where a function without a name is: the module of module+0xaddress,
// or the kind of code of names such as [JIT code] and [unknown Python function]; "" if
// the function has a name.
func unnamedIn(name string) string {
	if kind, ok := strings.CutPrefix(name, "[unknown "); ok {
		if kind, ok = strings.CutSuffix(kind, " function]"); ok {
			return kind
		}
	}
	if name == "[JIT code]" {
		return "JIT code"
	}
	i := strings.LastIndex(name, "0x")
	if i < 0 || i+2 == len(name) || strings.Trim(name[i+2:], "0123456789abcdef") != "" {
		return ""
	}
	switch module, ok := strings.CutSuffix(name[:i], "+"); {
	case i == 0, ok && module == "[unknown]":
		return "unknown module"
	case ok && module != "" && !strings.ContainsAny(module, " \t/("):
		return module
	}
	return ""
}

// cutReason returns why a stacktrace lacks callers, by the frame that the unwinder leaves
// in their place; "" for other frames.
func cutReason(name string) string {
	if reason, ok := strings.CutPrefix(name, "[stack incomplete: "); ok {
		return strings.TrimSuffix(reason, "]")
	}
	if name == "[stack not sampled]" {
		return "stack not sampled"
	}
	return ""
}
