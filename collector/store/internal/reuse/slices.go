// Package reuse makes slices in memory that was used before.
package reuse

import "slices"

// Zeroed returns n zeros, in the memory of s if it has room.
func Zeroed[T any](s []T, n int) []T {
	s = Sized(s, n)
	clear(s)
	return s
}

// Sized is zeroed where the values do not matter.
func Sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/8)
	}
	return s[:n]
}

// Grow returns n numbers of any value, in the memory of s if it has room.
func Grow(s []uint64, n int) []uint64 {
	return slices.Grow(s[:0], n)[:n]
}
