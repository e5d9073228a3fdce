package calltree

import (
	"github.com/flameline/flameline/pkg/profile"
)

// Functions are the values of all functions that have one, of both sides, in no
// particular order.
type Functions struct {
	Names []string
	Own   [][2]int64 // by name: the sum of the stacktraces that end in the function
	Total [][2]int64 // by name: the sum of those that have it, each counted once
	Root  [2]int64   // the sum of all stacktraces
}

// SumFunctions adds up the functions of all partials, which are summed up.
func SumFunctions(partials []*Values) *Functions {
	f := &Functions{}
	at := map[string]int{}
	for _, c := range partials {
		addTo(&f.Root, c.Totals(0))
		own := make([][2]int64, len(c.View.Strings))
		for i := 1; i < len(c.Ranks); i++ {
			if c.Ranks[i].size != 0 {
				addTo(&own[c.View.Calls[i].Name], c.Selves(int32(i)))
			}
		}
		for s, total := range profile.FunctionTotals(callValues{c}, len(c.View.Strings)) {
			if total == [2]int64{} {
				continue
			}
			name := c.View.Strings[s]
			k, known := at[name]
			if !known {
				k = len(f.Names)
				at[name] = k
				f.Names, f.Own, f.Total = append(f.Names, name), append(f.Own, [2]int64{}), append(f.Total, [2]int64{})
			}
			addTo(&f.Own[k], own[s])
			addTo(&f.Total[k], total)
		}
	}
	return f
}

// FunctionBytes is the memory that SumFunctions takes for a name, in bytes.
const FunctionBytes = 2*32 + 16 + 64 // values of the partial and of all, the name, the map
