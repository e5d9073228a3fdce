package store

import "math"

// addTotals adds up totals.
func addTotals(a, b int64) int64 {
	if a == uncounted || b == uncounted || a > math.MaxInt64-b {
		return uncounted
	}
	return a + b
}

// uncounted is a total of a merged row that int64 does not hold. The row has no
// values of the type.
const uncounted = -1
