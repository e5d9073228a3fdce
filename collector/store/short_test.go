package store

import "testing"

// rounds returns how many rounds a long or random test does: n, and an eighth of
// that with -short.
func rounds(n int) int {
	if testing.Short() {
		return max(1, n/8)
	}
	return n
}
