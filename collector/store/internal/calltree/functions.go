package calltree

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// Functions are the values of all functions that have one, of both sides, in no
// particular order.
type Functions struct {
	Names []string
	Own   [][2]int64 // by name: the sum of the stacktraces that end in the function
	Total [][2]int64 // by name: the sum of those that have it, each counted once
	Root  [2]int64   // the sum of all stacktraces
	// Unit is the largest number that the values of all profiles are multiples of; 0 if it
	// is not known. Of samples that all stand for the same time it is that, or a multiple.
	Unit int64
	// Chosen are the names that a query asked the sources of, with the Sources of each.
	Chosen  []int
	Sources []Source
}

// FunctionBytes is the memory that SumFunctions takes for a string of a partial, in bytes.
const FunctionBytes = 2*32 + 4 + 16 + 64 // values of the partial and of all, depth, name, table

// SumFunctions adds up the functions of all partials, which are summed up. They are in the
// order of the partials.
func SumFunctions(partials []*Values) *Functions {
	each := make([]functionValues, len(partials))
	inParallel(len(partials), func(i int) { each[i] = partials[i].functions() })
	f := &Functions{}
	var at symdb.Pairs // symdb.HashText to name plus one
	for i, c := range partials {
		addTo(&f.Root, c.Totals(0))
		own, total := each[i].own, each[i].total
		for s := range total {
			if total[s] == [2]int64{} {
				continue
			}
			k := at.AddPrint(c.View.Hashes[s], uint32(len(f.Names))+1)
			if int(k) > len(f.Names) {
				f.Names = append(f.Names, c.View.Strings[s])
				f.Own, f.Total = append(f.Own, own[s]), append(f.Total, total[s])
				continue
			}
			addTo(&f.Own[k-1], own[s])
			addTo(&f.Total[k-1], total[s])
		}
	}
	return f
}

// inParallel calls fn with the numbers below n.
func inParallel(n int, fn func(i int)) {
	var next atomic.Int32
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	group.Wait()
}

// functionValues are the values of one partial's functions, by string.
type functionValues struct{ own, total [][2]int64 }

// functions adds up the functions of a partial, as profile.FunctionTotals does: of calls
// of a function below itself, the total counts once.
func (c *Values) functions() functionValues {
	calls, ranks := c.View.Calls, c.Ranks
	f := functionValues{make([][2]int64, len(c.View.Strings)), make([][2]int64, len(c.View.Strings))}
	depth := make([]int32, len(c.View.Strings)) // calls of a function on the path
	enter := func(i int32) {
		name := calls[i].Name
		addTo(&f.own[name], c.Selves(i))
		if depth[name]++; depth[name] == 1 {
			addTo(&f.total[name], c.Totals(i))
		}
	}
	for at := int32(0); ; {
		if child := ranks[at].Child; child != 0 {
			at = child
			enter(at)
			continue
		}
		for at != 0 {
			depth[calls[at].Name]--
			if next := ranks[at].Next; next != 0 {
				at = next
				break
			}
			at = int32(calls[at].Parent)
		}
		if at == 0 {
			return f
		}
		enter(at)
	}
}
