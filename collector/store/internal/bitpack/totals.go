package bitpack

import "math"

// AddTotals adds up totals.
func AddTotals(a, b int64) int64 {
	if a == Overflowed || b == Overflowed || a > math.MaxInt64-b {
		return Overflowed
	}
	return a + b
}

// Overflowed is a total of a merged row that int64 does not hold. The row has no
// values of the type.
const Overflowed = -1
