package query

import (
	"context"

	"github.com/flameline/flameline/collector/store/internal/calltree"
)

// Functions are the values of all functions of one or two selections.
type Functions = calltree.Functions

// Functions adds up the values of each function in one selection, or in two, of which
// the first is the left side. Stacktraces are chosen by call sites as in Tree; MaxNodes
// does not count. A state's values are averages over time, as in Tree, each rounded.
// choose returns the functions, by index, whose sources are wanted; nil for none.
// Errors are those of Tree.
func (q *Queries) Functions(ctx context.Context, sels []Selection, callSites [][]string, choose func(*Functions) []int) (out *Functions, err error) {
	err = q.e.gathered(ctx, "functions", sels, callSites, answerNodes{most: 1}, func(p *partials, scales [2]int64) error {
		list := p.sorted()
		names := int64(0)
		for _, c := range list {
			names += int64(len(c.View.Strings))
		}
		if err := p.hold.Take(names * calltree.FunctionBytes); err != nil {
			return err
		}
		out = calltree.SumFunctions(list)
		out.Unit = p.unit
		descaleFunctions(out, scales)
		if choose != nil {
			out.Chosen = choose(out)
			chosen := make([]string, len(out.Chosen))
			for i, at := range out.Chosen {
				chosen[i] = out.Names[at]
			}
			out.Sources = calltree.Sources(list, chosen)
		}
		p.hold.Keep(int64(len(out.Names)) * calltree.FunctionBytes)
		return nil
	})
	return out, err
}

// descaleFunctions divides values by the scale of each side. Each is rounded by itself.
func descaleFunctions(f *calltree.Functions, scales [2]int64) {
	divide := func(v *[2]int64) {
		for side, scale := range scales {
			v[side] = (v[side] + scale/2) / scale
		}
	}
	if scales == [2]int64{1, 1} {
		return
	}
	divide(&f.Root)
	f.Unit = 0 // averages over time
	for i := range f.Names {
		divide(&f.Own[i])
		divide(&f.Total[i])
	}
}
