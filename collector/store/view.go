package store

import "sync"

// A partSize is how much a partition holds.
type partSize struct{ nodes, calls, strings int64 }

func partSizeOf(v *view) partSize {
	return partSize{int64(len(v.nodes)), int64(len(v.calls)), int64(len(v.strings))}
}

// below marks the calls of stacktraces that begin with a call site.
func (v *view) below(callSite []string) []bool {
	in := make([]bool, len(v.calls))
	depth := make([]int32, len(v.calls)) // how much of the call site was met, -1 for none
	for i := 1; i < len(v.calls); i++ {
		c := v.calls[i]
		d := depth[c.parent]
		switch {
		case in[c.parent]:
			in[i] = true
		case d >= 0 && v.strings[c.name] == callSite[d]:
			depth[i] = d + 1
			in[i] = int(d)+1 == len(callSite)
		default:
			depth[i] = -1
		}
	}
	return in
}

// within tells which nodes are of stacktraces that begin with a call site; nil for all
// if there is none.
func (v *view) within(callSite []string) func(node uint32) bool {
	return v.withinCalls(v.callOf, callSite)
}

// withinCalls is within for nodes of which the view knows the calls alone.
func (v *view) withinCalls(callOf []uint32, callSite []string) func(node uint32) bool {
	if len(callSite) == 0 {
		return nil
	}
	below := sync.OnceValue(func() []bool { return v.below(callSite) })
	return func(node uint32) bool { return below()[callOf[node]] }
}

// filterCalls leaves the values of stacktraces that begin with a call site.
func (v *view) filterCalls(self []int64, callSite []string) {
	in := v.below(callSite)
	for i := range self {
		if !in[i] {
			self[i] = 0
		}
	}
}
