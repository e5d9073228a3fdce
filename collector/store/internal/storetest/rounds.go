// Package storetest has what tests of several packages of the store share.
package storetest

import "testing"

// Rounds returns how many rounds a long or random test does: n, and an eighth of
// that with -short.
func Rounds(n int) int {
	if testing.Short() {
		return max(1, n/8)
	}
	return n
}
