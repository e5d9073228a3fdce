package profile

// A FunctionTable has the largest functions of a selection, the largest first, with those
// of a baseline beside them or without.
type FunctionTable struct {
	Rows                 []FunctionRow
	Total, BaselineTotal Sampled // of all stacktraces
	Count                int64   // functions that there are
	HasSamples           bool    // whether numbers of samples are known
	// Approximate says that functions were added up from a flame graph, which has only the
	// largest calls.
	Approximate bool
}

// A FunctionRow is a function with its own value and that of it and all that it calls, in
// the selection and in the baseline.
type FunctionRow struct {
	Name                       string
	Own, Total                 Sampled
	BaselineOwn, BaselineTotal Sampled
	File                       string // the source file, "" if it is not known
	Line                       int64  // in the file, 0 if it is not known
}

// Sampled is a value in the unit of the profile type, and the number of samples that it
// was measured by, if that is known.
type Sampled struct{ Value, Samples int64 }

// A FunctionSum is what a tree has of one function, on both sides of a comparison.
type FunctionSum struct {
	Name       string
	Own, Total [2]int64 // Total counts recursive calls once
}

// FunctionSums adds up the functions of the tree, in the order of its names. Rest nodes
// and functions without a value are left out.
func (t *DiffTree) FunctionSums() []FunctionSum {
	if len(t.Nodes) == 0 {
		return nil
	}
	own := make([][2]int64, len(t.Names))
	for i := range t.Nodes[1:] {
		n := &t.Nodes[i+1]
		addPair(&own[n.Name], [2]int64{n.Self, n.SelfRight})
	}
	var out []FunctionSum
	for i, total := range FunctionTotals(newDiffCalls(t), len(t.Names)) {
		if total != [2]int64{} && !(t.Rest != 0 && int32(i) == t.Rest) {
			out = append(out, FunctionSum{t.Names[i], own[i], total})
		}
	}
	return out
}
